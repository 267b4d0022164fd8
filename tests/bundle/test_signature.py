"""Signed and pinned bundles."""

import asyncio
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.bundle import (
    Bundle,
    BundleError,
    new_signing_key,
    sign_bundle,
)
from keras_cascade.bundle.manifest import seal
from keras_cascade.runtime import AsyncEdgeCascade, EdgeCascade

X = np.zeros((2, 6), "float32")
WITHOUT = """
import sys
sys.modules["cryptography"] = None
from keras_cascade.bundle import Bundle
print(Bundle.load(sys.argv[1], sha256=sys.argv[2]).classes)
try:
    Bundle.load(sys.argv[1], public_key=sys.argv[3])
except ImportError as error:
    print(error)
"""


@pytest.fixture
def path(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def key(tmp_path):
    new_signing_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


@pytest.fixture
def public_key(key):
    return Path(f"{key}.pub")


@pytest.fixture
def signed(path, key):
    sign_bundle(path, key)
    return path


def pem(key, password=None):
    encryption = (
        serialization.NoEncryption()
        if password is None
        else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption,
    )


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM,
        serialization.PublicFormat.SubjectPublicKeyInfo,
    )


def test_a_signed_bundle(signed, public_key):
    bundle = Bundle.load(signed, public_key=public_key)
    assert bundle.classes == ["a", "b", "c", "d"]
    assert Bundle.load(signed, public_key=public_key.read_bytes())
    # Signed or not, it opens without a key, and is whole.
    Bundle.load(signed).verify()
    sha256 = hashlib.sha256((signed / "manifest.json").read_bytes())
    assert bundle.manifest_sha256 == sha256.hexdigest()


def test_by_another_implementation(signed, key, public_key, tmp_path):
    """RFC 8032's algorithm in OpenSSL, over the bytes of the manifest."""
    files = ["-in", signed / "manifest.json", "-rawin"]
    subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public_key,
         *files, "-sigfile", signed / "manifest.json.sig"],
        check=True, capture_output=True,
    )  # fmt: skip
    other = tmp_path / "other.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", other],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(
        ["openssl", "pkeyutl", "-sign", "-inkey", other, *files,
         "-out", signed / "manifest.json.sig"],
        check=True, capture_output=True,
    )  # fmt: skip
    of_other = subprocess.run(
        ["openssl", "pkey", "-in", other, "-pubout"],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    Bundle.load(signed, public_key=of_other)
    with pytest.raises(BundleError, match="not signed with the key expected"):
        Bundle.load(signed, public_key=public_key)
    # Ed25519 is deterministic.
    ours = (signed / "manifest.json.sig").read_bytes()
    sign_bundle(signed, other)
    assert (signed / "manifest.json.sig").read_bytes() == ours


def test_an_unsigned_bundle_is_refused(path, public_key):
    with pytest.raises(BundleError, match=r"is not signed\. Expected"):
        Bundle.load(path, public_key=public_key)


def test_a_signed_bundle_with_another_manifest(signed, public_key):
    """Whoever rewrites a bundle can write every hash, not the signature."""
    file = signed / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["classes"].reverse()
    manifest["sha256"] = seal(manifest)
    file.write_text(json.dumps(manifest))
    assert Bundle.load(signed).classes == ["d", "c", "b", "a"]
    with pytest.raises(BundleError, match="not signed with the key expected"):
        Bundle.load(signed, public_key=public_key)


def test_a_manifest_is_checked_before_it_is_parsed(signed, public_key):
    sha256 = Bundle.load(signed).manifest_sha256
    (signed / "manifest.json").write_text("[" * 10_000)
    with pytest.raises(BundleError, match="not signed with the key expected"):
        Bundle.load(signed, public_key=public_key)
    with pytest.raises(BundleError, match="not the bundle that was pinned"):
        Bundle.load(signed, sha256=sha256)


@pytest.mark.parametrize("size", [0, 1, 63, 65, 1_000_000])
def test_a_signature_of_another_length(signed, public_key, size):
    file = signed / "manifest.json.sig"
    file.write_bytes((file.read_bytes() * size)[:size])
    with pytest.raises(BundleError, match="not signed with the key expected"):
        Bundle.load(signed, public_key=public_key)


@given(
    st.sampled_from(["manifest.json", "manifest.json.sig", "student.tflite"]),
    st.integers(min_value=0, max_value=10**6),
    st.integers(min_value=0, max_value=7),
)
@settings(max_examples=100, deadline=None)
def test_no_bit_of_a_signed_bundle_can_be_changed(bundle_path, name, at, bit):
    key = ed25519.Ed25519PrivateKey.generate()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bundle")
        shutil.copytree(bundle_path, path)
        sign_bundle(path, pem(key))
        Bundle.load(path, public_key=public_pem(key))
        raw = bytearray((path / name).read_bytes())
        raw[at % len(raw)] ^= 1 << bit
        (path / name).write_bytes(raw)
        with pytest.raises(BundleError):
            Bundle.load(path, public_key=public_pem(key))


def test_a_linked_signature(signed, public_key, tmp_path):
    file = signed / "manifest.json.sig"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="without links"):
        Bundle.load(signed, public_key=public_key)


def test_keys_that_are_none(signed, key, public_key, tmp_path):
    encrypted = pem(ed25519.Ed25519PrivateKey.generate(), b"secret")
    other = rsa.generate_private_key(65537, 2048)
    for given_, message in (
        (key, "a public key.*which is a private key"),
        (b"none", "Ed25519 public key in PEM.*bytes"),
        (public_pem(other), "Ed25519 public key in PEM"),
    ):
        with pytest.raises(ValueError, match=message):
            Bundle.load(signed, public_key=given_)
    with pytest.raises(FileNotFoundError):
        Bundle.load(signed, public_key=tmp_path / "nothing")
    for given_, message in (
        (public_key, "Ed25519 private key in PEM"),
        (pem(other), "Ed25519 private key in PEM"),
        (encrypted, "without a passphrase"),
    ):
        with pytest.raises(ValueError, match=message):
            sign_bundle(signed, given_)


def test_a_new_key_is_its_owners_and_never_overwritten(tmp_path):
    old = os.umask(0)
    try:
        public = new_signing_key(tmp_path / "key")
    finally:
        os.umask(old)
    assert public == tmp_path / "key.pub"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    before = (tmp_path / "key").read_bytes()
    with pytest.raises(FileExistsError, match="exists already"):
        new_signing_key(tmp_path / "key")
    (tmp_path / "other.pub").write_text("x")
    with pytest.raises(FileExistsError, match="exists already"):
        new_signing_key(tmp_path / "other")
    assert (tmp_path / "key").read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_an_altered_bundle_is_not_signed(path, key):
    (path / "student.tflite").write_bytes(b"another")
    with pytest.raises(BundleError, match="was altered"):
        sign_bundle(path, key)
    assert not (path / "manifest.json.sig").exists()
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "bundle", "key.pem", "key.pem.pub",
    ]  # fmt: skip


def test_a_pinned_bundle(path):
    sha256 = Bundle.load(path).manifest_sha256
    Bundle.load(path, sha256=sha256.upper())
    with pytest.raises(BundleError, match="not the bundle that was pinned"):
        Bundle.load(path, sha256="0" * 64)
    for pin in ("abc", "", "g" * 64, b"0" * 64):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            Bundle.load(path, sha256=pin)


def test_cascades_of_signed_and_pinned_bundles(signed, public_key):
    sha256 = Bundle.load(signed).manifest_sha256
    options = {"sha256": sha256, "public_key": public_key}
    with EdgeCascade.load(signed, **options) as edge:
        assert len(edge.predict(X).labels) == 2

    async def run():
        async with AsyncEdgeCascade.load(signed, **options) as edge:
            return await edge.predict(X)

    assert len(asyncio.run(run()).labels) == 2
    (signed / "manifest.json.sig").unlink()
    for cascade in (EdgeCascade, AsyncEdgeCascade):
        with pytest.raises(BundleError, match="not signed"):
            cascade.load(signed, public_key=public_key)
        with pytest.raises(BundleError, match="pinned"):
            cascade.load(signed, sha256="0" * 64)


def test_a_pin_needs_no_package(signed, public_key):
    sha256 = Bundle.load(signed).manifest_sha256
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, signed, sha256, public_key],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    classes, message = done.stdout.splitlines()
    assert classes == str(["a", "b", "c", "d"])
    assert message.startswith(
        "Signatures of bundles need the package `cryptography`."
    )

"""Signing of bundles, and the keys for it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from keras_cascade.bundle.bundle import Bundle
from keras_cascade.bundle.manifest import MANIFEST, SIGNATURE, manifest_content
from keras_cascade.bundle.signature import PrivateKey
from keras_cascade.bundle.writing import replace_file
from keras_cascade.errors import BundleError

__all__ = ["new_signing_key", "sign_bundle"]


def new_signing_key(file: str | os.PathLike) -> Path:
    """Creates a private key, and its public key in a file beside it.

    Args:
        file: path of the private key's file (PEM, PKCS #8, readable by its
            owner alone). It must not exist.

    Returns:
        `Path` of the public key: `file` with `.pub` added.

    Raises:
        OSError: one of the two exists, or cannot be written.
    """
    key = PrivateKey.new()
    private_file, public_file = Path(file), Path(f"{os.fspath(file)}.pub")
    for path in (private_file, public_file):
        if os.path.lexists(path):
            raise FileExistsError(
                f"'{path}' exists already. Expected: a path that does not, as "
                "a key that is overwritten cannot be brought back."
            )
    _write_new(private_file, key.pem(), 0o600)
    _write_new(public_file, key.public_key.pem(), 0o644)
    return public_file


def sign_bundle(
    path: str | os.PathLike, key: str | os.PathLike | bytes
) -> Bundle:
    """Checks a bundle, and writes its signature beside the manifest.

    The signature covers the bytes of `manifest.json`, and through the hashes
    in it every file. It replaces an earlier one.

    Args:
        path: folder of the bundle.
        key: path of an Ed25519 private key (PEM, without a passphrase), or
            its content as bytes.

    Returns:
        `Bundle`, checked against its new signature.

    Raises:
        BundleError: the bundle cannot be used.
        ImportError: `cryptography` is not installed.
        ValueError: `key` is no such key.
        OSError: a file cannot be read or written.
    """
    private_key = PrivateKey.read(key)
    bundle = Bundle.load(path)
    manifest = manifest_content(bundle.path / MANIFEST)
    if hashlib.sha256(manifest).hexdigest() != bundle.manifest_sha256:
        raise BundleError(
            f"'{path}' was replaced while it was signed. Sign it again."
        )
    replace_file(bundle.path / SIGNATURE, private_key.sign(manifest))
    return Bundle.load(
        path,
        sha256=bundle.manifest_sha256,
        public_key=private_key.public_key.pem(),
    )


def _write_new(file, content, mode):
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(descriptor, "wb") as stream:
        stream.write(content)

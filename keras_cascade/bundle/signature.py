"""Ed25519 keys and signatures of manifests. Imports `cryptography`."""

from __future__ import annotations

import os
from pathlib import Path

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )
except ImportError as error:
    raise ImportError(
        "Signatures of bundles need the package `cryptography`. Install it, "
        "or pin the bundle by `sha256=`, which needs nothing."
    ) from error

from keras_cascade.bundle.files import read_file
from keras_cascade.bundle.manifest import SIGNATURE
from keras_cascade.errors import BundleError

__all__ = ["PrivateKey", "PublicKey"]

SIGNATURE_BYTES = 64
#: No PEM file of a key is longer.
KEY_BYTES = 65_536
_MAKE_ONE = "`keras-cascade sign --new-key FILE` makes one."


class PublicKey:
    """Checks signatures of manifests.

    Args:
        key: `Ed25519PublicKey`.
    """

    def __init__(self, key: Ed25519PublicKey):
        self._key = key

    @classmethod
    def read(cls, source: str | os.PathLike | bytes) -> PublicKey:
        """Reads a public key.

        Args:
            source: path of a PEM file, or its content as bytes.

        Raises:
            ValueError: it is no Ed25519 public key.
            OSError: the file cannot be read.
        """
        content, where = _pem(source)
        try:
            key = load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, Ed25519PublicKey):
            return cls(key)
        if b"PRIVATE KEY" in content:
            raise ValueError(
                f"Expected a public key. Received: {where}, which is a private "
                "key. Keep that off devices and servers, and pass the public "
                "key that belongs to it."
            )
        raise ValueError(
            "Expected an Ed25519 public key in PEM format. Received: "
            f"{where}, which is none. {_MAKE_ONE}"
        )

    def check(self, manifest: bytes, signature: Path) -> None:
        """Raises a `BundleError` unless the manifest is signed for this key.

        Args:
            manifest: bytes of `manifest.json`.
            signature: `Path` of the file with the signature.

        Raises:
            BundleError: there is no signature, or it is of another key or
                another manifest.
        """
        where = signature.parent
        try:
            content, _ = read_file(signature, SIGNATURE_BYTES + 1)
        except OSError:
            raise BundleError(
                f"'{where}' is not signed. Expected: {SIGNATURE}, made with "
                "the private key that belongs to the public key given. "
                "Received: no such file. Install a signed copy, or sign it "
                "with `keras-cascade sign`."
            ) from None
        try:
            self._key.verify(content, manifest)
        except InvalidSignature:
            raise BundleError(
                f"'{where}' is not signed with the key expected: {SIGNATURE} "
                "was made with another key, or of another manifest. Install "
                "the bundle again from where it was signed, or give the "
                "public key that belongs to it."
            ) from None

    def pem(self) -> bytes:
        """Returns the key in PEM format."""
        return self._key.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )


class PrivateKey:
    """Signs manifests.

    Args:
        key: `Ed25519PrivateKey`.
    """

    def __init__(self, key: Ed25519PrivateKey):
        self._key = key
        self.public_key = PublicKey(key.public_key())

    @classmethod
    def new(cls) -> PrivateKey:
        """Creates a random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, source: str | os.PathLike | bytes) -> PrivateKey:
        """Reads a private key.

        Args:
            source: path of a PEM file (PKCS #8) without a passphrase, or its
                content as bytes.

        Raises:
            ValueError: it is no Ed25519 private key.
            OSError: the file cannot be read.
        """
        content, where = _pem(source)
        try:
            key = load_pem_private_key(content, password=None)
        except TypeError:
            raise ValueError(
                f"Expected a private key without a passphrase. Received: "
                f"{where}, which has one. Remove it with `openssl pkey`."
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if isinstance(key, Ed25519PrivateKey):
            return cls(key)
        raise ValueError(
            "Expected an Ed25519 private key in PEM format (PKCS #8). "
            f"Received: {where}, which is none. {_MAKE_ONE}"
        )

    def sign(self, manifest: bytes) -> bytes:
        """Returns the signature of a manifest, 64 bytes."""
        return self._key.sign(manifest)

    def pem(self) -> bytes:
        """Returns the key in PEM format (PKCS #8), not encrypted."""
        return self._key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )


def _pem(source):
    """Returns a key's PEM bytes, and how an error names them."""
    if isinstance(source, bytes):
        return source, "bytes"
    with open(source, "rb") as stream:
        return stream.read(KEY_BYTES), f"'{source}'"

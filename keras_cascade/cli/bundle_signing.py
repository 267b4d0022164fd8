"""Signatures, keys and hashes of bundles, for `sign` and `verify`."""

import os

from keras_cascade.bundle import Bundle
from keras_cascade.bundle.manifest import MANIFEST


def check_files(path, sha256, public_key):
    """Opens a bundle and checks its files and, if asked, where it is from.

    Args:
        path: folder of a bundle.
        sha256: str or `None`, the hash that its manifest must have.
        public_key: path or `None`, the key that it must be signed for.

    Returns:
        `(bundle, result)`: `Bundle`, and a dict of `passed`, `checks`,
        `measured` and `manifest_sha256`.

    Raises:
        BundleError: a check failed.
    """
    bundle = Bundle.load(path, sha256=sha256, public_key=public_key)
    details = {"files": f"every file has the SHA-256 that {MANIFEST} states"}
    if sha256 is not None:
        details["pin"] = f"{MANIFEST} has the SHA-256 that was given"
    if public_key is not None:
        details["signature"] = f"it is signed for the key in '{public_key}'"
    checks = [
        {"name": name, "passed": True, "detail": detail}
        for name, detail in details.items()
    ]
    return bundle, {
        "passed": True,
        "checks": checks,
        "measured": {},
        "manifest_sha256": bundle.manifest_sha256,
    }


def sign_or_make_key(path, key, new_key):
    """Makes a key, signs a bundle, or both.

    Args:
        path: folder of a bundle, or `None`.
        key: path of a private key, or `None`.
        new_key: path of a private key to make, or `None`.

    Returns:
        Dict of strings to show.

    Raises:
        BundleError: the bundle cannot be used.
        ValueError: the options do not fit together, or the key is none.
    """
    # Not before: other commands need no cryptography.
    from keras_cascade.bundle import new_signing_key, sign_bundle

    if (key is None) == (new_key is None):
        raise ValueError(
            "Expected --key FILE, or --new-key FILE to make one. Received: "
            f"{'neither' if key is None else 'both'}."
        )
    if path is None and new_key is None:
        raise ValueError("Expected a bundle to sign with --key. Received none.")
    result = {}
    if path is not None:
        Bundle.load(path)  # before a key is made for it
    if new_key is not None:
        public = new_signing_key(new_key)
        result |= {"private_key": os.fspath(new_key), "public_key": str(public)}
    if path is not None:
        bundle = sign_bundle(path, new_key or key)
        result |= {
            "bundle": str(bundle.path),
            "manifest_sha256": bundle.manifest_sha256,
        }
    return result

"""The exported directory: its manifest, its checks and its signature."""

import importlib
from typing import TYPE_CHECKING

from keras_cascade.bundle.bundle import Bundle
from keras_cascade.bundle.writing import new_folder
from keras_cascade.errors import BundleError

if TYPE_CHECKING:
    from keras_cascade.bundle.signing import new_signing_key, sign_bundle

# Loaded on first use: a device without a key needs no cryptography.
_LATER = {"new_signing_key": "signing", "sign_bundle": "signing"}

__all__ = [
    "Bundle",
    "BundleError",
    "new_folder",
    "new_signing_key",
    "sign_bundle",
]


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(
            f"module 'keras_cascade.bundle' has no attribute '{name}'"
        )
    module = importlib.import_module(f"keras_cascade.bundle.{_LATER[name]}")
    return getattr(module, name)


def __dir__():
    return list(__all__)

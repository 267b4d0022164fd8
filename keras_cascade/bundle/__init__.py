"""The exported directory: its manifest and its checks. Files only."""

from keras_cascade.bundle.bundle import Bundle
from keras_cascade.bundle.writing import new_folder
from keras_cascade.errors import BundleError

__all__ = ["Bundle", "BundleError", "new_folder"]


def __dir__():
    return list(__all__)

"""The exported directory: its manifest and its checks. Files only."""

from keras_cascade.bundle.bundle import Bundle, BundleError
from keras_cascade.bundle.writing import new_folder

__all__ = ["Bundle", "BundleError", "new_folder"]

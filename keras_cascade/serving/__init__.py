"""The teacher behind a standard protocol."""

from keras_cascade.serving.server import serve

__all__ = ["serve"]

"""The teacher behind a standard protocol."""

from keras_cascade.serving.server import serve
from keras_cascade.serving.server_process import ServerProcess

__all__ = ["ServerProcess", "serve"]

"""Teacher server: TensorFlow Serving's REST protocol and Open Inference v2."""

from keras_cascade.serving.server import serve
from keras_cascade.serving.server_process import ServerProcess

__all__ = ["ServerProcess", "serve"]


def __dir__():
    return list(__all__)

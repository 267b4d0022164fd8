"""Text models: tokenizers and preprocessors for training and the device.

`Tokenizer` and the reader of a bundle's texts need neither TensorFlow nor
Keras.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_cascade.text.text_model import TextModel
    from keras_cascade.text.tokenizer import Tokenizer
    from keras_cascade.text.tokenizer_training import (
        choose_length,
        train_tokenizer,
    )

_MODULES = {
    "TextModel": "text_model",
    "Tokenizer": "tokenizer",
    "choose_length": "tokenizer_training",
    "train_tokenizer": "tokenizer_training",
}

__all__ = ["TextModel", "Tokenizer", "choose_length", "train_tokenizer"]


def __getattr__(name):
    if name in _MODULES:
        module = importlib.import_module(f"keras_cascade.text.{_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(
        f"module 'keras_cascade.text' has no attribute '{name}'"
    )


def __dir__():
    return list(__all__)

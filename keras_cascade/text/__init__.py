"""Texts in, token ids out: in training, in the bundle, on the device.

`Tokenizer` and what reads a bundle's texts need neither TensorFlow nor Keras.
"""

import importlib

_NAMES = {
    "TextModel": "text_model",
    "Tokenizer": "tokenizer",
    "choose_length": "sequence_length",
    "train_tokenizer": "tokenizer_training",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name in _NAMES:
        module = importlib.import_module(f"keras_cascade.text.{_NAMES[name]}")
        return getattr(module, name)
    raise AttributeError(
        f"module 'keras_cascade.text' has no attribute '{name}'"
    )


def __dir__():
    return sorted(__all__)

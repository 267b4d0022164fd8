"""Base class of the text preprocessors of a `TextModel`."""

import abc

import keras
import numpy as np


class TextPreprocessor(abc.ABC):
    """Maps texts to token ids, in a graph and outside of one.

    Args:
        preprocessor: the user's object that this class wraps.
        feeds: tuple of names, the inputs of the model.

    Attributes:
        in_graph: bool, whether a SavedModel can hold it. Where not, texts
            are tokenized before the SavedModel.
    """

    in_graph = True

    def __init__(self, preprocessor, feeds):
        self.preprocessor = preprocessor
        self.feeds = feeds

    @classmethod
    @abc.abstractmethod
    def takes(cls, preprocessor) -> bool:
        """Returns `True` for an object that this class can wrap."""

    @property
    @abc.abstractmethod
    def vocabulary_size(self) -> int | None:
        """Number of token ids, or `None` before the vocabulary is loaded."""

    @abc.abstractmethod
    def tensors(self, columns):
        """Returns the token ids of texts as tensors.

        Args:
            columns: tuple of string tensors `(batch,)`: one, or two for
                pairs.

        Returns:
            Dict of feed to int32 tensor `(batch, length)`.
        """

    @abc.abstractmethod
    def as_tokenizer(self):
        """Returns an equal `Tokenizer`, for a device.

        Raises:
            ExportError: no `tokenizer.json` can express it.
        """

    def arrays(self, columns):
        """Returns the token ids of texts as NumPy arrays.

        Args:
            columns: tuple of arrays of str or bytes: one, or two for pairs.

        Returns:
            Dict of feed to int32 array `(rows, length)`.
        """
        import tensorflow as tf

        tensors = self.tensors(
            tuple(tf.constant(np.asarray(c, object)) for c in columns)
        )
        return {
            name: keras.ops.convert_to_numpy(value)
            for name, value in tensors.items()
        }

    def _fed(self, outputs):
        """Selects the model's inputs from the outputs, in int32."""
        missing = set(self.feeds) - set(outputs)
        if missing:
            raise ValueError(
                f"Expected a preprocessor that makes {list(self.feeds)}, which "
                f"the model takes. Received: {sorted(outputs)} from "
                f"{type(self.preprocessor).__name__}."
            )
        return {n: keras.ops.cast(outputs[n], "int32") for n in self.feeds}

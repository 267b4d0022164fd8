"""What every preprocessor of texts offers to a `TextModel`."""

import abc

import keras
import numpy as np


class TextPreprocessor(abc.ABC):
    """Makes token ids of texts, in a graph or out of it.

    Args:
        preprocessor: what the user brings.
        feeds: tuple of names, what the model takes.

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
    def takes(cls, preprocessor):
        """Whether this kind is for such an object."""

    @property
    @abc.abstractmethod
    def vocabulary_size(self):
        """How many token ids there are."""

    @abc.abstractmethod
    def tensors(self, columns):
        """Token ids of texts.

        Args:
            columns: tuple of string tensors `(batch,)`: one, or two for
                pairs.

        Returns:
            Dict of feed to int32 tensor `(batch, length)`.
        """

    @abc.abstractmethod
    def as_tokenizer(self):
        """The same as a `Tokenizer`, for a device.

        Raises:
            ExportError: it cannot be said in a `tokenizer.json`.
        """

    def arrays(self, columns):
        """`tensors` of NumPy arrays of str or bytes, as NumPy arrays."""
        import tensorflow as tf

        made = self.tensors(
            tuple(tf.constant(np.asarray(c, object)) for c in columns)
        )
        return {
            name: keras.ops.convert_to_numpy(value)
            for name, value in made.items()
        }

    def _fed(self, made):
        """Of what was made, what the model takes, in int32."""
        missing = set(self.feeds) - set(made)
        if missing:
            raise ValueError(
                f"Expected a preprocessor that makes {list(self.feeds)}, which "
                f"the model takes. Received: {sorted(made)} from "
                f"{type(self.preprocessor).__name__}."
            )
        return {n: keras.ops.cast(made[n], "int32") for n in self.feeds}

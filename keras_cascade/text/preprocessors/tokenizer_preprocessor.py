"""Text preprocessor around a `Tokenizer`: the same code as on the device."""

from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)
from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer


class TokenizerPreprocessor(TextPreprocessor):
    """Runs a `Tokenizer` on the host, inside a graph as well.

    Arguments as in `TextPreprocessor`.
    """

    in_graph = False

    @classmethod
    def takes(cls, preprocessor):
        return isinstance(preprocessor, Tokenizer)

    @property
    def vocabulary_size(self):
        return self.preprocessor.vocabulary_size

    def tensors(self, columns):
        import tensorflow as tf

        tensors = tf.numpy_function(
            self._encoded, list(columns), [tf.int32] * len(self.feeds),
            stateful=False,
        )  # fmt: skip
        # For a single output it returns the tensor itself, outside a graph.
        if not isinstance(tensors, (list, tuple)):
            tensors = [tensors]
        lengths = self.preprocessor.lengths
        width = lengths[0] if len(lengths) == 1 else None
        for tensor in tensors:
            tensor.set_shape((columns[0].shape[0], width))
        return dict(zip(self.feeds, tensors, strict=True))

    def as_tokenizer(self):
        return self.preprocessor

    def arrays(self, columns):
        encoding = self.preprocessor.encode(*map(as_strings, columns))
        return {name: encoding[name] for name in self.feeds}

    def _encoded(self, *columns):
        return list(self.arrays(columns).values())

"""A `Tokenizer` before a Keras model: the same code as on the device."""

from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)
from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer


class TokenizerPreprocessor(TextPreprocessor):
    """Runs a `Tokenizer` on the host, whatever the graph.

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

        made = tf.numpy_function(
            self._encoded, list(columns), [tf.int32] * len(self.feeds),
            stateful=False,
        )  # fmt: skip
        made = made if isinstance(made, (list, tuple)) else [made]
        lengths = self.preprocessor.lengths
        width = lengths[0] if len(lengths) == 1 else None
        for one in made:
            one.set_shape((columns[0].shape[0], width))
        return dict(zip(self.feeds, made, strict=True))

    def as_tokenizer(self):
        return self.preprocessor

    def arrays(self, columns):
        made = self.preprocessor.encode(*map(as_strings, columns))
        return {name: made[name] for name in self.feeds}

    def _encoded(self, *columns):
        return list(self.arrays(columns).values())

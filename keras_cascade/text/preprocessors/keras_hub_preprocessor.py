"""A KerasHub preprocessor before a KerasHub model."""

from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)


class KerasHubPreprocessor(TextPreprocessor):
    """Tokenizes and packs as KerasHub's text classifiers do.

    Arguments as in `TextPreprocessor`.
    """

    def __init__(self, preprocessor, feeds):
        super().__init__(preprocessor, feeds)
        self._traced = None

    @classmethod
    def takes(cls, preprocessor):
        tokenizer = getattr(preprocessor, "tokenizer", None)
        return callable(preprocessor) and tokenizer is not None

    @property
    def vocabulary_size(self):
        try:
            return self.preprocessor.tokenizer.vocabulary_size()
        except (AttributeError, TypeError, ValueError):
            return None  # being loaded: its vocabulary comes a little later

    def tensors(self, columns):
        import tensorflow as tf

        if self._traced is None:
            # Out of a graph KerasHub tokenizes by other code, in Python; what
            # is trained on and what is served shall be one.
            self._traced = tf.function(
                self._made, reduce_retracing=True, autograph=False
            )
        return self._traced(columns)

    def _made(self, columns):
        x = columns[0] if len(columns) == 1 else tuple(columns)
        # With `y` it takes a tuple for a pair of texts, not for (x, y).
        return self._fed(self.preprocessor(x, y=None))

    def as_tokenizer(self):
        from keras_cascade.text.converted.word_piece import (
            tokenizer_of_keras_hub,
        )

        return tokenizer_of_keras_hub(self.preprocessor)

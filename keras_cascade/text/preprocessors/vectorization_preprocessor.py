"""Keras's own `TextVectorization` before a model."""

import keras

from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)


class VectorizationPreprocessor(TextPreprocessor):
    """Looks words up with an adapted `TextVectorization`.

    Arguments as in `TextPreprocessor`.
    """

    def __init__(self, preprocessor, feeds):
        super().__init__(preprocessor, feeds)
        if preprocessor._output_mode != "int":
            raise ValueError(
                "Expected a `TextVectorization` with output_mode='int', which "
                "makes token ids. Received: output_mode="
                f"'{preprocessor._output_mode}'."
            )

    @classmethod
    def takes(cls, preprocessor):
        return isinstance(preprocessor, keras.layers.TextVectorization)

    @property
    def vocabulary_size(self):
        size = self.preprocessor.vocabulary_size()
        # Padding and unknown words; loaded, it is filled a little later.
        return size if size > 2 else None

    def tensors(self, columns):
        if len(columns) != 1:
            raise ValueError(
                "`TextVectorization` takes single texts. Received pairs. Use "
                "`keras_cascade.text.train_tokenizer` for those."
            )
        ids = self.preprocessor(columns[0])
        return self._fed(
            {
                "token_ids": ids,
                "segment_ids": keras.ops.zeros_like(ids),
                "padding_mask": keras.ops.not_equal(ids, 0),
            }
        )

    def as_tokenizer(self):
        from keras_cascade.text.converted.vectorization import (
            tokenizer_of_vectorization,
        )

        return tokenizer_of_vectorization(self.preprocessor)

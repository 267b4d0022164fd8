"""Reference models that the command line trains, for images and for texts."""

import dataclasses

import keras
import numpy as np

from keras_cascade import models
from keras_cascade.text import TextModel, choose_length, train_tokenizer

#: Vocabulary sizes of the text teacher (words) and student (tokens).
TEACHER_WORDS = 20_000
STUDENT_TOKENS = 4_000
#: Filters of `models.text_cnn` per unit of an image teacher's width.
FILTERS = 16


@dataclasses.dataclass(frozen=True)
class Settings:
    """Model sizes, epochs and delegation rate for a data set."""

    batch_size: int
    teacher_width: int
    teacher_epochs: int
    student_width: int
    student_epochs: int
    max_delegation_rate: float


SMALL = Settings(64, 16, 20, 8, 60, 0.20)
USUAL = Settings(128, 24, 5, 8, 8, 0.25)
SMALL_DATA = 5_000
TEXTS = Settings(64, 16, 20, 16, 20, 0.40)


def reference_models(splits):
    """Returns the reference models for a data set.

    Args:
        splits: `Splits`.

    Returns:
        `ImageReferences` or `TextReferences`.

    Raises:
        ValueError: neither images nor texts.
    """
    shape = splits.input_shape
    if len(shape) == 3 and None not in shape:
        return ImageReferences(splits)
    if shape == () and splits.train.element_spec[0].dtype.name == "string":
        return TextReferences(splits)
    raise ValueError(
        "The reference models take images of shape (height, width, channels), "
        f"or texts. Received: '{splits.name}' with inputs of shape {shape}. "
        "Pass your own models with --teacher and --student."
    )


class ImageReferences:
    """Convolutional teacher and student for images.

    Args:
        splits: `Splits` of images.
    """

    def __init__(self, splits):
        self._splits = splits
        small = splits.sizes["train"] < SMALL_DATA
        self.settings = SMALL if small else USUAL

    def teacher(self, width):
        """Returns an untrained teacher."""
        return models.image_teacher(
            self._splits.input_shape, self._splits.classes, width
        )

    def student(self, width):
        """Returns an untrained student."""
        return models.image_student(
            self._splits.input_shape, self._splits.classes, width
        )


class TextReferences:
    """Convolutional teacher and bag-of-n-grams student for texts.

    The teacher's `TextVectorization` becomes part of the SavedModel, which
    takes texts. The student's `Tokenizer` becomes part of the bundle.

    Args:
        splits: `Splits` of texts.
    """

    settings = TEXTS

    def __init__(self, splits):
        self._classes = splits.classes
        self._texts = [
            text.decode() for text, _ in splits.train.as_numpy_iterator()
        ]

    def teacher(self, width):
        """Returns an untrained teacher."""
        words = choose_length([len(text.split()) for text in self._texts])
        vectorization = keras.layers.TextVectorization(
            TEACHER_WORDS, output_sequence_length=words
        )
        vectorization.adapt(np.array(self._texts, dtype=object))
        model = models.text_cnn(
            vectorization.vocabulary_size(),
            self._classes,
            width=4 * width,
            filters=FILTERS * width,
            dropout=0.4,
        )
        return TextModel(model, vectorization, name="teacher")

    def student(self, width):
        """Returns an untrained student."""
        tokenizer = train_tokenizer(self._texts, STUDENT_TOKENS)
        model = models.text_bag(
            tokenizer.vocabulary_size,
            self._classes,
            width=2 * width,
            buckets=STUDENT_TOKENS,
        )
        return TextModel(model, tokenizer, name="student")

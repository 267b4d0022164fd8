"""Small reference teachers and students."""

from keras_cascade.models.image_student import image_student
from keras_cascade.models.image_teacher import image_teacher
from keras_cascade.models.text_bag import text_bag
from keras_cascade.models.text_cnn import text_cnn
from keras_cascade.models.text_transformer import text_transformer

__all__ = [
    "image_student",
    "image_teacher",
    "text_bag",
    "text_cnn",
    "text_transformer",
]


def __dir__():
    return list(__all__)

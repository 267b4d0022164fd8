"""Small reference teachers and students, to start from."""

from keras_cascade.models.image_student import image_student
from keras_cascade.models.image_teacher import image_teacher

__all__ = ["image_student", "image_teacher"]

"""Reference teachers and students, and the logits of any classifier."""

from keras_cascade.models.binary_logits import BinaryLogits
from keras_cascade.models.called_logits import CalledLogits
from keras_cascade.models.image_student import image_student
from keras_cascade.models.image_teacher import image_teacher
from keras_cascade.models.load_model import load_model
from keras_cascade.models.logits_model import logits_model
from keras_cascade.models.logits_view import LogitsView
from keras_cascade.models.probability_logits import ProbabilityLogits
from keras_cascade.models.saved_model_classifier import SavedModelClassifier
from keras_cascade.models.text_bag import text_bag
from keras_cascade.models.text_cnn import text_cnn
from keras_cascade.models.text_transformer import text_transformer

__all__ = [
    "BinaryLogits",
    "CalledLogits",
    "LogitsView",
    "ProbabilityLogits",
    "SavedModelClassifier",
    "image_student",
    "image_teacher",
    "load_model",
    "logits_model",
    "text_bag",
    "text_cnn",
    "text_transformer",
]


def __dir__():
    return list(__all__)

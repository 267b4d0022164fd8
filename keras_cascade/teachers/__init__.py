"""Teachers that are no Keras model: files, endpoints, pipelines, LLMs."""

from keras_cascade.teachers.callable import Callable
from keras_cascade.teachers.onnx import Onnx
from keras_cascade.teachers.openai_compatible import OpenAICompatible
from keras_cascade.teachers.saved_model import SavedModel
from keras_cascade.teachers.sklearn_pipeline import SklearnPipeline
from keras_cascade.teachers.teacher import Teacher
from keras_cascade.teachers.teacher_model import get
from keras_cascade.teachers.torch import Torch
from keras_cascade.teachers.url import Url

__all__ = [
    "Callable",
    "Onnx",
    "OpenAICompatible",
    "SavedModel",
    "SklearnPipeline",
    "Teacher",
    "Torch",
    "Url",
    "get",
]


def __dir__() -> list[str]:
    return list(__all__)

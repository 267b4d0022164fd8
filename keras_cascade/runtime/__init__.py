"""The device side: LiteRT student, remote teacher. No TensorFlow, no Keras."""

from keras_cascade.runtime.drift_monitor import DriftMonitor
from keras_cascade.runtime.drift_status import DriftStatus
from keras_cascade.runtime.edge_cascade import EdgeCascade
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.runtime.rest_teacher import RestTeacher
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.teacher_error import TeacherError

__all__ = [
    "DriftMonitor",
    "DriftStatus",
    "EdgeCascade",
    "EdgePrediction",
    "RestTeacher",
    "SavedModelTeacher",
    "StudentInterpreter",
    "TeacherError",
]

"""The device side: LiteRT student, remote teacher. No TensorFlow, no Keras."""

import importlib
from typing import TYPE_CHECKING

from keras_cascade.errors import QueueError, TeacherError
from keras_cascade.runtime.drift.drift_monitor import DriftMonitor, DriftStatus
from keras_cascade.runtime.edge_cascade import EdgeCascade
from keras_cascade.runtime.edge_prediction import EdgePrediction, Latency
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.teachers.teacher_at import teacher_at

if TYPE_CHECKING:
    from keras_cascade.runtime.async_edge_cascade import AsyncEdgeCascade
    from keras_cascade.runtime.queueing.dead_letter import DeadLetter
    from keras_cascade.runtime.queueing.queue_status import QueueStatus
    from keras_cascade.runtime.queueing.teacher_log import TeacherLog
    from keras_cascade.runtime.queueing.teacher_queue import TeacherQueue
    from keras_cascade.runtime.teachers.grpc_teacher import GrpcTeacher
    from keras_cascade.runtime.teachers.remote_teacher import RemoteTeacher
    from keras_cascade.runtime.teachers.rest_teacher import RestTeacher
    from keras_cascade.runtime.teachers.v2_http_teacher import V2HttpTeacher

# Loaded on first use: a device that only answers for itself needs no HTTP, no
# SQLite and no event loop.
_LATER = {
    "AsyncEdgeCascade": "async_edge_cascade",
    "DeadLetter": "queueing.dead_letter",
    "GrpcTeacher": "teachers.grpc_teacher",
    "QueueStatus": "queueing.queue_status",
    "RemoteTeacher": "teachers.remote_teacher",
    "RestTeacher": "teachers.rest_teacher",
    "TeacherLog": "queueing.teacher_log",
    "TeacherQueue": "queueing.teacher_queue",
    "V2HttpTeacher": "teachers.v2_http_teacher",
}

__all__ = [
    "AsyncEdgeCascade",
    "DeadLetter",
    "DriftMonitor",
    "DriftStatus",
    "EdgeCascade",
    "EdgePrediction",
    "GrpcTeacher",
    "Latency",
    "QueueError",
    "QueueStatus",
    "RemoteTeacher",
    "RestTeacher",
    "SavedModelTeacher",
    "StudentInterpreter",
    "TeacherError",
    "TeacherLog",
    "TeacherQueue",
    "V2HttpTeacher",
    "teacher_at",
]


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(
            f"module 'keras_cascade.runtime' has no attribute '{name}'"
        )
    module = importlib.import_module(f"keras_cascade.runtime.{_LATER[name]}")
    return getattr(module, name)


def __dir__():
    return list(__all__)

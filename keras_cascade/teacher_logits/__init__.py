"""Caches of teacher logits on disk."""

from keras_cascade.teacher_logits.cross_fitted_logits import (
    cross_fit_teacher_logits,
)
from keras_cascade.teacher_logits.teacher_log_data import cache_teacher_log
from keras_cascade.teacher_logits.teacher_logits_cache import (
    TeacherLogitsCache,
)
from keras_cascade.teacher_logits.teacher_pass import cache_teacher_logits

__all__ = [
    "TeacherLogitsCache",
    "cache_teacher_log",
    "cache_teacher_logits",
    "cross_fit_teacher_logits",
]


def __dir__():
    return list(__all__)

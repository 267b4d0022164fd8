"""Caches of teacher logits on disk."""

from keras_cascade.teacher_logits.caching import cache_teacher_logits
from keras_cascade.teacher_logits.cross_fitting import (
    cross_fit_teacher_logits,
)
from keras_cascade.teacher_logits.logged import cache_teacher_log
from keras_cascade.teacher_logits.teacher_logits_cache import (
    TeacherLogitsCache,
)

__all__ = [
    "TeacherLogitsCache",
    "cache_teacher_log",
    "cache_teacher_logits",
    "cross_fit_teacher_logits",
]

"""The queue cannot take or give rows, and why."""

from keras_cascade.runtime.teachers.teacher_error import TeacherError


class QueueError(TeacherError):
    """The queue is full, in use by another process, or not readable."""

"""Compression of students while fine-tuning, in a child process.

TensorFlow Model Optimization needs Keras 2 and switches a whole process to
it. Only the code in `keras_cascade.export.optimization.child` imports it.
"""

from keras_cascade.export.optimization.optimize_student import (
    MODES,
    optimize_student,
)
from keras_cascade.export.optimization.optimized_student import (
    OptimizedStudent,
)

__all__ = ["MODES", "OptimizedStudent", "optimize_student"]


def __dir__():
    return list(__all__)

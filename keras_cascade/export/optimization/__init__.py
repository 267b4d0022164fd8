"""Students made smaller while they train on: in a process of its own.

TensorFlow Model Optimization needs Keras 2 and turns a whole process to it.
Nothing in this package imports it, except in the child process.
"""

from keras_cascade.export.optimization.optimize_student import (
    MODES,
    optimize_student,
)
from keras_cascade.export.optimization.optimized_student import (
    OptimizedStudent,
)

__all__ = ["MODES", "OptimizedStudent", "optimize_student"]

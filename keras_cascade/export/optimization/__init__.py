"""Compression of students while fine-tuning.

TensorFlow Model Optimization needs Keras 2 and switches a whole process to
it. Only the code in `keras_cascade.export.optimization.child`, of a child
process, imports it. Keras 3 trains what it refuses, in this process.
"""

from keras_cascade.export.optimization.keras_quantized_student import (
    KerasQuantizedStudent,
)
from keras_cascade.export.optimization.optimize_student import (
    MODES,
    optimize_student,
)
from keras_cascade.export.optimization.optimized_student import (
    OptimizedStudent,
)

__all__ = [
    "MODES",
    "KerasQuantizedStudent",
    "OptimizedStudent",
    "optimize_student",
]


def __dir__():
    return list(__all__)

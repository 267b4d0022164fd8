"""The graph that ships: a student and its gate in one model."""

import keras
from keras import ops

from keras_cascade.tensor_ops import as_float


class StudentWithGate(keras.Model):
    """A student and its gate as one model, with named outputs.

    Args:
        student: `keras.Model` from inputs to logits `(batch, classes)`.
        gate: `Gate`.
        classes: int, number of classes. Defaults to `None`: one a student
            output.

    Returns (of a call):
        Dict of `logits` and `probabilities`, float32 `(batch, classes)`;
        `score`, float32 `(batch,)`; `delegate`, bool `(batch,)`.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    >>> sorted(model(keras.ops.ones((2, 4))))
    ['delegate', 'logits', 'probabilities', 'score']
    """

    def __init__(self, student, gate, classes=None, **kwargs):
        super().__init__(**kwargs)
        self.student = student
        self.gate = gate
        self.classes = classes

    def call(self, inputs, training=False):
        outputs = as_float(self.student(inputs, training=training))
        score = self.gate(outputs)
        logits = self.gate.class_logits(
            outputs, self.classes or outputs.shape[-1]
        )
        return {
            "logits": logits,
            "probabilities": ops.softmax(logits, axis=-1),
            "score": score,
            "delegate": self.gate.delegate(score),
        }

"""Student and gate in one model, the graph of every export."""

from typing import TYPE_CHECKING, Any

import keras

from keras_cascade.feature_extractors import FeatureExtractors
from keras_cascade.utils.tensor_ops import Tensor, as_float

if TYPE_CHECKING:
    from keras_cascade.gates.gate import Gate


class StudentWithGate(keras.Model):
    """A student and its gate as one `keras.Model` with named outputs.

    Args:
        student: `keras.Model` from inputs to logits `(batch, classes)`.
        gate: `Gate`.
        classes: int, number of classes. Defaults to `None`: one per student
            output.
        keep_outputs: bool. Also returns the gate's inputs. Defaults to
            `False`.
        **kwargs: of `keras.Model`.

    Call arguments:
        inputs: inputs of the student, with a batch axis.
        training: bool. Runs the student in training mode. Defaults to
            `False`.

    Returns:
        Dict of `logits` and `probabilities`, float32 `(batch, classes)` (of
        another task than classes: `Task.answer_name`, in its shape);
        `score`, float32 `(batch,)`; `delegate`, bool `(batch,)`. With
        `keep_outputs` also `Gate.inputs_to_fit`: `student_outputs`, float32
        `(batch, outputs)`, and `features`, a dict of layer name to output,
        where the gate names layers.

    Example:

    >>> import keras
    >>> import keras_cascade as kc
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    >>> sorted(model(keras.ops.ones((2, 4))))
    ['delegate', 'logits', 'probabilities', 'score']
    """

    def __init__(
        self,
        student: keras.Model,
        gate: "Gate",
        classes: int | None = None,
        keep_outputs: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        # Inputs go to the student as they are, whatever the global policy.
        self.autocast = False
        self.student = student
        self.gate = gate
        self.classes = classes
        self.keep_outputs = keep_outputs
        self._features = FeatureExtractors(teacher=None, student=student)

    def call(self, inputs: Any, training: bool = False) -> dict[str, Tensor]:
        outputs, features = self._features.student(
            inputs, self.gate.student_layers, training
        )
        answer = self.answer(outputs, features)
        if self.keep_outputs:
            answer.update(self.gate.inputs_to_fit(outputs, features))
        return answer

    def answer(
        self, outputs: Tensor, features: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Computes the outputs that follow from the student's.

        Args:
            outputs: float tensor `(batch, outputs)`, of the student.
            features: dict of student layer name to output, where the gate
                names layers. Defaults to `None`.

        Returns:
            Dict of `logits`, `probabilities`, `score` and `delegate`.
        """
        outputs = as_float(outputs)
        score = self.gate(outputs, features=features or None)
        logits = self.gate.class_logits(
            outputs, self.classes or outputs.shape[-1]
        )
        answers = self.gate.answers(logits)
        return {
            "logits": logits,
            self.gate.answer_name: answers,
            "score": score,
            "delegate": self.gate.decide(score, answers),
        }

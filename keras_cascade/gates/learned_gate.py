"""Learned gate: trained to predict where delegating helps."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from keras_cascade.gates.gate import Gate
from keras_cascade.gates.gate_examples import GateExamples, select_features
from keras_cascade.gates.learned_gate_head import (
    MAX_OUTPUTS,
    fit_head,
    head_input_size,
    head_inputs,
)
from keras_cascade.utils.tensor_ops import Tensor, as_float

if TYPE_CHECKING:
    from keras_cascade.evaluation.example_results import ExampleResults

#: Student outputs from which inputs are computed at a time.
CHUNK_VALUES = 2**24


@keras.saving.register_keras_serializable("keras_cascade")
class LearnedGate(Gate):
    """Scores an example by the expected loss of accuracy on delegation.

    A small head estimates from the student's logits, and optionally from inner
    layers of the student, how likely each model is right:

    `score = P(student right) − P(teacher right)`

    At threshold 0 an example is kept if and only if delegating it is not
    expected to gain accuracy. `fit` trains the head, after the student, on
    examples of its own: neither those that the student was trained on, nor
    those that the threshold is calibrated on.

    Until it is fitted the gate acts as `MarginGate` does by default (its
    score is `margin − 0.5`), so that a cascade can be built and trained with
    it; calibrating or exporting it is an error until then.

    The head sees the student's five largest probabilities and their
    logarithms, the logarithms of all (of at most 256 classes; where there
    are more, it does not know which class is which, and
    `Cascade.fit_gate` keeps these inputs of an example and not its logits),
    and the features, all standardized. It has one hidden layer of tanh units
    and two sigmoid outputs.

    Source: arXiv 2307.02764 (post-hoc deferral).

    Args:
        student_layers: names of inner student layers whose flattened outputs
            the head looks at as well. Take small ones, such as a pooling
            layer. Defaults to `()`.
        hidden_units: int >= 1. Size of the head. Defaults to `16`.
        l2: float >= 0. Weight of the penalty on the head's squared weights,
            in units of one example (`alpha` of scikit-learn's
            `MLPClassifier`). Defaults to `10.0`.
        seed: int. Of the head's initial weights. Defaults to `0`.
        threshold: float. Defaults to `0.0`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.
        features: dict of the layers' outputs, batch first, where
            `student_layers` names some. Defaults to `None`.

    Returns:
        Float tensor of shape `(batch,)`, in [-1, 1]. Higher is surer.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> logits = np.random.default_rng(0).normal(size=(500, 3))
    >>> student_correct = logits[:, 0] > 0  # the student knows class 0
    >>> gate = kc.gates.LearnedGate()
    >>> gate = gate.fit((logits, student_correct, np.ones(500)))
    >>> scores = gate(np.array([[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]))
    >>> [round(float(score)) for score in scores]
    [0, -1]
    """

    def __init__(
        self,
        student_layers: Sequence[str] = (),
        hidden_units: int = 16,
        l2: float = 10.0,
        seed: int = 0,
        threshold: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(threshold=threshold, **kwargs)
        if isinstance(student_layers, str):
            raise ValueError(
                "Expected `student_layers` to be a list of layer names. "
                f"Received a string. Pass [{student_layers!r}]."
            )
        if not (isinstance(hidden_units, int) and hidden_units >= 1):
            raise ValueError(
                "Expected `hidden_units` to be an integer >= 1. Received: "
                f"{hidden_units!r}."
            )
        if not (np.isfinite(l2) and l2 >= 0):
            raise ValueError(
                f"Expected `l2` to be a finite number >= 0. Received: {l2!r}."
            )
        self.student_layers = tuple(student_layers)
        self.hidden_units = hidden_units
        self.l2 = float(l2)
        self.seed = seed

    def build(
        self,
        logits_shape: tuple[int | None, ...],
        features_shape: dict[str, tuple[int | None, ...]] | None = None,
    ) -> None:
        """Creates the head's weights for the shapes of its inputs."""
        self._add_weights(
            head_input_size(logits_shape[-1], features_shape or {})
        )

    def inputs_to_fit(
        self, outputs: Tensor, features: dict[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """Columns of `ExampleResults` that `fit` needs.

        Returns:
            Dict of `student_outputs` and `features`; of more than 256
            outputs, of `gate_inputs`, `(batch, inputs)`, which are computed
            from both.
        """
        if outputs.shape[-1] <= MAX_OUTPUTS:
            return super().inputs_to_fit(outputs, features)
        features = select_features(features, self.student_layers)
        return {"gate_inputs": head_inputs(as_float(outputs), features)}

    def _add_weights(self, inputs):
        for name, shape in (
            ("mean", (inputs,)),
            ("scale", (inputs,)),
            ("hidden_kernel", (inputs, self.hidden_units)),
            ("hidden_bias", (self.hidden_units,)),
            ("right_kernel", (self.hidden_units, 2)),
            ("right_bias", (2,)),
            ("fitted", ()),
        ):
            # `fit` sets them; the student's optimizer must not.
            weight = self.add_weight(
                shape=shape,
                dtype="float32",
                initializer="ones" if name == "scale" else "zeros",
                trainable=False,
                name=name,
            )
            setattr(self, f"_{name}", weight)
        self.built = True  # also where there was no `build`

    @property
    def fitted(self) -> bool:
        """True after `fit`; saved with the weights."""
        return self.built and bool(ops.convert_to_numpy(self._fitted))

    def check_ready(self) -> None:
        """Raises a `ValueError` if the gate is not fitted."""
        if not self.fitted:
            raise ValueError(
                "A learned gate must be fitted before it is calibrated or "
                "exported. Received one that is not. Call "
                "`cascade.fit_gate(data)` with labelled examples that are "
                "used neither to train the student nor to calibrate."
            )

    def fit(
        self, data: "ExampleResults | tuple[npt.ArrayLike, ...]"
    ) -> "LearnedGate":
        """Fits the head to held-out examples; the student is unchanged.

        Args:
            data: `keras_cascade.evaluation.ExampleResults` with
                `student_outputs` (and `features`, where `student_layers`
                names some) or `gate_inputs`, as `Cascade.fit_gate` makes it;
                or a tuple of arrays `(student_outputs, student_correct,
                teacher_correct)`.

        Returns:
            The gate itself.

        Raises:
            ValueError: NaN, probabilities in place of logits, fewer than 20
                examples; or nothing to learn, because each model is always
                right or always wrong. The head is then left as it was.
        """
        examples = GateExamples.from_data(data, self.student_layers)
        inputs = examples.gate_inputs
        outputs_shape, features_shape = examples.shapes()
        if inputs is None:
            inputs = np.concatenate(
                [
                    ops.convert_to_numpy(head_inputs(outputs, features))
                    for outputs, features in examples.chunks(
                        max(1, CHUNK_VALUES // outputs_shape[1])
                    )
                ]
            )
        self._check_size(inputs.shape[1])
        head = fit_head(
            inputs,
            examples.student_correct,
            examples.teacher_correct,
            examples.weight,
            hidden_units=self.hidden_units,
            l2=self.l2,
            seed=self.seed,
        )
        if not self.built and examples.gate_inputs is None:
            self.build(outputs_shape, features_shape or None)
        elif not self.built:
            self._add_weights(inputs.shape[1])
        for name, values in head.items():
            getattr(self, f"_{name}").assign(values)
        self._fitted.assign(1.0)
        return self

    def score(
        self, logits: Tensor, features: dict[str, Tensor] | None = None
    ) -> Tensor:
        inputs = head_inputs(
            logits, select_features(features, self.student_layers)
        )
        hidden = ops.matmul(
            (inputs - self._mean) / self._scale, self._hidden_kernel
        )
        right = ops.sigmoid(
            ops.matmul(ops.tanh(hidden + self._hidden_bias), self._right_kernel)
            + self._right_bias
        )
        return ops.where(
            self._fitted > 0,
            right[:, 0] - right[:, 1],
            # The two largest probabilities come first.
            inputs[:, 0] - inputs[:, 1] - 0.5,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "student_layers": list(self.student_layers),
            "hidden_units": self.hidden_units,
            "l2": self.l2,
            "seed": self.seed,
        }

    def _check_size(self, size):
        if self.built and size != self._mean.shape[0]:
            raise ValueError(
                f"The gate's head has {self._mean.shape[0]} inputs. Received "
                f"examples that give {size}: of another student, or other "
                "features. Make a new gate for another student."
            )

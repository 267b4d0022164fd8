"""Base class of gates."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import keras
import numpy as np
from keras import ops

from keras_cascade.utils.constructor_repr import constructor_repr
from keras_cascade.utils.tensor_ops import (
    Tensor,
    as_float,
    threshold_of_predicted,
)


class Gate(keras.layers.Layer):
    """Base class of gates: scores confidence and decides what is delegated.

    A gate maps student logits to one float per example, **higher = surer**.
    An example is delegated to the teacher when `score < threshold` and kept
    when `score >= threshold`; a score that is not a number is delegated.

    A subclass implements `score(logits)`. Scores are computed in float32,
    whatever the student's precision, with operations that TFLite has built
    in. A gate that must be fitted to data first has a method `fit`, and
    `check_ready` says whether that was done.

    There is one threshold, or one for each class that the student predicts
    (`class_thresholds`), which `Cascade.calibrate(..., per_class=True)` sets.

    Args:
        threshold: finite float. The starting threshold, until calibration
            sets another. Defaults to the class's `default_threshold`.
        class_thresholds: list of finite floats, one for each class, in the
            place of `threshold`. Defaults to `None`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.
        features: dict of student layer name to tensor, batch first, for a
            gate that names `student_layers`. Defaults to `None`.

    Returns:
        Float tensor of shape `(batch,)`.
    """

    default_threshold = 0.0

    #: Dict from a key of a policy's `gate_defaults()` to the constructor
    #: argument that takes its value, for a gate made by name.
    takes_defaults: ClassVar[dict[str, str]] = {}

    #: `keras_cascade.tasks.Task`, or `None`: one class per example.
    task: Any = None

    #: Name of the answers in predictions.
    if TYPE_CHECKING:  # a subclass may have an attribute or a property

        @property
        def answer_name(self) -> str: ...
    else:
        answer_name = "probabilities"

    #: Names of inner student layers whose outputs the gate reads. A gate
    #: that names some implements `score(logits, features)`.
    student_layers: tuple[str, ...] = ()

    def __init__(
        self,
        threshold: float | None = None,
        class_thresholds: Sequence[float] | None = None,
        **kwargs: Any,
    ):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if threshold is None:
            threshold = self.default_threshold
        # A weight, so that a new threshold needs no retracing and is saved
        # with the model.
        self._threshold = self.add_weight(
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(_checked(threshold)),
            trainable=False,
            name="threshold",
        )
        # A constant of the graph: a tuple, which Keras does not track.
        self._class_thresholds: tuple[float, ...] | None = None
        if class_thresholds is not None:
            self.class_thresholds = class_thresholds

    @property
    def threshold(self) -> float:
        """Threshold of the comparison, a float32 value.

        With `class_thresholds` the highest of them; setting it makes it the
        threshold of every class again.
        """
        return float(ops.convert_to_numpy(self._threshold))

    @threshold.setter
    def threshold(self, value: float) -> None:
        self._threshold.assign(_checked(value))
        self._class_thresholds = None

    @property
    def class_thresholds(self) -> tuple[float, ...] | None:
        """Threshold for each class that the student predicts, or `None`.

        They are constants of a compiled function, not weights. A `Cascade`
        compiles anew where they change.
        """
        return self._class_thresholds

    @class_thresholds.setter
    def class_thresholds(self, values: Sequence[float]) -> None:
        thresholds = tuple(_checked(value) for value in values)
        if len(thresholds) < 2:
            raise ValueError(
                "Expected `class_thresholds` with a number for each class. "
                f"Received: {values!r}."
            )
        self.threshold = max(thresholds)
        self._class_thresholds = thresholds

    @property
    def decision_threshold(self) -> float | tuple[float, ...]:
        """The threshold, or a tuple of one for each predicted class."""
        return self._class_thresholds or self.threshold

    @decision_threshold.setter
    def decision_threshold(self, value: float | Sequence[float]) -> None:
        if np.ndim(value):
            self.class_thresholds = cast("Sequence[float]", value)
        else:
            self.threshold = cast("float", value)

    def score(self, logits: Tensor) -> Tensor:
        """Confidence score of each example.

        Args:
            logits: float tensor of shape `(batch, classes)`.

        Returns:
            Float tensor of shape `(batch,)`; higher = surer.
        """
        raise NotImplementedError(f"{type(self).__name__}.score")

    def call(
        self, logits: Tensor, features: dict[str, Tensor] | None = None
    ) -> Tensor:
        if self.student_layers:
            score: Callable[..., Tensor] = self.score  # of two arguments
            return score(as_float(logits), features)
        return self.score(as_float(logits))

    def check_ready(self) -> None:
        """Raises a `ValueError` if the gate must be fitted first."""

    def inputs_to_fit(
        self, outputs: Tensor, features: dict[str, Tensor] | None = None
    ) -> dict[str, Any]:
        """Columns of `ExampleResults` that a fit of this gate needs.

        Args:
            outputs: float tensor of shape `(batch, student outputs)`.
            features: dict of student layer name to tensor. Defaults to
                `None`.

        Returns:
            Dict of `student_outputs` and, where the gate names layers,
            `features`.
        """
        columns = {"student_outputs": as_float(outputs)}
        return {**columns, "features": features} if features else columns

    def class_logits(self, logits: Tensor, classes: int) -> Tensor:
        """Converts the student's outputs to logits over all classes.

        Args:
            logits: float tensor of shape `(batch, student outputs)`.
            classes: int, number of classes.

        Returns:
            Float tensor of shape `(batch, classes)`: here `logits` itself.
        """
        if logits.shape[-1] != classes:
            raise ValueError(
                f"{type(self).__name__} expects a student with one logit a "
                f"class, {classes}. Received {logits.shape[-1]} outputs. An "
                "abstain student needs gate='abstain'."
            )
        return logits

    def answers(self, logits: Tensor) -> Tensor:
        """Converts logits, of student or teacher, to answers.

        Args:
            logits: float tensor of shape `(batch, classes)`, as
                `class_logits` returns them.

        Returns:
            Float tensor of the same shape: here their softmax.
        """
        return ops.softmax(logits, axis=-1)

    def delegate(
        self, score: Tensor, probabilities: Tensor | None = None
    ) -> Tensor:
        """Decides which examples are delegated.

        Args:
            score: float tensor of shape `(batch,)`.
            probabilities: float tensor of shape `(batch, classes)`, of the
                student; needed with `class_thresholds`. Defaults to `None`.

        Returns:
            Boolean tensor of shape `(batch,)`: true where delegated.
        """
        threshold = ops.cast(self._threshold, score.dtype)
        if self._class_thresholds is not None:
            if probabilities is None:
                raise ValueError(
                    "A gate with a threshold for each class decides by the "
                    "class that the student predicts. Expected: "
                    "`delegate(score, probabilities)`. Received no "
                    "probabilities."
                )
            threshold = threshold_of_predicted(
                probabilities, self._class_thresholds
            )
        keep = ops.greater_equal(score, threshold)
        # Graph optimizers turn `not (a >= b)` into `a < b`, which would keep
        # a score that is not a number.
        return ops.less(ops.cast(keep, "float32"), 0.5)

    @property
    def takes_probabilities(self) -> bool:
        """`True` where `decide` needs the student's probabilities.

        So it is with `class_thresholds`, and where a subclass has its own
        `delegate(score, probabilities)`.
        """
        kind = type(self)
        if kind.delegate is Gate.delegate:
            return self._class_thresholds is not None
        return _arguments_of(kind.delegate) > 1

    def decide(
        self, score: Tensor, probabilities: Tensor | None = None
    ) -> Tensor:
        """Calls `delegate`, with the probabilities where it takes them.

        A subclass's own `delegate(score)` decides by the score alone, and
        has no thresholds per class.

        Args:
            score: as in `delegate`.
            probabilities: as in `delegate`.

        Returns:
            Boolean tensor of shape `(batch,)`: true where delegated.

        Raises:
            ValueError: there are class thresholds, and `delegate` takes no
                probabilities.
        """
        if self.takes_probabilities:
            return self.delegate(score, probabilities)
        if self._class_thresholds is not None:
            raise ValueError(
                f"Expected `{type(self).__name__}.delegate(score, "
                "probabilities)`, as this gate has a threshold for each class "
                "that the student predicts. Received one of `score` alone: "
                "add the argument, or calibrate without `per_class=True`."
            )
        return self.delegate(score)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return (input_shape[0],)

    def get_config(self) -> dict[str, Any]:
        config = {**super().get_config(), "threshold": self.threshold}
        # A gate of the user's own may not take it.
        if self._class_thresholds is not None:
            config["class_thresholds"] = list(self._class_thresholds)
        return config

    def __repr__(self):
        return constructor_repr(self)


@functools.cache
def _arguments_of(method):
    """Number of positional arguments that a method takes after `self`."""
    kinds = [one.kind for one in inspect.signature(method).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 2
    named = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
    return sum(kind not in named for kind in kinds) - 1


def _checked(threshold):
    value = np.float32(threshold)
    if not np.isfinite(value):
        raise ValueError(
            "A gate's threshold must be a finite float32. Received: "
            f"{threshold!r}. To keep or delegate everything, use "
            "`numpy.finfo('float32').min` or `.max`."
        )
    return float(value)

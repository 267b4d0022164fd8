"""Base class of gates that score a softmax with a temperature."""

import numbers
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import scipy.optimize
import scipy.special
from keras import ops

from keras_cascade.gates.gate import Gate
from keras_cascade.gates.gate_examples import (
    check_enough,
    check_logits_to_fit,
    check_weight_to_fit,
    flattened,
)
from keras_cascade.gates.grouped_logits import GroupedLogits
from keras_cascade.utils.tensor_ops import Tensor
from keras_cascade.utils.validation import check_labels

#: Temperatures above so many typical differences of logits are not looked for.
REACH = 1e4
#: Of more classes, the logits of an example are kept in groups.
MANY_CLASSES = 256


class TemperatureGate(Gate):
    """Base class of gates that score `logits / temperature`.

    The temperature is set by hand, or fitted by `fit_temperature`. It is a
    weight that training leaves alone: a new one needs no retracing and is
    saved with the model.

    Args:
        temperature: finite float > 0. Divides the logits before the softmax.
            Defaults to `1.0`.
        threshold: float. Defaults to the class's `default_threshold`.
        **kwargs: of `keras.layers.Layer`.

    Call arguments:
        logits: float tensor of shape `(batch, classes)`, `classes >= 2`.

    Returns:
        Float tensor of shape `(batch,)`.

    Example:

    >>> import keras_cascade as kc
    >>> gate = kc.gates.MaxProbabilityGate(temperature=2.0)
    >>> gate.temperature = 4.0
    >>> gate.temperature
    4.0
    """

    def __init__(
        self,
        temperature: float = 1.0,
        threshold: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(threshold=threshold, **kwargs)
        self._temperature = self.add_weight(
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(_checked(temperature)),
            trainable=False,
            name="temperature",
        )

    @property
    def temperature(self) -> float:
        """Temperature that divides the logits, a float32 value."""
        return float(ops.convert_to_numpy(self._temperature))

    @temperature.setter
    def temperature(self, value: float) -> None:
        self._temperature.assign(_checked(value))

    def fit_temperature(
        self,
        outputs: "npt.ArrayLike | GroupedLogits",
        labels: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> float:
        """Fits the temperature to labelled examples by maximum likelihood.

        Minimises the mean negative log likelihood of the labels under
        `softmax(outputs / T)` over T > 0. Classes that are masked by very low
        logits, such as -1e9, and single rows of very large ones leave the
        optimum where the likelihood has it. Calibrate the threshold again
        afterwards: scores at another temperature are other scores.

        Source: Guo et al., arXiv 1706.04599 (temperature scaling).

        Args:
            outputs: float array of shape `(examples, classes)`: the
                student's logits on examples that it was not trained on. On
                its training examples a student is surer than elsewhere, and
                the temperature would come out too low. Of many classes
                `GroupedLogits`, as `Cascade.judge(keep_outputs=True)` keeps
                them.
            labels: int array of shape `(examples,)`, the right classes.
            sample_weight: float array of shape `(examples,)`. Defaults to
                `None`: all count the same.

        Returns:
            The temperature, a float.

        Raises:
            ValueError: probabilities in place of logits, NaN, labels out of
                range or all the same, fewer than 20 examples; or no finite
                temperature is best, because the student is right on every
                example, or no more often than chance. The temperature is
                then left as it was.

        Example:

        >>> import numpy as np
        >>> import keras_cascade as kc
        >>> logits = np.tile([[3.0, 0.0], [0.0, 3.0]], (10, 1))
        >>> labels = np.tile([0, 1], 10)
        >>> labels[:5] = 1 - labels[:5]  # right 3 times in 4
        >>> gate = kc.gates.MarginGate()
        >>> gate.fit_temperature(logits, labels)  # 3 / ln 3
        2.7307
        """
        self.temperature = best_temperature(outputs, labels, sample_weight)
        return self.temperature

    def outputs_to_keep(
        self, outputs: np.ndarray, labels: np.ndarray
    ) -> "np.ndarray | GroupedLogits":
        """Reduces a batch of student outputs to what `fit_temperature` needs.

        Args:
            outputs: float array `(batch, classes)`.
            labels: int array `(batch,)`, the right classes.

        Returns:
            `outputs`; of more than 256 classes, `GroupedLogits`.
        """
        if outputs.shape[1] <= MANY_CLASSES:
            return outputs
        return GroupedLogits.of(outputs, labels)

    def tempered(self, logits: Tensor) -> Tensor:
        """Returns `(logits − top logit) / temperature`, free of overflow."""
        temperature = ops.cast(self._temperature, logits.dtype)
        return (logits - ops.max(logits, axis=-1, keepdims=True)) / temperature

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


def _checked(temperature):
    value = np.float32(0.0)
    if isinstance(temperature, (numbers.Real, np.ndarray)):
        with np.errstate(over="ignore"):
            value = np.float32(temperature)
    if not (np.isfinite(value) and value >= np.finfo("float32").tiny):
        raise ValueError(
            "`temperature` divides the logits. Expected: a finite float32 "
            f"number > 0. Received: {temperature!r}."
        )
    return float(value)


def best_temperature(outputs, labels, sample_weight=None):
    """Temperature that minimises the negative log likelihood of `labels`.

    With b = 1 / T, `NLL(b) = mean_i(logsumexp(b·z_i) − b·z_i[label_i])` is
    convex, because its second derivative is the mean variance of z_i under
    softmax(b·z_i). Its slope

        NLL'(b) = mean_i(Σ_k p_ik·z_ik − z_i[label_i]),  p_i = softmax(b·z_i),

    therefore rises and has one root where it is below 0 for a small b and the
    student is not right on every example. The root is bracketed by factors
    of 10 and found along log b. The scale of the search is the median
    distance of the two highest logits, on which outliers and masked classes
    (-1e9) have no influence.

    Args:
        outputs: float array `(examples, classes)` of logits `z`, or
            `GroupedLogits` of these labels.
        labels: int array `(examples,)`.
        sample_weight: float array `(examples,)` or `None`.

    Returns:
        float.
    """
    grouped = isinstance(outputs, GroupedLogits)
    if grouped:
        check_enough(outputs)
    else:
        outputs = check_logits_to_fit(outputs)
    rows, classes = outputs.shape
    labels = check_labels(flattened(labels), rows, classes)
    weight = check_weight_to_fit(sample_weight, rows)
    counted = weight > 0
    outputs, labels, weight = outputs[counted], labels[counted], weight[counted]
    _check_varied(labels)
    logits = outputs if grouped else _DenseLogits(outputs, labels)
    right = logits.label_logits.astype("float64")
    _check_some_are_wrong(right)
    size = float(np.median(-logits.gaps[logits.gaps > -np.inf]))

    def slope(log_inverse):
        mean = logits.mean_logits(np.exp(log_inverse) / size)
        return np.average((mean - right) / size, weights=weight)

    low, high = -np.log(REACH), 0.0
    if slope(low) >= 0:
        raise ValueError(_no_better_than_chance(right, counted))
    while slope(high) <= 0:
        high += np.log(10.0)
    root = scipy.optimize.brentq(slope, low, high, xtol=1e-12)
    return float(size * np.exp(-root))


class _DenseLogits:
    """All logits of each row, as `GroupedLogits` has those of many classes.

    Args:
        logits: float array `(rows, classes)`.
        labels: int array `(rows,)`.
    """

    def __init__(self, logits, labels):
        # `NLL(T)` depends on differences of logits; the largest becomes 0.
        logits = logits.astype("float64")
        logits -= logits.max(axis=1, keepdims=True)
        self._logits = logits
        self.label_logits = logits[np.arange(len(logits)), labels]
        # The smallest distance above 0 of each row that has one.
        self.gaps = np.where(logits < 0, logits, -np.inf).max(axis=1)

    def mean_logits(self, inverse):
        """Mean logit of each row under `softmax(inverse * logits)`."""
        share = scipy.special.softmax(self._logits * inverse, axis=1)
        # A class without a share counts for nothing, however low its logit.
        return np.where(share > 0, share * self._logits, 0.0).sum(axis=1)


def _check_varied(labels):
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "Fitting a temperature needs labels of at least two classes. "
            f"Received: class {labels[0]} only. Draw the examples from all "
            "classes."
        )


def _check_some_are_wrong(right):
    if (right == 0).all():
        raise ValueError(
            "No temperature is best: the student is right on every one of "
            f"the {len(right)} examples, so the lower the temperature, the "
            "likelier the labels. Expected: examples of which it gets some "
            "wrong. Pass more held-out examples, and none that the student "
            "was trained on."
        )


def _no_better_than_chance(right, counted):
    """Error message where the likelihood rises with the temperature."""
    row = int(right.argmin())
    index, miss = np.flatnonzero(counted)[row], -right[row]
    typical = float(np.median(-right[right < 0]))
    outlier = ""
    if miss > REACH * typical:
        outlier = (
            f" Example {index} alone is wrong by {miss:.4g}, the typical "
            f"one by {typical:.4g}: look at it first."
        )
    return (
        "No temperature is best: the right class's logit is on average "
        "no higher than the others, so the higher the temperature, the "
        "likelier the labels. Expected: logits that tell classes apart. "
        "Check that outputs and labels belong to the same examples, and "
        f"train the student first.{outlier}"
    )

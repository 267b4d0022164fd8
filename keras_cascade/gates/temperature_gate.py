"""The base class of gates that look at a tempered softmax."""

import numbers

import keras
import numpy as np
from keras import ops

from keras_cascade.gates.gate import Gate
from keras_cascade.gates.temperature_scaling import best_temperature


class TemperatureGate(Gate):
    """A gate whose score is computed from `logits / temperature`.

    The temperature is set by hand, or fitted by `fit_temperature`. It is a
    weight that training leaves alone: a new one needs no retracing and is
    saved with the model.

    Args:
        temperature: finite float > 0. Divides the logits before the softmax.
            Defaults to `1.0`.
        threshold: float. Defaults to the class's `default_threshold`.
        **kwargs: of `keras.layers.Layer`.

    Example:

    >>> import keras_cascade as kc
    >>> gate = kc.gates.MaxProbabilityGate(temperature=2.0)
    >>> gate.temperature = 4.0
    >>> gate.temperature
    4.0
    """

    def __init__(self, temperature=1.0, threshold=None, **kwargs):
        super().__init__(threshold=threshold, **kwargs)
        self._temperature = self.add_weight(
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(_checked(temperature)),
            trainable=False,
            name="temperature",
        )

    @property
    def temperature(self):
        """The temperature in use, exactly as it divides (float32)."""
        return float(ops.convert_to_numpy(self._temperature))

    @temperature.setter
    def temperature(self, value):
        self._temperature.assign(_checked(value))

    def fit_temperature(self, outputs, labels, sample_weight=None):
        """Sets the temperature under which the labels are likeliest.

        Minimises the mean negative log likelihood of the labels under
        `softmax(outputs / T)` over T > 0. Calibrate the threshold again
        afterwards: scores at another temperature are other scores.

        Source: Guo et al., arXiv 1706.04599 (temperature scaling).

        Args:
            outputs: float array of shape `(examples, classes)`: the
                student's logits on examples that it was not trained on. On
                its training examples a student is surer than elsewhere, and
                the temperature would come out too low.
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

    def tempered(self, logits):
        """`(logits − top logit) / temperature`: at most 0, never overflows."""
        temperature = ops.cast(self._temperature, logits.dtype)
        return (logits - ops.max(logits, axis=-1, keepdims=True)) / temperature

    def get_config(self):
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

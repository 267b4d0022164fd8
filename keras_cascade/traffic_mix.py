"""Traffic mixes: class frequencies in deployment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from keras_cascade.datasets.labelled_data import LabelledData
    from keras_cascade.evaluation import ExampleResults

from keras_cascade.utils.validation import check_frequencies, check_labels


class TrafficMix:
    """Class frequencies in deployment.

    A data set has its own class frequencies; the deployment has others.
    `TrafficMix` turns one into the other: an example of class c gets the
    weight `traffic frequency of c / data frequency of c`, scaled so that the
    weights of the data average 1.

    Args:
        frequencies: dict of class to frequency, or an array with one
            frequency per class. Non-negative; they need not sum to 1. A class
            that a dict leaves out does not come. Defaults to `None`, with
            `example_weights`.
        example_weights: float array `(examples,)`, non-negative: how often
            each example of one data set comes, for traffic that classes do
            not describe. Defaults to `None`, with `frequencies`.

    Example:

    >>> import keras_cascade as kc
    >>> mix = kc.TrafficMix({0: 0.8, 1: 0.2})
    >>> mix.weights([0, 1, 1, 1]).round(3).tolist()
    [3.2, 0.267, 0.267, 0.267]
    """

    def __init__(
        self,
        frequencies: dict | npt.ArrayLike | None = None,
        example_weights: npt.ArrayLike | None = None,
    ) -> None:
        if (frequencies is None) == (example_weights is None):
            raise ValueError(
                "Expected either `frequencies` or `example_weights`. "
                "Received: " + ("none" if frequencies is None else "both") + "."
            )
        self.frequencies: np.ndarray | None = None
        self.example_weights: np.ndarray | None = None
        if example_weights is not None:
            self.example_weights = check_frequencies(example_weights, "example")
            return
        values: Any = frequencies
        if isinstance(frequencies, dict):
            classes = [_class_number(number) for number in frequencies]
            values = np.zeros(1 + max(classes, default=-1))
            values[classes] = list(frequencies.values())
        values = check_frequencies(values, "class")
        self.frequencies = values / values.sum()

    def __repr__(self) -> str:
        if self.frequencies is None:
            weights = cast("np.ndarray", self.example_weights)
            return f"TrafficMix of {len(weights):,} examples"
        shares = {
            number: round(float(share), 4)
            for number, share in enumerate(self.frequencies)
            if share
        }
        return f"TrafficMix({shares})"

    def class_weights(
        self,
        labels: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> np.ndarray:
        """Weight of each class, for data with these labels.

        Args:
            labels: integer array `(examples,)`.
            sample_weight: float array `(examples,)`, the examples' own
                weights, which these multiply. Defaults to `None`.

        Returns:
            float64 array `(classes,)`; 0 for a class that the mix leaves out.

        Raises:
            ValueError: a class has traffic but no example.
        """
        if self.frequencies is None:
            raise ValueError(
                "Expected a mix of class frequencies. Received: a mix of "
                "example weights; use `weights`."
            )
        labels = check_labels(labels)
        known = len(self.frequencies)
        counts = np.bincount(labels, weights=sample_weight, minlength=known)
        frequencies = np.pad(self.frequencies, (0, len(counts) - known))
        missing = np.flatnonzero((frequencies > 0) & (counts == 0))
        if missing.size:
            raise ValueError(
                "Expected examples of every class that has traffic. Received "
                f"none of the classes {missing[:10].tolist()}."
            )
        share = counts / counts.sum()
        return np.divide(
            frequencies, share, out=np.zeros(len(counts)), where=share > 0
        )

    def weights(
        self,
        labels: npt.ArrayLike,
        sample_weight: npt.ArrayLike | None = None,
    ) -> np.ndarray:
        """Weight of each example.

        Args:
            labels: integer array `(examples,)`.
            sample_weight: float array `(examples,)`, the examples' own
                weights, to be multiplied in: classes then come as the mix
                says, and examples of one class as their weights say.
                Defaults to `None`.

        Returns:
            float64 array `(examples,)`, with mean 1.
        """
        labels = check_labels(labels)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight, "float64").reshape(-1)
        if self.frequencies is not None:
            weights = self.class_weights(labels, sample_weight)[labels]
        else:
            weights = cast("np.ndarray", self.example_weights)
            if len(labels) != len(weights):
                raise ValueError(
                    f"Expected the {len(weights)} examples that the "
                    f"mix has weights for. Received: {len(labels)}."
                )
        if sample_weight is not None:
            weights = weights * sample_weight
        return weights / weights.mean()

    def applied_to_validation(self, data: LabelledData) -> LabelledData:
        """Validation data weighted by this traffic.

        Args:
            data: `LabelledData`, arrays with labels.

        Returns:
            `LabelledData`.

        Raises:
            ValueError: a mix of example weights, which are of the training
                examples, or batches.
        """
        if self.frequencies is None or not data.is_arrays:
            raise ValueError(
                "Expected `validation_data` that `traffic` can weight: arrays "
                "`(x, y)`, with a mix of class frequencies. Received: "
                + ("batches" if self.frequencies is not None else repr(self))
                + ". Give both data sets weights of their own, "
                "`sample_weight` and `(x, y, weights)`, without `traffic`."
            )
        return data.weighted(self)

    def applied_to(self, results: ExampleResults) -> ExampleResults:
        """Results weighted by this traffic.

        Args:
            results: `keras_cascade.evaluation.ExampleResults` with `labels`.

        Returns:
            `ExampleResults`, with the mix multiplied into `sample_weight`.
        """
        return dataclasses.replace(
            results,
            sample_weight=self.weights(
                cast("np.ndarray", results.labels), results.sample_weight
            ),
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, as JSON-compatible values."""
        config = {
            "frequencies": self.frequencies,
            "example_weights": self.example_weights,
        }
        return {k: v.tolist() for k, v in config.items() if v is not None}


def _class_number(number):
    try:
        whole = int(number)
    except (TypeError, ValueError):
        whole = -1
    if whole < 0 or whole != float(number):
        raise ValueError(
            "Expected classes as integers >= 0, as in the labels. Received: "
            f"{number!r}."
        )
    return whole

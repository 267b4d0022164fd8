"""Base class of calibration objectives."""

import copy
import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy import stats

from keras_cascade.utils.constructor_repr import constructor_repr
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample

#: Why nothing can be guaranteed where weights leave no example.
NONE_COUNTED = (
    "the weights leave no calibration example to count, because each is kept "
    "with the probability `weight / max_weight` only. Expected: weights that "
    "come close to the largest one, `max_weight`. Collect more examples, or "
    "pass the largest weight that can really come."
)

#: Ends an error message that names a limit which these examples show.
CHOSEN_AFTERWARDS = (
    "A limit that is chosen by looking at these examples spends their "
    "confidence: decide it beforehand, or calibrate on other examples."
)

#: No calibration set of realistic size shows smaller error probabilities.
MIN_ERROR = 1e-6


class Objective:
    """Condition that the calibrated threshold must meet.

    Without a confidence an objective is empirical: it holds on the
    calibration examples and guarantees nothing about new ones. With
    `confidence=0.95` it is a guarantee about new examples of the same kind:
    calibration draws for which the chosen threshold breaks it come with a
    probability of at most 0.05, whatever the models. It takes for granted
    that the examples were drawn independently, that nothing was chosen on
    them before (not the objective or its limit, not one of several operating
    points, not the `seed` of the rejection), and, with weights, that no
    weight in deployment is above the largest one seen.

    A subclass implements `meets(sample)` and `error_message(sample)`.

    Args:
        confidence: float in (0, 1), or `None`. Defaults to `None`.
    """

    #: The guaranteed quantity, as `OperatingPoint.guarantees` names it.
    quantity: str | None = None

    #: `"at_most"` or `"at_least"`, the side on which the quantity is limited.
    side: str | None = None

    #: Name of the constructor argument, and attribute, that holds the limit.
    limit: str | None = None

    #: True if the objective delegates as much as it allows, not as little.
    spends_budget = False

    #: True if it limits a mean over all examples: where the examples of each
    #: predicted class meet it, all together do.
    splits_over_classes = False

    #: `"delegate"` or `"keep"` where doing so with every example meets the
    #: objective whatever the models are; otherwise `None`.
    certain: str | None = None

    def __init__(self, confidence: float | None = None):
        if confidence is not None:
            confidence = check_number("confidence", confidence, 0.0, 1.0)
            if not MIN_ERROR <= 1.0 - confidence < 1.0:
                raise ValueError(
                    "Expected `confidence` above 0 and at most "
                    f"{1 - MIN_ERROR}, such as 0.95, or None. Received: "
                    f"{confidence!r}."
                )
        self.confidence = confidence

    @property
    def error(self) -> float:
        """Error probability of the guarantee, `1 - confidence`."""
        return round(1.0 - cast("float", self.confidence), 12)

    def check_sample(self, sample: "CalibrationSample") -> None:
        """Raises a `ValueError` where the examples lack what it is about.

        Args:
            sample: `CalibrationSample` of all calibration examples.
        """

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        """Evaluates every candidate threshold.

        Args:
            sample: `CalibrationSample`.

        Returns:
            Boolean array `(candidates,)`: true where the objective is met.
        """
        raise NotImplementedError(f"{type(self).__name__}.meets")

    def error_message(self, sample: "CalibrationSample") -> str:
        """Error message where no candidate meets the objective.

        Args:
            sample: `CalibrationSample`.
        """
        raise NotImplementedError(f"{type(self).__name__}.error_message")

    def choose(self, sample: "CalibrationSample") -> int:
        """Chooses the candidate to use.

        Args:
            sample: `CalibrationSample`.

        Returns:
            int, index of the candidate.

        Raises:
            ValueError: no candidate meets the objective.
        """
        met = np.flatnonzero(self.meets(sample))
        if met.size == 0:
            raise ValueError(self.error_message(sample))
        return int(met[0])

    def guarantees(
        self, sample: "CalibrationSample | None" = None
    ) -> list[dict[str, Any]]:
        """Guarantees about new examples; none without a confidence.

        Args:
            sample: `CalibrationSample` that the threshold was chosen on, for
                an objective whose guarantee depends on it. Defaults to
                `None`: what is asked for.

        Returns:
            List of dicts with `quantity`, `at_most` or `at_least`, and
            `confidence`, as `OperatingPoint.guarantees` holds them.
        """
        if self.confidence is None or self.quantity is None:
            return []
        return [
            {
                "quantity": self.quantity,
                cast("str", self.side): getattr(self, cast("str", self.limit)),
                "confidence": self.confidence,
            }
        ]

    def tested_examples(self, sample: "CalibrationSample") -> float:
        """Number of unweighted examples that the guarantee rests on.

        Args:
            sample: `CalibrationSample`.
        """
        return float(sample.trials)

    def with_error_split(self, parts: int) -> "Objective":
        """Copy with a `parts`-th of the error, for one of several guarantees.

        By the union bound all of `parts` such guarantees hold together with
        the objective's own confidence, however they depend on each other. An
        objective without a confidence stays as it is.

        Args:
            parts: int >= 1.

        Example:

        >>> import keras_cascade as kc
        >>> kc.MaxAccuracyDrop(0.01, confidence=0.95).with_error_split(5)
        MaxAccuracyDrop(0.01, confidence=0.99)
        """
        split = copy.copy(self)
        if self.confidence is not None:
            split.confidence = round(1.0 - self.error / parts, 12)
        return split

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON-compatible values."""
        return {"confidence": self.confidence}

    def describe(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict of `class_name` and `config`."""
        return {
            "class_name": type(self).__name__,
            "config": self.get_config(),
        }

    def __repr__(self):
        return constructor_repr(self)


def attainable_limit(correct, trials, error):
    """Highest accuracy that a count shows, rounded down to what is printed.

    Clopper and Pearson's lower limit.
    """
    if not correct:
        return 0.0
    lower = stats.beta.ppf(error, correct, trials - correct + 1)
    return math.floor(1e4 * lower) / 1e4


def attainable_accuracy(curve):
    """Describes the attainable accuracies in one sentence."""
    best = int(curve.accuracy.argmax())
    return (
        f"Attainable on these {curve.examples} calibration examples: at best "
        f"accuracy {curve.accuracy[best]:.4f}, at delegation rate "
        f"{curve.delegation_rate[best]:.4f} (student alone "
        f"{curve.student_accuracy:.4f}, teacher alone "
        f"{curve.teacher_accuracy:.4f})."
    )


def attainable_loss(curve):
    """Describes the attainable mean losses in one sentence."""
    best = int(curve.accuracy.argmax())
    return (
        f"Attainable on these {curve.examples} calibration examples: at best "
        f"a mean loss of {1 - curve.accuracy[best]:.4f}, at delegation rate "
        f"{curve.delegation_rate[best]:.4f} (student alone "
        f"{1 - curve.student_accuracy:.4f}, teacher alone "
        f"{1 - curve.teacher_accuracy:.4f})."
    )


class QualityObjective(Objective):
    """Base class of objectives on the mean of all examples' qualities.

    An example's quality is 1 where its answer is right and 0 where it is
    wrong, or a fraction, 1 less its loss. A loss that is a fraction is tested
    with the weights in the bet, not on examples drawn by rejection.
    """

    splits_over_classes = True

    def tested_examples(self, sample: "CalibrationSample") -> float:
        if sample.is_fractional:
            return sample.effective_examples
        return super().tested_examples(sample)

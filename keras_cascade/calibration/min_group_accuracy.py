"""Objective: a least accuracy in every group of examples."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from keras_cascade.calibration.exact_tests import (
    fixed_sequence_test,
    least_needed,
)
from keras_cascade.calibration.guarantees import (
    names_of_groups,
    sorted_groups,
)
from keras_cascade.calibration.min_accuracy import accuracy_error_message
from keras_cascade.calibration.objective import (
    CHOSEN_AFTERWARDS,
    Objective,
    attainable_limit,
)
from keras_cascade.calibration.quality_tests import (
    loss_error_message,
    loss_guaranteed,
)
from keras_cascade.utils.validation import check_number

if TYPE_CHECKING:
    from keras_cascade.calibration.calibration_sample import CalibrationSample


class MinGroupAccuracy(Objective):
    """Lowest delegation rate with a least accuracy in every group.

    With a confidence every floor is guaranteed of new examples of its group,
    all of them together: at each threshold every group must pass the exact
    binomial test (an intersection-union test, which needs no correction for
    the number of groups, as long as the floors were fixed beforehand). Where
    qualities are fractions, each group has a bet on its mean.

    The guarantee names its groups: those of the calibration examples. Which
    these are is no choice of the threshold, so that the tests hold given the
    groups. A group without calibration examples is guaranteed nothing; where
    the number of classes is known, as in `Cascade.calibrate`, an absent class
    is refused.

    Args:
        groups: `"class"`, for one group per class (by the right label); or an
            array with the group of each calibration example, integers or
            strings.
        min_accuracy: float in [0, 1], for every group of the calibration
            examples; or a dict of group to floor, in which groups that are
            not named have none.
        confidence: float in (0, 1), or `None` (holds on the calibration
            examples). Defaults to `None`.

    Example:

    >>> import keras_cascade as kc
    >>> point = kc.calibration.fit_threshold(
    ...     [0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1], [1, 1, 1, 1],
    ...     kc.calibration.MinGroupAccuracy(["a", "a", "b", "b"], 0.5),
    ... )
    >>> point.delegation_rate
    0.0
    """

    quantity = "group_accuracy"
    side = "at_least"
    limit = "min_accuracy"

    def __init__(
        self,
        groups: str | npt.ArrayLike,
        min_accuracy: float | dict[Any, float],
        *,
        confidence: float | None = None,
    ):
        super().__init__(confidence)
        self.groups = groups
        if not isinstance(groups, str):
            self.groups = np.asarray(groups).reshape(-1).tolist()
        elif groups != "class":
            raise ValueError(
                "Expected `groups` to be 'class' or one group an example. "
                f"Received: {groups!r}."
            )
        self.min_accuracy: float | dict[str, float]
        if isinstance(min_accuracy, dict):
            self.min_accuracy = {
                str(group): check_number("min_accuracy", floor, 0.0, 1.0)
                for group, floor in min_accuracy.items()
            }
        else:
            self.min_accuracy = check_number(
                "min_accuracy", min_accuracy, 0.0, 1.0
            )

    def meets(self, sample: "CalibrationSample") -> np.ndarray:
        met = np.ones(len(sample.curve.thresholds), dtype=bool)
        for _, rows, floor in self._floors(sample):
            met &= self._group_meets(sample, rows, floor)
        return met if self.confidence is None else fixed_sequence_test(met)

    def error_message(self, sample: "CalibrationSample") -> str:
        for group, rows, floor in self._floors(sample):
            met = self._group_meets(sample, rows, floor)
            if self.confidence is None and not met.any():
                best = _weighted_accuracy(sample, rows).max()
                return (
                    f"{self} cannot be met: group {group} reaches at "
                    f"most {best:.4f}, where {floor:.4f} is asked. Ask for "
                    "less, or train a better teacher for this group."
                )
            if self.confidence is not None and not met[-1]:
                return self._guarantee_error_message(sample)
        return (
            f"{self} cannot be met: each group reaches its floor at "
            "some threshold, but no threshold serves all. Ask for less, or "
            "train a better teacher."
        )

    def guarantees(
        self, sample: "CalibrationSample | None" = None
    ) -> list[dict[str, Any]]:
        guarantees = super().guarantees(sample)
        if guarantees and sample is not None:
            floors = {group: f for group, _, f in self._floors(sample)}
            guarantees[0]["at_least"] = floors
        return guarantees

    def get_config(self) -> dict[str, Any]:
        return {
            "groups": self.groups,
            "min_accuracy": self.min_accuracy,
            **super().get_config(),
        }

    def __repr__(self):
        # Without the group of every example: there may be a million.
        groups = (
            repr(self.groups)
            if isinstance(self.groups, str)
            else f"[{len(set(self.groups))} groups]"
        )
        confidence = (
            f", confidence={self.confidence}" if self.confidence else ""
        )
        return f"MinGroupAccuracy({groups}, {self.min_accuracy}{confidence})"

    def _group_meets(self, sample, rows, floor):
        if self.confidence is None:
            return _weighted_accuracy(sample, rows) >= floor - 1e-12
        if sample.is_fractional:
            return loss_guaranteed(sample, 1 - floor, self.error, rows)
        rows = sample.counted_among(rows)
        needed = least_needed(int(rows.sum()), floor, self.error)
        return sample.correct_among(rows) >= needed

    def _guarantee_error_message(self, sample):
        """Names every group that fails, and what can be shown of each.

        With G groups the figures are lower limits at `error / G²`: all of
        them hold together with an error of at most `error / G`. The rest is
        for asking again on the same examples. The threshold is then lowered
        until the first group meets its figure only just, and that would be a
        group that had luck in up to G times `error` of the cases.
        """
        floors = list(self._floors(sample))
        if sample.is_fractional:
            return self._loss_error_message(sample, floors)
        failing = []
        for group, rows, floor in floors:
            counted = sample.counted_among(rows)
            right = int((counted & sample.examples.teacher).sum())
            trials = int(counted.sum())
            if right < least_needed(trials, floor, self.error):
                failing.append((group, right, trials, floor))
        what = f"{self} cannot be guaranteed for"
        if len(floors) == 1:
            group, right, trials, floor = failing[0]
            return accuracy_error_message(
                f"{what} group {group}", right, trials, floor, self.error
            )
        error = self.error / len(floors) ** 2
        figures = [
            f"group {group}: of {trials} calibration examples the teacher "
            f"gets {right / max(trials, 1):.4f} right, which shows an "
            f"accuracy of at least {attainable_limit(right, trials, error):.4f}"
            for group, right, trials, _ in failing
        ]
        return (
            f"{what} {'; for '.join(figures)}. Expected: more examples of "
            "these groups, or lower floors. All these figures hold together, "
            "and allow for being asked for once on these examples. "
            f"{CHOSEN_AFTERWARDS}"
        )

    def _loss_error_message(self, sample, floors):
        """Names the first group whose mean loss is not shown to be low."""
        for group, rows, floor in floors:
            limit = 1 - floor
            if loss_guaranteed(sample, limit, self.error, rows)[-1]:
                continue
            return loss_error_message(
                f"{self} cannot be guaranteed for group {group}",
                sample, limit, self.error / len(floors) ** 2, rows,
            )  # fmt: skip

    def _floors(self, sample):
        """Yields `(group, sorted rows, floor)`."""
        groups = sample.labels if self.groups == "class" else self.groups
        if groups is None or len(groups) != len(sample.examples):
            raise ValueError(
                f"{self} needs the group of each of the "
                f"{len(sample.examples)} calibration examples. Received: "
                + ("no labels." if groups is None else f"{len(groups)}.")
            )
        groups = np.asarray(groups).astype(str)[sample.examples.order]
        floors = self.min_accuracy
        if not isinstance(floors, dict):
            present = sorted_groups(np.unique(groups).tolist())
            self._check_all_classes(present, sample.classes)
            floors = dict.fromkeys(present, floors)
        for group, floor in floors.items():
            rows = groups == group
            if not _has_weight(sample, rows):
                raise ValueError(
                    f"{self} asks for group {group!r}, of which there "
                    "is no calibration example with a weight."
                )
            yield group, rows, floor

    def _check_all_classes(self, present, classes):
        """Raises where a class that is known to exist has no example."""
        if self.groups != "class" or None in (self.confidence, classes):
            return
        absent = [str(c) for c in range(classes) if str(c) not in present]
        if absent:
            raise ValueError(
                f"{self} asks for every class, and among the calibration "
                f"examples there is none of {names_of_groups(absent, 'class')}"
                ": nothing shows how accurate the cascade is there. Expected: "
                f"examples of each of the {classes} classes. Collect some, or "
                "pass a dict of the classes to guarantee, such as "
                f"`MinGroupAccuracy('class', {{'{present[0]}': "
                f"{self.min_accuracy}}}, ...)`."
            )


def _has_weight(sample, rows):
    weight = sample.examples.weight
    return bool(rows.any() if weight is None else weight[rows].any())


def _weighted_accuracy(sample, rows):
    examples = sample.examples
    weight = rows if examples.weight is None else rows * examples.weight
    right = examples.kept(weight * examples.student) + examples.delegated(
        weight * examples.teacher
    )
    return right / weight.sum()

"""The base class of objectives."""

import numbers


class Objective:
    """What a threshold must achieve on calibration data.

    A subclass implements `choose(curve)`: the index of the candidate to use
    on a `DeferralCurve`, or a `ValueError` that says what is attainable.

    An objective here is empirical: it holds on the calibration examples and
    promises nothing about new ones.
    """

    def choose(self, curve):
        """Index of the chosen candidate of a `DeferralCurve`."""
        raise NotImplementedError(f"{type(self).__name__}.choose")

    def get_config(self):
        """The constructor's arguments, as JSON-compatible values."""
        return {}

    def describe(self):
        """`{"class_name": ..., "config": ...}`, for manifests and reports."""
        return {
            "class_name": type(self).__name__,
            "config": self.get_config(),
        }

    def __repr__(self):
        arguments = ", ".join(f"{v!r}" for v in self.get_config().values())
        return f"{type(self).__name__}({arguments})"


def check_number(name, value, low, high):
    """Returns `value` as a float in [low, high], or raises."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (number and low <= value <= high):
        raise ValueError(
            f"Expected `{name}` to be a number in [{low}, {high}]. "
            f"Received: {value!r}."
        )
    return float(value)


def attainable_accuracy(curve):
    """One sentence on the accuracies that thresholds can reach."""
    best = int(curve.accuracy.argmax())
    return (
        f"Attainable on these {curve.examples} calibration examples: at best "
        f"accuracy {curve.accuracy[best]:.4f}, at delegation rate "
        f"{curve.delegation_rate[best]:.4f} (student alone "
        f"{curve.student_accuracy:.4f}, teacher alone "
        f"{curve.teacher_accuracy:.4f})."
    )

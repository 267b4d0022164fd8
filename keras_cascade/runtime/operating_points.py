"""Delegation rules of a bundle's operating points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.errors import BundleError

#: The operating point whose threshold is part of the TFLite file.
DEFAULT = "default"


class DelegationRule(NamedTuple):
    """Decides which rows an operating point delegates.

    Attributes:
        name: str, the operating point's name.
        threshold: float32, or float32 array of one for each class that the
            student predicts, or `None` where the TFLite file decides.
    """

    name: str
    threshold: np.float32 | np.ndarray | None

    def delegated(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Returns which rows go to the teacher.

        Args:
            outputs: dict with `score` and `delegate`, arrays `(rows,)`, and
                `probabilities` `(rows, classes)`.

        Returns:
            Bool array `(rows,)`.
        """
        if self.threshold is None:
            return outputs["delegate"]
        threshold = self.threshold
        if isinstance(threshold, np.ndarray):
            threshold = threshold[outputs["probabilities"].argmax(axis=-1)]
        # Not `score < threshold`: a NaN score has to be delegated.
        return ~(outputs["score"] >= threshold)


def delegation_rules(bundle: Bundle) -> dict[str, DelegationRule]:
    """Reads the delegation rules of a bundle's operating points.

    A threshold is rounded to the scores' own float32, as the export does for
    the one in the TFLite file.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        Dict of name to `DelegationRule`, in the manifest's order.
    """
    rules = {}
    for point in bundle.manifest["operating_points"]:
        threshold = _rounded(threshold_of(point))
        if threshold.ndim and (
            "task" in bundle.manifest or len(threshold) != len(bundle.classes)
        ):
            raise BundleError(
                f"'{bundle.path}' is damaged: its operating point "
                f"'{point['name']}' has {len(threshold)} class thresholds for "
                f"{len(bundle.classes)} classes. Expected: one for each. "
                "Export it again."
            )
        name = point["name"]
        rules[name] = DelegationRule(
            name, None if name == DEFAULT else threshold
        )
    return rules


def threshold_of(point: dict) -> float | list[float]:
    """Threshold of an operating point, or one for each predicted class.

    Args:
        point: dict, as in the manifest.
    """
    return point.get("class_thresholds") or point["threshold"]


def _rounded(threshold):
    limits = np.finfo("float32")
    clipped = np.clip(np.asarray(threshold, "float64"), limits.min, limits.max)
    return clipped.astype("float32")[()]


def default_name(rules: dict[str, DelegationRule]) -> str:
    """Returns the operating point to begin with: the default, or the first."""
    return DEFAULT if DEFAULT in rules else next(iter(rules))

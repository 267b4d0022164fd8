"""Delegation rules of a bundle's operating points."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_cascade.bundle import Bundle

#: The operating point whose threshold is part of the TFLite file.
DEFAULT = "default"


class DelegationRule(NamedTuple):
    """Decides which rows an operating point delegates.

    Attributes:
        name: str, the operating point's name.
        threshold: float32, or `None` where the TFLite file decides.
    """

    name: str
    threshold: np.float32 | None

    def delegated(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Returns which rows go to the teacher.

        Args:
            outputs: dict with `score` and `delegate`, arrays `(rows,)`.

        Returns:
            Bool array `(rows,)`.
        """
        if self.threshold is None:
            return outputs["delegate"]
        # Not `score < threshold`: a NaN score has to be delegated.
        return ~(outputs["score"] >= self.threshold)


def delegation_rules(bundle: Bundle) -> dict[str, DelegationRule]:
    """Reads the delegation rules of a bundle's operating points.

    A threshold is rounded to the scores' own float32, as the export does for
    the one in the TFLite file.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        Dict of name to `DelegationRule`, in the manifest's order.
    """
    limits = np.finfo("float32")
    rules = {}
    for point in bundle.manifest["operating_points"]:
        threshold = np.float32(
            np.clip(float(point["threshold"]), limits.min, limits.max)
        )
        name = point["name"]
        rules[name] = DelegationRule(
            name, None if name == DEFAULT else threshold
        )
    return rules


def default_name(rules: dict[str, DelegationRule]) -> str:
    """Returns the operating point to begin with: the default, or the first."""
    return DEFAULT if DEFAULT in rules else next(iter(rules))

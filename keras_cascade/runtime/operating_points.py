"""The operating points of a bundle, as the device applies them."""

from typing import NamedTuple

import numpy as np

#: The operating point whose threshold is part of the TFLite file.
DEFAULT = "default"


class Decision(NamedTuple):
    """How one operating point decides.

    Attributes:
        name: str, the operating point's name.
        threshold: float32, or `None` where the TFLite file decides.
    """

    name: str
    threshold: np.float32 | None

    def delegated(self, outputs):
        """Which rows go to the teacher.

        Args:
            outputs: dict with `score` and `delegate`, arrays `(rows,)`.

        Returns:
            Bool array `(rows,)`.
        """
        if self.threshold is None:
            return outputs["delegate"]
        # `score < threshold`, and what is not a number is delegated.
        return ~(outputs["score"] >= self.threshold)


def decisions(bundle):
    """How each of a bundle's operating points decides.

    A threshold is rounded to the scores' own float32, as the export does for
    the one in the TFLite file.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        Dict of name to `Decision`, in the manifest's order.
    """
    limits = np.finfo("float32")
    found = {}
    for point in bundle.manifest["operating_points"]:
        threshold = np.float32(
            np.clip(float(point["threshold"]), limits.min, limits.max)
        )
        name = point["name"]
        found[name] = Decision(name, None if name == DEFAULT else threshold)
    return found


def usual(found):
    """The name of the point to begin with: the default, or else the first."""
    return DEFAULT if DEFAULT in found else next(iter(found))

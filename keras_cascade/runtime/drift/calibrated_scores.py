"""Distribution of the gate's scores at calibration, from a manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math

from keras_cascade.bundle import Bundle, BundleError


@dataclasses.dataclass(frozen=True)
class CalibratedScores:
    """Calibration's scores and rates, the reference for drift detection.

    Attributes:
        edges: list of increasing floats, of the score bins.
        counts: list of int, calibration examples in each bin.
        examples: int, the unweighted calibration sample.
        delegated: int, how many of it lie below the threshold.
        threshold: float. Delegate when `score < threshold`.
        delegation_rate: float in [0, 1], as the operating point states it.
        guaranteed_rate: float or `None`, the guaranteed cap on the rate.
        fingerprint: str, of the student's file and all of the above.
        groups: int, how many groups of predicted classes have a threshold of
            their own; 0 with one threshold for all.
    """

    edges: list[float]
    counts: list[int]
    examples: int
    delegated: int
    threshold: float
    delegation_rate: float
    guaranteed_rate: float | None
    fingerprint: str
    groups: int = 0

    @classmethod
    def of(cls, bundle: Bundle) -> CalibratedScores:
        """Reads them from a bundle's manifest.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.

        Raises:
            BundleError: the bundle has no score bins, or they contradict
                themselves.
        """
        bins = bundle.manifest["calibration"].get("score_bins")
        if bins is None:
            raise BundleError(
                "Expected a bundle whose manifest has "
                "`calibration.score_bins`, which drift is measured against. "
                f"Received: '{bundle.path}', which has none. Export it again."
            )
        _check(bins, bundle.path)
        point = bundle.operating_point()
        caps = [
            guarantee["at_most"]
            for guarantee in point.get("guarantees", [])
            if guarantee["quantity"] == "delegation_rate"
            and "at_most" in guarantee
        ]
        values = {
            "edges": bins["edges"],
            "counts": bins["counts"],
            "examples": bins["examples"],
            "delegated": bins["delegated"],
            "threshold": point["threshold"],
            "delegation_rate": point["delegation_rate"],
            "guaranteed_rate": min(caps, default=None),
        }
        per_class = point.get("class_thresholds") or []
        pooled = point.get("pooled_classes") or []
        groups = len(per_class) - len(pooled) + bool(pooled)
        content = json.dumps([bundle.manifest["student"]["sha256"], values])
        fingerprint = hashlib.sha256(content.encode()).hexdigest()
        return cls(**values, fingerprint=fingerprint, groups=groups)

    def rate_interval(self, error_rate: float) -> tuple[float, float]:
        """Computes an interval for the delegation rate of the traffic.

        From the Dvoretzky-Kiefer-Wolfowitz inequality with Massart's
        constant, which holds at all thresholds at once, and so also at one
        that was chosen from the same examples. With G groups of thresholds
        the largest deviation has, by Cauchy and Schwarz, an expectation of at
        most `(√(π/2) + 1)·√(G / n)`, and by McDiarmid's inequality exceeds it
        by more than that margin seldom enough.

        Args:
            error_rate: float in (0, 1), the chance that the interval misses
                the true rate.

        Returns:
            Two floats in [0, 1].
        """
        rate = self.delegated / self.examples
        margin = math.sqrt(math.log(2 / error_rate) / (2 * self.examples))
        if self.groups:
            margin += (math.sqrt(math.pi / 2) + 1) * math.sqrt(
                self.groups / self.examples
            )
        return max(0.0, rate - margin), min(1.0, rate + margin)


def _check(bins, where):
    edges, counts = bins["edges"], bins["counts"]
    increasing = all(low < high for low, high in itertools.pairwise(edges))
    if not (
        increasing
        and all(math.isfinite(edge) for edge in edges)
        and len(counts) == len(edges) + 1
        and 0 < sum(counts) <= bins["examples"]
        and bins["delegated"] <= bins["examples"]
    ):
        raise BundleError(
            "Expected `calibration.score_bins` with increasing edges, one "
            "count more than edges, and no more counted or delegated than "
            f"examples. Received otherwise in '{where}'. Export it again."
        )

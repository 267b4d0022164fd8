"""The sequential tests behind the drift monitor."""

import math
from typing import NamedTuple

import numpy as np

from keras_cascade.runtime.drift.conformal_p_values import ConformalPValues
from keras_cascade.runtime.drift.drift_bets import (
    rate_bets,
    score_bets,
    score_outcomes,
)
from keras_cascade.runtime.drift.jumper_martingale import JumperMartingale

SCORES = "score_distribution"
HIGHER = "higher_delegation_rate"
LOWER = "lower_delegation_rate"
#: How the false alarm rate is spent, a union bound: on these bets ...
SHARES = {SCORES: 1 / 2, HIGHER: 1 / 8, LOWER: 1 / 8}
#: ... and on the interval that the last two start from.
INTERVAL_SHARE = 1 / 4


class Alarm(NamedTuple):
    """A test whose evidence has reached its limit.

    Attributes:
        row: int, the example of an update at which it did.
        test: str.
        evidence: float, then.
    """

    row: int
    test: str
    evidence: float


class DriftTests:
    """A test of the scores' distribution and two of the delegation rate.

    Args:
        calibrated: `CalibratedScores`.
        false_alarm_rate: float in (0, 1), of all together.
        rng: `numpy.random.Generator`, breaks ties.

    Attributes:
        alarm_at: dict of test to float, the evidence that is an alarm.
        rate_between: two floats, where the delegation rate of calibration's
            traffic lies.
    """

    def __init__(self, calibrated, false_alarm_rate, rng):
        self._calibrated = calibrated
        self._rng = rng
        self.alarm_at = {
            test: 1 / (false_alarm_rate * share)
            for test, share in SHARES.items()
        }
        self.rate_between = calibrated.rate_between(
            false_alarm_rate * INTERVAL_SHARE
        )
        self.reset()

    def reset(self):
        """Starts all of them anew."""
        lowest, highest = self.rate_between
        self._p_values = ConformalPValues(
            self._calibrated.edges, self._calibrated.counts, self._rng
        )
        self._martingales = {
            SCORES: JumperMartingale(score_bets()),
            HIGHER: JumperMartingale(rate_bets(highest)),
            LOWER: JumperMartingale(rate_bets(1 - lowest)),
        }

    def update(self, scores, delegated):
        """Bets on examples, in their order.

        Args:
            scores: float64 array `(examples,)`.
            delegated: bool array `(examples,)`.

        Returns:
            The earliest `Alarm`, or `None`.
        """
        outcomes = {
            SCORES: score_outcomes(self._p_values.update(scores)),
            HIGHER: delegated.astype(int),
            LOWER: (~delegated).astype(int),
        }
        alarms = []
        for test, martingale in self._martingales.items():
            path = martingale.update(outcomes[test])
            raised = np.flatnonzero(path >= math.log(self.alarm_at[test]))
            if raised.size:
                row = int(raised[0])
                alarms.append(Alarm(row, test, _capital(path[row])))
        return min(alarms, key=lambda alarm: alarm.row, default=None)

    def evidence(self):
        """Dict of test to what a starting capital of 1 has become."""
        return {
            test: _capital(martingale.log_capital)
            for test, martingale in self._martingales.items()
        }

    def to_dict(self):
        """Where they stand, as a JSON-compatible dict."""
        return {
            "counts": self._p_values.counts.tolist(),
            "rng": self._rng.bit_generator.state,
            "martingales": {
                test: martingale.to_dict()
                for test, martingale in self._martingales.items()
            },
        }

    def restore(self, state, examples):
        """Goes on from what `to_dict` returned.

        Args:
            state: dict.
            examples: int, live examples that it has seen.

        Raises:
            ValueError: the state does not belong to this calibration.
        """
        counts = np.array(state["counts"], dtype="int64")
        before = self._p_values.counts
        if not (
            counts.shape == before.shape
            and (counts >= before).all()
            and (counts - before).sum() == examples
        ):
            raise ValueError(
                "expected calibration's counts and one more for each of "
                f"{examples} live examples, received {counts.tolist()}"
            )
        for test, martingale in self._martingales.items():
            martingale.restore(state["martingales"][test])
        self._rng.bit_generator.state = state["rng"]
        self._p_values.counts = counts


def _capital(log_capital):
    """As a float that JSON can hold."""
    return math.exp(min(log_capital, 700.0))

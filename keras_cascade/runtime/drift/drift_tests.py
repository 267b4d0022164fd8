"""Sequential tests of the drift monitor, and the bets that they make."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from keras_cascade.runtime.drift.calibrated_scores import CalibratedScores
from keras_cascade.runtime.drift.conformal_p_values import ConformalPValues
from keras_cascade.runtime.drift.jumper_martingale import JumperMartingale

SCORES = "score_distribution"
HIGHER = "higher_delegation_rate"
LOWER = "lower_delegation_rate"
#: How the false alarm rate is spent, a union bound: on these bets ...
SHARES = {SCORES: 1 / 2, HIGHER: 1 / 8, LOWER: 1 / 8}
#: ... and on the interval that the last two start from.
INTERVAL_SHARE = 1 / 4

CUTS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
SCORE_ODDS = (1 / 3, 2 / 3, 3 / 2, 3)
RATE_ODDS = (1.25, 2, 4)


class Alarm(NamedTuple):
    """A test whose e-value has reached its threshold.

    Attributes:
        row: int, index of the example in its update.
        test: str.
        e_value: float, at that example.
    """

    row: int
    test: str
    e_value: float


class DriftTests:
    """One test of the scores' distribution and two of the delegation rate.

    Args:
        calibrated: `CalibratedScores`.
        false_alarm_rate: float in (0, 1), of all together.
        rng: `numpy.random.Generator`, breaks ties.

    Attributes:
        alarm_thresholds: dict of test to float, the e-value of an alarm.
        rate_interval: two floats, the interval for the delegation rate of
            calibration's traffic.
    """

    def __init__(
        self,
        calibrated: CalibratedScores,
        false_alarm_rate: float,
        rng: np.random.Generator,
    ):
        self._calibrated = calibrated
        self._rng = rng
        self.alarm_thresholds = {
            test: 1 / (false_alarm_rate * share)
            for test, share in SHARES.items()
        }
        self.rate_interval = calibrated.rate_interval(
            false_alarm_rate * INTERVAL_SHARE
        )
        self.reset()

    def reset(self) -> None:
        """Restarts all tests."""
        lowest, highest = self.rate_interval
        self._p_values = ConformalPValues(
            self._calibrated.edges, self._calibrated.counts, self._rng
        )
        self._martingales = {
            SCORES: JumperMartingale(score_bets()),
            HIGHER: JumperMartingale(rate_bets(highest)),
            LOWER: JumperMartingale(rate_bets(1 - lowest)),
        }

    def update(self, scores: np.ndarray, delegated: np.ndarray) -> Alarm | None:
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
            above = np.flatnonzero(
                path >= math.log(self.alarm_thresholds[test])
            )
            if above.size:
                row = int(above[0])
                alarms.append(Alarm(row, test, _capital(path[row])))
        return min(alarms, key=lambda alarm: alarm.row, default=None)

    def e_values(self) -> dict[str, float]:
        """Returns a dict of test to its martingale's capital."""
        return {
            test: _capital(martingale.log_capital)
            for test, martingale in self._martingales.items()
        }

    def to_dict(self) -> dict:
        """Returns the state, as a JSON-compatible dict."""
        return {
            "counts": self._p_values.counts.tolist(),
            "rng": self._rng.bit_generator.state,
            "martingales": {
                test: martingale.to_dict()
                for test, martingale in self._martingales.items()
            },
        }

    def restore(self, state: dict, examples: int) -> None:
        """Restores a state of `to_dict`.

        Args:
            state: dict.
            examples: int, live examples up to that state.

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


def odds_bets(happens, probability: float, odds) -> np.ndarray:
    """Computes the payoffs of bets on other odds, per unit of capital.

    The bet that an event of probability p has in truth the probability q pays
    q / p where it happens and (1 - q) / (1 - p) where it does not: 1 in the
    mean. Here `q / (1 - q) = odds * p / (1 - p)`.

    Args:
        happens: bool array `(outcomes,)`.
        probability: float in (0, 1).
        odds: floats > 0, by how much the odds are multiplied.

    Returns:
        float64 array `(outcomes, odds)`. Where an odds factor is above 1, the
        bet loses in the mean when the event is rarer than `probability`.

    Example:

    >>> from keras_cascade.runtime.drift.drift_tests import odds_bets
    >>> odds_bets([True, False], 0.25, odds=[3.0]).tolist()
    [[2.0], [0.66667]]
    """
    odds = np.asarray(odds, dtype="float64")
    truth = odds * probability / (odds * probability + 1 - probability)
    return np.where(
        np.asarray(happens)[:, None],
        truth / probability,
        (1 - truth) / (1 - probability),
    )


def score_outcomes(p_values: np.ndarray) -> np.ndarray:
    """Returns the index of the piece of [0, 1) that each p-value lies in."""
    return np.searchsorted(CUTS, p_values, side="right")


def score_bets() -> np.ndarray:
    """Builds bets on low, high, central and extreme p-values.

    Returns:
        float64 array `(pieces, bets)`, with a row for each of
        `score_outcomes`.
    """
    ends = np.r_[0.0, CUTS, 1.0]
    middles = (ends[:-1] + ends[1:]) / 2
    regions = [(middles < cut, cut) for cut in CUTS]
    regions.append(((middles > 0.25) & (middles < 0.75), 0.5))
    return np.hstack([odds_bets(*region, SCORE_ODDS) for region in regions])


def rate_bets(highest: float) -> np.ndarray:
    """Builds bets that an event has a larger rate than `highest`.

    Args:
        highest: float in (0, 1].

    Returns:
        float64 array `(2, bets)`: without the event, and with it.
    """
    if highest >= 1:
        return np.ones((2, 1))  # no rate is larger: no bet
    return odds_bets([False, True], highest, RATE_ODDS)


def _capital(log_capital):
    """Returns the capital as a float that JSON can hold."""
    return math.exp(min(log_capital, 700.0))

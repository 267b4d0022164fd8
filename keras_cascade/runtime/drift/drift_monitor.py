"""Monitor of live scores, with a bounded false alarm rate."""

from __future__ import annotations

import dataclasses
import os
import threading

import numpy as np

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.runtime.drift.calibrated_scores import CalibratedScores
from keras_cascade.runtime.drift.drift_tests import (
    HIGHER,
    LOWER,
    SCORES,
    DriftTests,
)
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.runtime.operating_points import DEFAULT

STATE_VERSION = 1
#: The number of latest examples whose rate a reason states.
RECENT = 200
WORDS = {
    SCORES: "the gate's scores are not spread as in calibration",
    HIGHER: "the delegation rate is higher than in calibration",
    LOWER: "the delegation rate is lower than in calibration",
}


class DriftMonitor:
    """Detects when live scores differ from those at calibration.

    It sees the gate's scores, and nothing else: neither inputs nor labels nor
    the accuracy. A change of the traffic that leaves the scores' distribution
    as it is ends a guarantee without being seen here.

    The guarantee: when nothing drifts, which means that live examples come
    independently from the traffic that the calibration examples (with their
    weights) came from, the chance that the alarm *ever* goes off, however
    long the monitor runs and however often it is looked at, is at most
    `false_alarm_rate`. It is a chance over calibration examples, live
    examples and the seed. There is no guarantee about detection: a large drift
    takes tens of examples, a small one hundreds; one that was there from the
    first live example may never be detected where calibration had few
    examples, and one that leaves the scores' distribution as it is never is.
    Dependent examples, such as the frames of one video, are a drift in this
    sense: pass one of each group.

    Two sequential tests share the false alarm rate:

    - half of it: conformal p-values of the scores' bins
      (`ConformalPValues`) and a martingale that bets on them
      (`JumperMartingale`), after Vovk et al., arXiv 2102.10439;
    - half of it: an interval for the delegation rate of calibration's
      traffic (Dvoretzky-Kiefer-Wolfowitz, a quarter), and bets against
      "at most its upper end" and "at least its lower end" (an eighth each).

    Scores themselves are not stored. Thread-safe.

    Args:
        bundle: `keras_cascade.bundle.Bundle`, or the path of one.
        false_alarm_rate: float in (0, 1). Defaults to `0.01`.
        seed: int, of the random numbers that break ties. Defaults to `0`.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> import keras_cascade as kc
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(400, 4))
    >>> y = rng.integers(0, 3, 400)
    >>> teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> cascade = kc.Cascade(teacher, student)
    >>> point = cascade.calibrate((x, y), kc.MaxDelegationRate(0.3))
    >>> folder = tempfile.TemporaryDirectory()
    >>> bundle = cascade.export(folder.name + "/bundle")
    >>> edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    >>> monitor = kc.DriftMonitor(bundle)
    >>> live = rng.normal(size=(100, 4))
    >>> monitor.update(edge.predict(live)).guarantee_holds
    True
    >>> faint = 0.1 * live
    >>> monitor.update(edge.predict(faint)).guarantee_holds
    False
    >>> folder.cleanup()
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike,
        false_alarm_rate: float = 0.01,
        seed: int = 0,
    ):
        if not isinstance(bundle, Bundle):
            bundle = Bundle.load(bundle)
        rate = false_alarm_rate
        if not (isinstance(rate, (int, float)) and 0 < rate < 1):
            raise ValueError(
                "Expected `false_alarm_rate` between 0 and 1, such as 0.01. "
                f"Received: {rate!r}."
            )
        self.false_alarm_rate = float(rate)
        self._calibrated = CalibratedScores.of(bundle)
        self._tests = DriftTests(
            self._calibrated, self.false_alarm_rate, np.random.default_rng(seed)
        )
        self._lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Discards the live examples and the alarm, and restarts the tests."""
        with self._lock:
            self._tests.reset()
            self._examples = 0
            self._delegated = 0
            self._recent = np.zeros(0, dtype=bool)
            self._reason = None

    def update(self, live: EdgePrediction | np.ndarray) -> DriftStatus:
        """Updates the tests with live examples, in their order.

        Args:
            live: `EdgePrediction`, or the gate's scores as a float array
                `(examples,)`.

        Returns:
            `DriftStatus`. It does not depend on how examples are split into
            updates.

        Raises:
            ValueError: not scores, or NaN among them; none was used.
        """
        scores = _checked(live)
        if self._calibrated.groups:
            delegated = _delegated_per_class(live)
        else:
            delegated = scores < self._calibrated.threshold
        with self._lock:
            alarm = self._tests.update(scores, delegated)
            if alarm is not None and self._reason is None:
                self._reason = self._explain(alarm, delegated[: alarm.row + 1])
            self._examples += len(scores)
            self._delegated += int(delegated.sum())
            self._recent = np.append(self._recent, delegated)[-RECENT:]
            return self.status

    @property
    def status(self) -> DriftStatus:
        """The current `DriftStatus`."""
        with self._lock:
            examples = self._examples
            return DriftStatus(
                guarantee_holds=self._reason is None,
                reason=self._reason,
                examples=examples,
                delegation_rate=self._delegated / examples
                if examples
                else None,
                calibrated_delegation_rate=self._calibrated.delegation_rate,
                e_values=self._tests.e_values(),
                alarm_thresholds=dict(self._tests.alarm_thresholds),
                false_alarm_rate=self.false_alarm_rate,
            )

    def to_dict(self) -> dict:
        """Returns the state, JSON-compatible, for `from_dict`."""
        with self._lock:
            return {
                "version": STATE_VERSION,
                "bundle": self._calibrated.fingerprint,
                "false_alarm_rate": self.false_alarm_rate,
                "examples": self._examples,
                "delegated": self._delegated,
                "recent": self._recent.astype(int).tolist(),
                "reason": self._reason,
                "tests": self._tests.to_dict(),
            }

    @classmethod
    def from_dict(
        cls, bundle: Bundle | str | os.PathLike, state: dict
    ) -> DriftMonitor:
        """Restores a monitor from a state of `to_dict`.

        Args:
            bundle: the `Bundle` that the state belongs to, or its path.
            state: dict of `to_dict`.

        Returns:
            `DriftMonitor`.

        Raises:
            ValueError: the state is of another bundle, or damaged.
        """
        try:
            monitor = cls(bundle, state["false_alarm_rate"])
            monitor._restore(state)
        except BundleError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                "Expected the state that `DriftMonitor.to_dict` returned for "
                f"this bundle. Received another ({type(error).__name__}: "
                f"{error}). Start a new `DriftMonitor`."
            ) from error
        return monitor

    def _restore(self, state):
        expected = (STATE_VERSION, self._calibrated.fingerprint)
        if (state["version"], state["bundle"]) != expected:
            raise ValueError(
                f"expected version {expected[0]} and the bundle's fingerprint "
                f"{expected[1]:.12}, received version {state['version']} and "
                f"{state['bundle']!s:.12}"
            )
        self._tests.restore(state["tests"], state["examples"])
        self._examples = int(state["examples"])
        self._delegated = int(state["delegated"])
        self._recent = np.array(state["recent"], dtype=bool)
        self._reason = state["reason"]

    def _explain(self, alarm, delegated):
        """Explains an alarm in one sentence, with its figures."""
        examples = self._examples + len(delegated)
        rate = (self._delegated + delegated.sum()) / examples
        recent = np.append(self._recent, delegated)[-RECENT:]
        lowest, highest = self._tests.rate_interval
        reason = (
            f"After {examples} live examples {WORDS[alarm.test]} (e-value "
            f"{alarm.e_value:.4g}, alarm threshold "
            f"{self._tests.alarm_thresholds[alarm.test]:.4g}): "
            f"{_percent(rate)} of them, {_percent(recent.mean())} of the last "
            f"{len(recent)}, were delegated, against "
            f"{_percent(self._calibrated.delegation_rate)} in calibration "
            f"(in truth {_percent(lowest)} to {_percent(highest)})"
        )
        cap = self._calibrated.guaranteed_rate
        if cap is not None:
            holds = rate <= cap and recent.mean() <= cap
            reason += f"; the guaranteed cap of {_percent(cap)} is "
            reason += "kept so far" if holds else "exceeded"
        return reason + "."


@dataclasses.dataclass(frozen=True)
class DriftStatus:
    """State of the drift tests.

    Attributes:
        guarantee_holds: bool. `False` from the first alarm until `reset()`.
        reason: str or `None`. The reason of the first alarm, in one sentence
            with its figures.
        examples: int, live examples so far.
        delegation_rate: float in [0, 1] of the live examples; `None` before
            the first.
        calibrated_delegation_rate: float in [0, 1], measured at calibration.
        e_values: dict of test to float >= 0, its test martingale's value: the
            capital that 1 has become by betting against "nothing has
            drifted". The tests are `"score_distribution"`,
            `"higher_delegation_rate"` and `"lower_delegation_rate"`.
        alarm_thresholds: dict of test to float, the e-value that raises the
            alarm.
        false_alarm_rate: float. The chance that an alarm ever goes off when
            nothing drifts is at most this.
    """

    guarantee_holds: bool
    reason: str | None
    examples: int
    delegation_rate: float | None
    calibrated_delegation_rate: float
    e_values: dict[str, float]
    alarm_thresholds: dict[str, float]
    false_alarm_rate: float


def _checked(live):
    values = live.score if isinstance(live, EdgePrediction) else live
    try:
        scores = np.asarray(values)
    except ValueError:
        scores = np.empty((0, 0))
    if scores.dtype.kind not in "iuf" or scores.ndim != 1:
        raise ValueError(
            "Expected an `EdgePrediction`, or a float array `(examples,)` of "
            f"gate scores. Received: {type(live).__name__} of shape "
            f"{scores.shape} and type {scores.dtype}."
        )
    missing = int(np.isnan(scores).sum())
    if missing:
        raise ValueError(
            f"Expected scores that are numbers. Received: {missing} NaN among "
            f"{len(scores)}. None of them was taken in. Look for NaN in the "
            "inputs or in the student's weights."
        )
    return scores.astype("float64")


def _delegated_per_class(live):
    """Delegated rows where each predicted class has its own threshold."""
    if not isinstance(live, EdgePrediction) or live.operating_point != DEFAULT:
        raise ValueError(
            "This bundle has a threshold for each class that the student "
            "predicts, so that scores do not say what is delegated. Expected: "
            f"an `EdgePrediction` at the operating point '{DEFAULT}'. "
            "Received: "
            + (
                f"one at '{live.operating_point}'."
                if isinstance(live, EdgePrediction)
                else f"a {type(live).__name__}."
            )
        )
    return np.asarray(live.source) != "edge"


def _percent(share):
    return f"{100 * share:.1f} %"

"""Says when live traffic is no longer what calibration measured."""

import threading

import numpy as np

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.runtime.drift.calibrated_scores import CalibratedScores
from keras_cascade.runtime.drift.drift_status import DriftStatus
from keras_cascade.runtime.drift.drift_tests import (
    HIGHER,
    LOWER,
    SCORES,
    DriftTests,
)
from keras_cascade.runtime.edge_prediction import EdgePrediction

STATE_VERSION = 1
#: How many of the latest examples a reason looks at by themselves.
RECENT = 200
WORDS = {
    SCORES: "the gate's scores are not spread as in calibration",
    HIGHER: "the delegation rate is higher than in calibration",
    LOWER: "the delegation rate is lower than in calibration",
}


class DriftMonitor:
    """Compares live scores with calibration's, and says when they differ.

    The guarantee: when nothing drifts, which means that live examples come
    independently from the traffic that the calibration examples (with their
    weights) came from, the chance that the alarm *ever* goes off, however
    long the monitor runs and however often it is looked at, is at most
    `false_alarm_rate`. It is a chance over calibration examples, live
    examples and the seed. No guarantee is made about how soon a drift is found:
    a large one in tens of examples, a small one in hundreds, or never where it
    was there from the first live example and calibration had few; one that
    leaves the scores' distribution as it is, never.
    Examples that hang together, such as the frames of one video, are a drift
    in this sense: send the monitor one of each group.

    Two sequential tests share the false alarm rate:

    - half of it: conformal p-values of the scores' bins
      (`ConformalPValues`) and a martingale that bets on them
      (`JumperMartingale`), after Vovk et al., arXiv 2102.10439;
    - half of it: the interval in which the delegation rate of calibration's
      traffic lies (Dvoretzky-Kiefer-Wolfowitz, a quarter), and bets against
      "at most its upper end" and "at least its lower end" (an eighth each).

    Scores themselves are not kept. Several threads may share a monitor.

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

    def __init__(self, bundle, false_alarm_rate=0.01, seed=0):
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

    def reset(self):
        """Forgets the live examples and the alarm, and starts a new test."""
        with self._lock:
            self._tests.reset()
            self._examples = 0
            self._delegated = 0
            self._recent = np.zeros(0, dtype=bool)
            self._reason = None

    def update(self, live):
        """Takes in live examples, in the order in which they came.

        Args:
            live: `EdgePrediction`, or the gate's scores as a float array
                `(examples,)`.

        Returns:
            `DriftStatus`. How examples are cut into updates changes nothing.

        Raises:
            ValueError: not scores, or NaN among them; nothing was taken in.
        """
        scores = _checked(live)
        with self._lock:
            delegated = scores < self._calibrated.threshold
            alarm = self._tests.update(scores, delegated)
            if alarm is not None and self._reason is None:
                self._reason = self._explain(alarm, delegated[: alarm.row + 1])
            self._examples += len(scores)
            self._delegated += int(delegated.sum())
            self._recent = np.append(self._recent, delegated)[-RECENT:]
            return self.status

    @property
    def status(self):
        """`DriftStatus` as of now."""
        with self._lock:
            seen = self._examples
            return DriftStatus(
                guarantee_holds=self._reason is None,
                reason=self._reason,
                examples=seen,
                delegation_rate=self._delegated / seen if seen else None,
                calibrated_delegation_rate=self._calibrated.delegation_rate,
                evidence=self._tests.evidence(),
                alarm_at=dict(self._tests.alarm_at),
                false_alarm_rate=self.false_alarm_rate,
            )

    def to_dict(self):
        """The monitor's state, JSON-compatible, for `from_dict`."""
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
    def from_dict(cls, bundle, state):
        """A monitor that goes on where another stopped.

        Args:
            bundle: the `Bundle`, or its path, that the state was kept with.
            state: dict of `to_dict`.

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
        mine = (STATE_VERSION, self._calibrated.fingerprint)
        if (state["version"], state["bundle"]) != mine:
            raise ValueError(
                f"expected version {mine[0]} and the bundle's fingerprint "
                f"{mine[1]:.12}, received version {state['version']} and "
                f"{state['bundle']!s:.12}"
            )
        self._tests.restore(state["tests"], state["examples"])
        self._examples = int(state["examples"])
        self._delegated = int(state["delegated"])
        self._recent = np.array(state["recent"], dtype=bool)
        self._reason = state["reason"]

    def _explain(self, alarm, delegated):
        """One sentence, with figures as of the alarm."""
        examples = self._examples + len(delegated)
        rate = (self._delegated + delegated.sum()) / examples
        recent = np.append(self._recent, delegated)[-RECENT:]
        lowest, highest = self._tests.rate_between
        reason = (
            f"After {examples} live examples {WORDS[alarm.test]} (evidence "
            f"{alarm.evidence:.4g}, alarm at "
            f"{self._tests.alarm_at[alarm.test]:.4g}): {_percent(rate)} of "
            f"them, {_percent(recent.mean())} of the last {len(recent)}, were "
            "delegated, against "
            f"{_percent(self._calibrated.delegation_rate)} in calibration "
            f"(in truth {_percent(lowest)} to {_percent(highest)})"
        )
        cap = self._calibrated.guaranteed_rate
        if cap is not None:
            kept = rate <= cap and recent.mean() <= cap
            reason += f"; the guaranteed cap of {_percent(cap)} is "
            reason += "kept so far" if kept else "exceeded"
        return reason + "."


def _checked(live):
    given = live.score if isinstance(live, EdgePrediction) else live
    try:
        scores = np.asarray(given)
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


def _percent(share):
    return f"{100 * share:.1f} %"

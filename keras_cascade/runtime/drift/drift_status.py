"""What the drift monitor knows so far."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DriftStatus:
    """Whether the guarantees of calibration still stand.

    Attributes:
        guarantee_holds: bool. `False` from the first alarm until `reset()`.
        reason: str or `None`. Why not, in one sentence with figures as they
            were when the alarm went off.
        examples: int, live examples so far.
        delegation_rate: float in [0, 1] of the live examples; `None` before
            the first.
        calibrated_delegation_rate: float in [0, 1], measured at calibration.
        evidence: dict of test to float >= 0, what a starting capital of 1 has
            become by betting against "nothing has drifted":
            `"score_distribution"`, `"higher_delegation_rate"` and
            `"lower_delegation_rate"`.
        alarm_at: dict of test to float, the evidence that raises the alarm.
        false_alarm_rate: float. The chance that an alarm ever goes off when
            nothing drifts is at most this.
    """

    guarantee_holds: bool
    reason: str | None
    examples: int
    delegation_rate: float | None
    calibrated_delegation_rate: float
    evidence: dict
    alarm_at: dict
    false_alarm_rate: float

"""Tests of the cascade's mean loss and drop, by the kind of the examples.

Columns of right and wrong have exact tests of counts; qualities that are
fractions in [0, 1] have bets. Columns of fractions whose values on these
examples all happen to be 0 or 1 have the exact tests. Where each fraction is
replaced by 1 with its own probability, the mean stays, and what the exact test
shows without fractions is a part of what it shows then: by itself it shows too
much with a probability of at most its error.
"""

import math

import numpy as np

from keras_cascade.calibration.bounded_mean import (
    drop_stakes_for,
    examples_needed,
    lowest_shown,
    mean_drop_shown,
    mean_shown,
    stakes_for,
)
from keras_cascade.calibration.exact_tests import (
    drop_shown,
    fixed_sequence_test,
    most_allowed,
)
from keras_cascade.calibration.objective import (
    CHOSEN_AFTERWARDS,
    NONE_COUNTED,
)


def loss_guaranteed(sample, limit, error, rows=None):
    """Candidates at which a mean loss of at most `limit` is shown.

    Args:
        sample: `CalibrationSample`.
        limit: float in [0, 1].
        error: float in (0, 1).
        rows: bool array `(examples,)`, sorted: the examples that the mean is
            of. Defaults to `None`: all.

    Returns:
        Bool array `(candidates,)`, each candidate's own test.
    """
    examples = sample.examples
    if limit >= 1:
        return np.ones(len(sample.curve.thresholds), dtype=bool)
    if not sample.is_fractional:
        counted = sample.counted if rows is None else sample.counted_among(rows)
        trials = int(counted.sum())
        wrong = trials - sample.correct_among(counted)
        return wrong <= most_allowed(trials, limit, error)
    if limit <= 0:
        return np.zeros(len(sample.curve.thresholds), dtype=bool)
    return mean_shown(
        sample,
        1 - examples.student,
        1 - examples.teacher,
        limit,
        error,
        sample.scaled_weight(rows),
        rows,
    )


def drop_guaranteed(sample, limit, error):
    """Candidates from the safest down whose drop is shown to be within limit.

    Args:
        sample: `CalibrationSample`.
        limit: float in (0, 1].
        error: float in (0, 1).

    Returns:
        Bool array `(candidates,)`, after fixed-sequence testing.
    """
    if sample.is_fractional and limit < 1:
        shown = mean_drop_shown(
            sample,
            sample.examples.teacher - sample.examples.student,
            limit,
            error,
            sample.scaled_weight(),
        )
        return fixed_sequence_test(shown)
    if sample.is_fractional:
        return np.ones(len(sample.curve.thresholds), dtype=bool)
    return fixed_sequence_test(
        drop_shown(
            sample.negative_flips,
            sample.positive_flips,
            sample.trials,
            limit,
            error,
        )
    )


def drop_error_message(objective, sample, limit, noun):
    """Error message where not even delegating everything shows the limit.

    Args:
        objective: `Objective` with a confidence.
        sample: `CalibrationSample`.
        limit: float in (0, 1].
        noun: str, what is limited, such as `"drop"`.
    """
    error, trials = objective.error, sample.trials
    if sample.is_fractional:
        none = np.zeros(len(sample.examples))
        weight = _weight(sample)
        lowest = lowest_shown(none, error, weight, drop_stakes_for)
        needed = examples_needed(none, limit, error, weight, drop_stakes_for)
        trials = len(none)
    else:
        lowest = 1 - error ** (1 / trials)
        needed = math.ceil(np.log(error) / np.log1p(-limit))
    below = "any" if lowest is None else f"one below {lowest:.4f}"
    if noun == "drop" and lowest is not None:
        below = f"a drop below {lowest:.4f}"
    return (
        f"{objective} cannot be guaranteed: {trials} calibration "
        f"examples are too few to guarantee {below}, "
        "even with everything delegated. Expected: at least "
        f"{needed} examples. Collect more, or ask for a larger {noun} or a "
        "lower confidence."
    )


def loss_error_message(what, sample, limit, error, rows=None):
    """Error message where the teacher's mean loss is not shown to be low.

    Args:
        what: str, the beginning of the message.
        sample: `CalibrationSample` of fractions, or of right and wrong.
        limit: float in [0, 1], of the mean loss.
        error: float in (0, 1).
        rows: bool array `(examples,)`, sorted, or `None`: all.
    """
    rows = np.ones(len(sample.examples), bool) if rows is None else rows
    losses = 1.0 - sample.examples.teacher[rows]
    weight = _weight(sample, rows)
    weight = weight if np.ndim(weight) == 0 else weight[rows]
    if not np.any(weight):
        return f"{what}: {NONE_COUNTED}"
    mean = np.average(losses, weights=np.broadcast_to(weight, losses.shape))
    lowest = lowest_shown(losses, error, weight, stakes_for)
    shown = "nothing" if lowest is None else f"at most {lowest:.4f}"
    message = (
        f"{what}: on {len(losses)} calibration examples the teacher's mean "
        f"loss is {mean:.4f}, which shows {shown}. "
    )
    if mean >= limit:
        return (
            f"{message}Expected: a teacher below {limit:.4f}. Ask for less, "
            f"or train a better teacher. {CHOSEN_AFTERWARDS}"
        )
    needed = examples_needed(losses, limit, error, weight, stakes_for)
    return (
        f"{message}Expected: about {needed} examples, for a teacher this "
        "good. Collect more, or ask for a higher loss or less confidence. "
        f"{CHOSEN_AFTERWARDS}"
    )


def _weight(sample, rows=None):
    """Weights of the bets, 1.0 without weights."""
    weight = sample.scaled_weight(rows)
    return 1.0 if weight is None else weight

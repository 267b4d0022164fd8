"""Tests of means of bounded losses by betting, at every threshold.

With `y = weight · (limit - loss)` and a stake s, the capital `Π(1 + s·y)` of
a bet against the limit has an expectation of at most 1 where the limit is
broken, as `E[y] <= 0` there. It is never negative, as stakes are below
`1 / (1 - limit)` and weights at most 1. So has a weighted mean K of the
capitals of several stakes, and by Markov's inequality
`P(K >= 1 / error) <= error` (Waudby-Smith and Ramdas, arXiv 2010.09686).

Stakes depend on the number of examples, the limit and the error only, never
on the examples. The logarithm of the capital of one stake is then a sum over
kept and delegated examples, so that all candidates cost one pass for each
stake, and the order of the examples does not matter.

Hoeffding and Bentkus's p-value (arXiv 2110.01052) was compared beforehand: it
takes every loss of mean m to vary as much as one of 0 and 1, whose variance
is m·(1 - m). With 5,000 examples it is the tighter one above about two thirds
of that variance. Losses that are not 0 or 1 mostly have a tenth to a third of
it: the limits that it shows are 1.6 to 3 times as far above their mean as
those that betting shows. So all of them have bets.
"""

import math

import numpy as np

#: Largest ratio of one stake to the next.
RATIO = 1.7
#: What a stake that is `RATIO` times another one has less of the mixture. A
#: loss of little variance, and weights that are mostly small, need high stakes.
WEIGHT_RATIO = 0.9
#: The same for a stake of a drop below the one for a variance of `limit`:
#: that is the variance where examples drop by 1 and none by -1.
LOWER_WEIGHT_RATIO = 0.4
#: Part of the largest stake with which capital cannot become negative.
LARGEST_PART = 0.98
#: Examples that a search for a limit or a number of examples looks at.
SEARCHED = 20_000


def mean_shown(
    sample, of_student, of_teacher, limit, error, sample_weight, rows=None
):
    """Test of `E[weight · loss] <= limit · E[weight]` at each candidate.

    The loss of a kept example is the student's, of a delegated one the
    teacher's, both in [0, 1].

    Args:
        sample: `CalibrationSample`.
        of_student: float array `(examples,)` in [0, 1], sorted.
        of_teacher: float array `(examples,)` in [0, 1], sorted.
        limit: float in (0, 1).
        error: float in (0, 1).
        sample_weight: float array `(examples,)` in [0, 1], sorted, or `None`.
        rows: bool array `(examples,)`, sorted: the examples that the mean is
            of. Defaults to `None`: all.

    Returns:
        Bool array `(candidates,)`.
    """
    weight, count = _weight_of(sample, sample_weight, rows)
    return _capital_reached(
        sample.examples,
        weight * (limit - of_student),
        weight * (limit - of_teacher),
        *stakes_for(count, limit, error),
        error,
    )


def mean_drop_shown(sample, drop, limit, error, sample_weight):
    """Test of `E[weight · drop] <= limit · E[weight]` at each candidate.

    A kept example has its drop, a delegated one none.

    Args:
        sample: `CalibrationSample`.
        drop: float array `(examples,)` in [-1, 1], sorted: the teacher's
            quality less the student's.
        limit: float in (0, 1).
        error: float in (0, 1).
        sample_weight: float array `(examples,)` in [0, 1], sorted, or `None`.

    Returns:
        Bool array `(candidates,)`.
    """
    weight, count = _weight_of(sample, sample_weight, None)
    return _capital_reached(
        sample.examples,
        weight * (limit - drop),
        weight * limit,
        *drop_stakes_for(count, limit, error),
        error,
    )


def stakes_for(examples, limit, error):
    """`(stakes, weights)` of `mean_shown`, ascending; the weights sum to 1.

    From the best stake for the largest variance that a mean of `limit`
    allows, `limit · (1 - limit)`, up to the largest with which capital cannot
    become negative, with weights that decrease.

    Args:
        examples: int.
        limit: float in (0, 1).
        error: float in (0, 1).
    """
    highest = LARGEST_PART / (1 - limit)
    variance = examples * limit * (1 - limit)
    lowest = min(np.sqrt(-2 * np.log(error) / variance), highest)
    stakes, steps = _stakes_between(lowest, highest, lowest)
    weights = WEIGHT_RATIO**steps
    return stakes, weights / weights.sum()


def drop_stakes_for(examples, limit, error):
    """`(stakes, weights)` of `mean_drop_shown`; the weights sum to 1.

    Around the best stake for a variance of `limit`, down to that for the
    largest variance of a drop, 1, and up to the largest allowed.

    Args:
        examples: int.
        limit: float in (0, 1).
        error: float in (0, 1).
    """
    highest = LARGEST_PART / (1 - limit)
    lowest = min(np.sqrt(-2 * np.log(error) / examples), highest)
    middle = min(lowest / np.sqrt(limit), highest)
    stakes, steps = _stakes_between(lowest, highest, middle)
    weights = np.where(
        steps < 0,
        LOWER_WEIGHT_RATIO ** np.abs(steps),
        WEIGHT_RATIO ** np.abs(steps),
    )
    return stakes, weights / weights.sum()


def shown_alone(losses, limit, error, weight, stakes_of, examples=None):
    """Test of the mean of one loss per example, with everything delegated.

    Args:
        losses: float array `(examples,)`, in [0, 1]; of a drop 0.
        limit: float in (0, 1).
        error: float in (0, 1).
        weight: float array `(examples,)` in [0, 1], or 1.0.
        stakes_of: `stakes_for` or `drop_stakes_for`.
        examples: number of examples, if there were so many of the same kind.
            Defaults to `None`: as many as losses.

    Returns:
        bool.
    """
    examples = len(losses) if examples is None else examples
    stakes, shares = stakes_of(examples, limit, error)
    gain = weight * (limit - losses)
    grown = [np.log1p(stake * gain).mean() for stake in stakes]
    log_capital = np.log(shares) + examples * np.array(grown)
    return bool(np.logaddexp.reduce(log_capital) >= -np.log(error))


def lowest_shown(losses, error, weight, stakes_of):
    """Lowest limit that is shown with everything delegated, or `None`.

    Rounded up to what is printed. Arguments as of `shown_alone`.
    """

    def is_shown(steps):
        return shown_alone(losses, steps / 1e4, error, weight, stakes_of)

    mean = np.average(losses, weights=np.broadcast_to(weight, losses.shape))
    low, high = int(1e4 * max(mean, 0.0)), 9_999
    if not is_shown(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return high / 1e4


def examples_needed(losses, limit, error, weight, stakes_of):
    """Number of examples of this kind that show the limit, or `None`.

    `None` where the mean is not below the limit, or no realistic number is
    enough. Arguments as of `shown_alone`.
    """
    step = max(len(losses) // SEARCHED, 1)
    losses = losses[::step]
    weight = weight if np.ndim(weight) == 0 else weight[::step]

    def is_shown(examples):
        return shown_alone(losses, limit, error, weight, stakes_of, examples)

    high = 1
    while not is_shown(high):
        high *= 2
        if high > 1e9:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_shown(middle) else (middle, high)
    return high


def _stakes_between(lowest, highest, start):
    """Stakes with equal ratios, and how many times `RATIO` above `start`."""
    count = math.ceil(np.log(highest / lowest) / np.log(RATIO) - 1e-9) + 1
    stakes = np.geomspace(lowest, highest, count)
    return stakes, np.log(stakes / start) / np.log(RATIO)


def _weight_of(sample, sample_weight, rows):
    """Weight of each example in the bet, and the number of examples."""
    weight = 1.0 if sample_weight is None else sample_weight
    if rows is None:
        return weight, len(sample.examples)
    return np.where(rows, weight, 0.0), int(rows.sum())


def _capital_reached(examples, of_kept, of_delegated, stakes, shares, error):
    """True where the capital of the stakes together reaches 1 / error."""
    capital = np.zeros(len(examples.thresholds))
    for stake, share in zip(stakes, shares, strict=True):
        # One sum for both: each delegated example gives one for the other.
        # Arrays are reused, as there may be millions of examples.
        gains = stake * of_kept
        np.log1p(gains, out=gains)
        everything_kept = gains.sum()
        np.subtract(np.log1p(stake * of_delegated), gains, out=gains)
        log_capital = examples.delegated(gains)
        log_capital += everything_kept
        np.minimum(log_capital, 700.0, out=log_capital)
        np.exp(log_capital, out=log_capital)
        log_capital *= share
        capital += log_capital
    return capital >= 1 / error

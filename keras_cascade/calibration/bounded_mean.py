"""Test of the mean of a bounded loss by betting, at every threshold."""

import numpy as np

#: Ratio of one stake to the next, and of their weights in the mixture: a loss
#: of little variance needs a high stake, and little capital.
RATIO, WEIGHT_RATIO = 1.7, 0.65


def mean_shown(sample, of_student, of_teacher, limit, error, sample_weight):
    """Test of `E[weight · loss] <= limit · E[weight]` at each candidate.

    The loss of a kept example is the student's, of a delegated one the
    teacher's, both in [0, 1]. With `y = weight · (limit - loss)` and a stake
    s in (0, 1 / (1 - limit)), the capital `Π(1 + s·y)` of a bet against the
    limit has an expectation of at most 1 where the limit is broken, as
    `E[y] <= 0` there, and is never negative as weights are at most 1. So has
    a weighted mean K of the capitals of several stakes, and by Markov's
    inequality `P(K >= 1 / error) <= error` (Waudby-Smith and Ramdas, arXiv
    2010.09686).
    The stakes depend on the number of examples, the limit and the error
    only: from the best one for the largest variance that a mean of `limit`
    allows, `limit · (1 - limit)`, up, with weights that decrease.

    Fixed stakes make the logarithm of the capital a sum over kept and
    delegated examples, so that all candidates cost one pass for each stake.

    Args:
        sample: `CalibrationSample`.
        of_student: float array `(examples,)` in [0, 1], sorted.
        of_teacher: float array `(examples,)` in [0, 1], sorted.
        limit: float in (0, 1).
        error: float in (0, 1).
        sample_weight: float array `(examples,)` in [0, 1], sorted, or `None`.

    Returns:
        Bool array `(candidates,)`.
    """
    examples = sample.examples
    weight = 1.0 if sample_weight is None else sample_weight
    gains = [weight * (limit - loss) for loss in (of_student, of_teacher)]
    stakes, weights = stakes_for(len(examples), limit, error)
    log_capital = -np.inf
    for stake, share in zip(stakes, weights, strict=True):
        one = examples.kept(np.log1p(stake * gains[0])) + examples.delegated(
            np.log1p(stake * gains[1])
        )
        log_capital = np.logaddexp(log_capital, np.log(share) + one)
    return log_capital >= -np.log(error)


def stakes_for(examples, limit, error):
    """`(stakes, weights)` of `mean_shown`, ascending; the weights sum to 1.

    Args:
        examples: int.
        limit: float in (0, 1).
        error: float in (0, 1).
    """
    highest = 0.98 / (1 - limit)
    variance = examples * limit * (1 - limit)
    lowest = min(np.sqrt(-2 * np.log(error) / variance), highest)
    steps = int(np.log(highest / lowest) / np.log(RATIO)) + 1
    weights = WEIGHT_RATIO ** np.arange(steps)
    return lowest * RATIO ** np.arange(steps), weights / weights.sum()

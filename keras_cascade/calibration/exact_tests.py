"""Exact tests of shares and of an accuracy drop, and fixed-sequence testing.

Every test becomes a critical count from the binomial law, so that a million
thresholds cost one comparison each.
"""

import functools

import numpy as np
from scipy import special, stats

#: With fewer expected events, the binomial region is joined.
MIN_EXPECTED = 8
#: Number of values of the nuisance parameter P(positive flip) in the search.
COARSE_GRID = 25
FINE_GRID = 300
FINE_UP_TO = 100_000


def most_allowed(trials, limit, error):
    """Largest count that shows a share to be at most `limit`.

    The largest k with `P(Binomial(trials, limit) <= k) <= error`: a share
    above `limit` gives so few events with a probability of at most `error`.

    Args:
        trials: int, number of examples.
        limit: float in [0, 1].
        error: float in (0, 1).

    Returns:
        int, -1 where not even a count of 0 shows it.

    Example:

    >>> from keras_cascade.calibration.exact_tests import most_allowed
    >>> most_allowed(58, 0.05, 0.05), most_allowed(59, 0.05, 0.05)
    (-1, 0)
    """
    if limit >= 1:
        return trials
    # Unfrozen laws: a frozen one takes ten times as long to make as to ask.
    count = int(stats.binom.ppf(error, trials, limit))
    shown = special.bdtr(count, trials, limit) <= error
    return count if shown else count - 1


def least_needed(trials, floor, error):
    """Smallest count that shows a share to be at least `floor`.

    The smallest k with `P(Binomial(trials, floor) >= k) <= error`.

    Args:
        trials: int, number of examples.
        floor: float in [0, 1].
        error: float in (0, 1).

    Returns:
        int, `trials + 1` where not even a full count shows it.
    """
    if floor <= 0:
        return 0
    count = int(stats.binom.isf(error, trials, floor))
    shown = special.bdtrc(count, trials, floor) <= error
    return count + 1 if shown else count + 2


def drop_shown(negative_flips, positive_flips, trials, limit, error):
    """Test of an accuracy drop: true where it is shown to be at most `limit`.

    Per example the drop is 1 for a negative flip (kept, student wrong,
    teacher right), -1 for a positive flip (kept, student right, teacher
    wrong), else 0. Let N and P be their counts, n the number of trials. The
    test is of `P(negative flip) - P(positive flip) <= limit`: shown where

        N - P <= n·limit - c·√(n·limit + 2·P + 2),

    the null's standard deviation with the observed share of positive flips,
    and with the smallest c for which the exact multinomial probability of
    such counts is at most `error` whatever P(positive flip) is (an
    unconditional exact test for paired shares, in the manner of Barnard's).

    With few expected events (`n * limit` below 8, or below 1.6 times the
    square of the normal quantile of `error`) no c allows as many negative
    flips as the binomial test of `P(negative flip) <= limit` alone, where
    there are no positive ones. It is then shown where either region says so,
    and c is the smallest for which the probability of the union is at most
    `error`. Which of the two tests is used depends on `trials`, `limit` and
    `error` only, never on the counts.

    Args:
        negative_flips: int array, counts at each candidate.
        positive_flips: int array of the same shape.
        trials: int, number of examples.
        limit: float in (0, 1].
        error: float in (0, 1).

    Returns:
        Boolean array.
    """
    if limit >= 1:
        return np.ones(np.shape(negative_flips), dtype=bool)
    least, width = _region(trials, limit, error)
    most = _most_negative_flips(positive_flips, trials, limit, width, least)
    return negative_flips <= most


def fixed_sequence_test(passes):
    """Fixed-sequence testing of all candidates, from the safest one on.

    Testing starts at the safest threshold (delegate everything) and goes down
    through *every* candidate. Stopping at the first that is not shown needs
    no correction for their number: to certify a threshold that breaks the
    guarantee, the test must have failed at the highest such threshold, and that
    one is the same whatever the data (Learn Then Test, arXiv 2110.01052,
    fixed-sequence testing). Because every decision that the examples can
    tell apart is a candidate, none is left out.

    Args:
        passes: bool array `(candidates,)`, outcome of each candidate's own
            test; the last candidate delegates everything.

    Returns:
        Bool array: true from the last candidate down to the first failure.
    """
    failures = np.flatnonzero(~passes)
    certified = np.zeros(len(passes), dtype=bool)
    certified[failures[-1] + 1 if failures.size else 0 :] = True
    return certified


def _most_negative_flips(positive_flips, trials, limit, width, least):
    spread = np.sqrt(trials * limit + 2.0 * positive_flips + 2.0)
    most = positive_flips + trials * limit - width * spread
    return np.maximum(np.floor(most), least)


def _region(trials, limit, error):
    """The region of `drop_shown`: `(binomial count or -1, c)`."""
    few = max(MIN_EXPECTED, 1.6 * stats.norm.isf(error) ** 2)
    if trials * limit >= few:
        return -1, _width(trials, limit, error)
    least = most_allowed(trials, limit, error)
    if least < 0:
        # Not even no negative flip shows it without positive ones.
        return least, np.inf
    return least, _width(trials, limit, error, least)


@functools.lru_cache(maxsize=4096)
def _width(trials, limit, error, least=-1):
    """Smallest c of `drop_shown`, to a hundredth.

    Infinite where the binomial region leaves nothing of the error.
    """
    # Accepted pairs stay accepted with fewer negative or more positive flips,
    # so the worst case has a drop of exactly the limit. The P(positive flip)
    # that is then worst is searched, with a hundredth of `error` in reserve
    # for what lies between the values that are tried.
    allowed = 0.99 * error
    laws = _laws(trials, limit, COARSE_GRID)

    def is_too_small(width):
        claims = _false_claims(laws, trials, limit, width, least)
        return claims > allowed

    if is_too_small(np.inf):
        return np.inf
    low = high = float(stats.norm.isf(error))
    while not is_too_small(low):
        low -= 0.2
    while is_too_small(high):
        low, high = high, high + 0.2
    while high - low > 0.01:
        middle = (low + high) / 2
        if is_too_small(middle):
            low = middle
        else:
            high = middle
    # With many examples the claims hardly depend on P(positive flip).
    if trials <= FINE_UP_TO:
        laws = _laws(trials, limit, FINE_GRID)
        while is_too_small(high):
            high += 0.01
    return high


def _false_claims(laws, trials, limit, width, least):
    """Largest probability of a false claim over all laws."""
    positive_flips, chance, harm, starts = laws
    most = _most_negative_flips(positive_flips, trials, limit, width, least)
    # `bdtr` is not a number outside of 0 to n.
    rest = trials - positive_flips
    below = special.bdtr(np.clip(most, 0, rest), rest, harm)
    claims = np.where(most < 0, 0.0, chance * below)
    return float(np.add.reduceat(claims, starts).max())


def _laws(trials, limit, grid):
    """Laws of the flips for each value of P(positive flip), end to end.

    Returns:
        Counts of positive flips, their chances, the P(negative flip) of each
        of the other examples, and where each law starts.
    """
    # Dense near both ends, where the counts are most uneven.
    highest = (1 - limit) / 2
    shares = np.union1d(
        np.geomspace(0.25 / trials, highest, grid),
        np.linspace(0.0, highest, 1 + grid // 4),
    )
    lowest = stats.binom.ppf(5e-10, trials, shares).astype(int)
    sizes = stats.binom.isf(5e-10, trials, shares).astype(int) + 1 - lowest
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    positive_flips = np.arange(sizes.sum()) + np.repeat(lowest - starts, sizes)
    chance = stats.binom.pmf(positive_flips, trials, np.repeat(shares, sizes))
    chance /= np.repeat(np.add.reduceat(chance, starts), sizes)
    harm = np.minimum((shares + limit) / (1 - shares), 1.0)
    return positive_flips, chance, np.repeat(harm, sizes), starts

"""Exact tests of shares, from the binomial law (SciPy's).

Every function turns a test into a critical count, so that a million
thresholds cost one comparison each.
"""

import functools

import numpy as np
from scipy import stats

#: Below so many expected events the one-sided test is used.
MIN_EXPECTED = 8
#: So many values of the nuisance parameter P(helped) are tried.
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
    law = stats.binom(trials, limit)
    count = int(law.ppf(error))
    return count if law.cdf(count) <= error else count - 1


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
    law = stats.binom(trials, floor)
    count = int(law.isf(error))
    return count + 1 if law.sf(count) <= error else count + 2


def drop_shown(harmed, helped, trials, limit, error):
    """Where an accuracy drop is shown to be at most `limit`.

    Per example the drop is 1 where keeping harms (student wrong, teacher
    right), -1 where it helps (the reverse), else 0. With few expected events
    (`trials * limit` below 8, or below 1.6 times the square of the normal
    quantile of `error`) the test ignores the helped and asks whether
    `P(harmed) <= limit`, by the binomial law. With more it tests
    `P(harmed) - P(helped) <= limit` itself: shown where

        harmed - helped <= trials·limit - c·√(trials·limit + 2·helped + 2),

    the null's standard deviation with the observed share of helped, and with
    the smallest c for which the exact multinomial probability of such counts
    is at most `error` whatever P(helped) is (an unconditional exact test for
    paired shares, in the manner of Barnard's). Which of the two is used
    depends on `trials`, `limit` and `error` only, never on the counts.

    Args:
        harmed: int array, events kept at each candidate.
        helped: int array of the same shape.
        trials: int, number of examples.
        limit: float in (0, 1].
        error: float in (0, 1).

    Returns:
        Boolean array.
    """
    quantile = stats.norm.isf(error)
    if trials * limit < max(MIN_EXPECTED, 1.6 * quantile**2):
        return harmed <= most_allowed(trials, limit, error)
    if limit >= 1:
        return np.ones(np.shape(harmed), dtype=bool)
    width = _width(trials, limit, error)
    return harmed <= _most_harmed(helped, trials, limit, width)


def _most_harmed(helped, trials, limit, width):
    spread = np.sqrt(trials * limit + 2.0 * helped + 2.0)
    return helped + trials * limit - width * spread


@functools.lru_cache(maxsize=4096)
def _width(trials, limit, error):
    """The smallest c of `drop_shown`, to a hundredth."""
    # Accepted pairs stay accepted with fewer harmed or more helped, so the
    # worst case has a drop of exactly the limit. Where P(helped) is then
    # worst is searched, with a hundredth of `error` in reserve for what lies
    # between the values that are tried.
    allowed = 0.99 * error
    coarse = _laws(trials, limit, COARSE_GRID)
    low = high = float(stats.norm.isf(error))
    while _false_claims(coarse, trials, limit, low) <= allowed:
        low -= 0.2
    while _false_claims(coarse, trials, limit, high) > allowed:
        low, high = high, high + 0.2
    while high - low > 0.01:
        middle = (low + high) / 2
        if _false_claims(coarse, trials, limit, middle) > allowed:
            low = middle
        else:
            high = middle
    # With many examples the claims hardly depend on P(helped).
    if trials <= FINE_UP_TO:
        fine = _laws(trials, limit, FINE_GRID)
        while _false_claims(fine, trials, limit, high) > allowed:
            high += 0.01
    return high


def _false_claims(laws, trials, limit, width):
    """The largest probability of showing what is not so."""
    worst = 0.0
    for share, helped, chance in laws:
        most = np.floor(_most_harmed(helped, trials, limit, width))
        harm = min((share + limit) / (1 - share), 1.0)
        below = stats.binom.cdf(most, trials - helped, harm)
        worst = max(worst, float(chance @ below))
    return worst


def _laws(trials, limit, grid):
    """`(P(helped), counts, their chances)`, all but 1e-9 of the mass."""
    # Dense near both ends, where the counts are most uneven.
    highest = (1 - limit) / 2
    shares = np.union1d(
        np.geomspace(0.25 / trials, highest, grid),
        np.linspace(0.0, highest, 1 + grid // 4),
    )
    laws = []
    for share in shares.tolist():
        law = stats.binom(trials, share)
        counts = np.arange(law.ppf(5e-10), law.isf(5e-10) + 1)
        chance = law.pmf(counts)
        laws.append((share, counts, chance / chance.sum()))
    return laws

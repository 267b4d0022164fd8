"""Bets against "nothing has drifted": each 1 in the mean when it is true."""

import numpy as np

CUTS = np.array([0.1, 0.25, 0.5, 0.75, 0.9])
SCORE_ODDS = (1 / 3, 2 / 3, 3 / 2, 3)
RATE_ODDS = (1.25, 2, 4)


def odds_bets(happens, probability, odds):
    """What one unit of capital becomes when the odds are bet to be others.

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

    >>> from keras_cascade.runtime.drift.drift_bets import odds_bets
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


def score_outcomes(p_values):
    """Number of the piece of [0, 1) that each p-value lies in."""
    return np.searchsorted(CUTS, p_values, side="right")


def score_bets():
    """Bets on low, high, middling and extreme p-values, weak and strong.

    Returns:
        float64 array `(pieces, bets)`, with a row for each of
        `score_outcomes`.
    """
    ends = np.r_[0.0, CUTS, 1.0]
    middles = (ends[:-1] + ends[1:]) / 2
    regions = [(middles < cut, cut) for cut in CUTS]
    regions.append(((middles > 0.25) & (middles < 0.75), 0.5))
    return np.hstack([odds_bets(*region, SCORE_ODDS) for region in regions])


def rate_bets(highest):
    """Bets that something comes in a larger share than `highest`.

    Args:
        highest: float in (0, 1].

    Returns:
        float64 array `(2, bets)`: where it does not come, where it does.
    """
    if highest >= 1:
        return np.ones((2, 1))  # nothing can: no bet
    return odds_bets([False, True], highest, RATE_ODDS)

"""Exact intervals of shares and of paired differences of shares."""

#: Part of the error for the share of pairs that differ.
PAIRS_PART = 0.2


def share_interval(events, trials, confidence):
    """Clopper and Pearson's interval of a share.

    The ends are the shares that give so many events or more, or so many or
    fewer, with a probability of half the error: quantiles of beta laws. They
    cover at least as often as stated, whatever the share. For a mean of values
    in [0, 1], with their sum as `events`, the interval is wide: no such values
    vary more than events do.

    Args:
        events: float in [0, trials].
        trials: float > 0.
        confidence: float in (0, 1).

    Returns:
        `(low, high)`.
    """
    from scipy import stats  # loaded on use, as in all of `evaluation`

    tail = (1 - confidence) / 2
    misses = trials - events
    low = stats.beta.ppf(tail, events, misses + 1) if events > 0 else 0.0
    high = stats.beta.ppf(1 - tail, events + 1, misses) if misses > 0 else 1.0
    return float(low), float(high)


def paired_difference_interval(gains, losses, trials, confidence):
    """Interval of `P(gain) - P(loss)` of paired examples, by exact laws.

    Given the number of pairs that differ, m = gains + losses, the gains are
    Binomial(m, t), where t = P(gain) / P(differ), and m is
    Binomial(trials, r), where r = P(differ). The difference is r·(2t - 1).
    With Clopper and Pearson's intervals, of t with four fifths of the error
    and of r with the other fifth, both hold at once (union bound), and so does
    the smallest interval that holds r·(2t - 1) for all of them.

    Args:
        gains: int, examples that only the first has.
        losses: int, examples that only the second has.
        trials: int, number of examples.
        confidence: float in (0, 1).

    Returns:
        `(low, high)`.
    """
    differing, error = gains + losses, 1 - confidence
    few, many = share_interval(differing, trials, 1 - PAIRS_PART * error)
    if not differing:
        return -many, many
    low, high = share_interval(gains, differing, 1 - (1 - PAIRS_PART) * error)
    low, high = 2 * low - 1, 2 * high - 1
    return (
        low * (few if low > 0 else many),
        high * (many if high > 0 else few),
    )

"""Whether a gate delegates what the student knows nothing about."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class OutOfScope:
    """How a gate tells foreign inputs from those it was made for.

    Attributes:
        auroc: float, the chance that an input in scope scores above a foreign
            one; 0.5 is none.
        delegated: float, share of foreign inputs that the threshold delegates.
        delegated_interval: tuple of two floats, exact (Clopper-Pearson).
        delegation_rate: float, share of inputs in scope that it delegates.
        foreign: int, how many foreign inputs there were.
        confidence: float, of the interval.
    """

    auroc: float
    delegated: float
    delegated_interval: tuple
    delegation_rate: float
    foreign: int
    confidence: float


def out_of_scope(scores, foreign_scores, threshold, confidence=0.95):
    """Measures a gate on inputs that no class is right for.

    Args:
        scores: array `(examples,)`, of inputs in scope, such as
            `cascade.scores(x)`.
        foreign_scores: array, of foreign ones.
        threshold: float. Delegate when `score < threshold`.
        confidence: float in (0, 1). Defaults to `0.95`.

    Returns:
        `OutOfScope`.

    Raises:
        ValueError: no scores, or some that are not finite.

    Example:

    >>> import keras_cascade as kc
    >>> found = kc.evaluation.out_of_scope([0.9, 0.4], [0.5, 0.1], 0.3)
    >>> found.auroc, found.delegated
    (0.75, 0.5)
    """
    from scipy import stats
    from sklearn.metrics import roc_auc_score

    scores, foreign = _checked(scores), _checked(foreign_scores)
    threshold = np.float32(threshold)
    delegated = foreign.astype("float32") < threshold
    exact = stats.binomtest(int(delegated.sum()), len(foreign)).proportion_ci(
        confidence, "exact"
    )
    ours = np.repeat([True, False], [len(scores), len(foreign)])
    return OutOfScope(
        auroc=float(roc_auc_score(ours, np.concatenate([scores, foreign]))),
        delegated=float(delegated.mean()),
        delegated_interval=(float(exact.low), float(exact.high)),
        delegation_rate=float((scores.astype("float32") < threshold).mean()),
        foreign=len(foreign),
        confidence=confidence,
    )


def threshold_against(foreign_scores, share, confidence=None):
    """The lowest threshold that delegates a share of foreign inputs.

    A cascade's own threshold may be higher already. Raising it delegates more
    and so keeps every guarantee on accuracy; a guarantee on cost it may break.

    Args:
        foreign_scores: array, of foreign inputs.
        share: float in (0, 1), of them to delegate at least.
        confidence: float in (0, 1), with which that holds for new foreign
            inputs like these: the order statistic whose rank the binomial
            distribution gives. Defaults to `None`: it holds for these.

    Returns:
        float.

    Raises:
        ValueError: so few inputs support no such guarantee.

    Example:

    >>> import keras_cascade as kc
    >>> kc.evaluation.threshold_against([0.1, 0.2, 0.3, 0.4], 0.75)
    0.35
    """
    foreign = np.sort(_checked(foreign_scores))
    if not 0 < share < 1:
        raise ValueError(f"Expected `share` in (0, 1). Received: {share!r}.")
    count = len(foreign)
    rank = math.ceil(share * count)
    if confidence is not None:
        from scipy import stats

        # The r-th of n scores lies above the s-quantile of all if fewer than
        # r fell below that; how many do is binomial.
        rank = 1 + int(stats.binom.ppf(confidence, count, share))
        if rank > count:
            needed = math.ceil(math.log(1 - confidence) / math.log(share))
            raise ValueError(
                f"Expected at least {needed} foreign inputs, to delegate "
                f"{share:.0%} of new ones with confidence {confidence}. "
                f"Received: {count}."
            )
    lowest = foreign[rank - 1]
    above = foreign[foreign > lowest]
    # Between two scores, as float32, in which a gate compares them.
    between = np.float32((lowest + above[0]) / 2 if above.size else lowest)
    if between <= np.float32(lowest):
        between = np.nextafter(np.float32(lowest), np.float32(np.inf))
    return float(between)


def _checked(scores):
    scores = np.asarray(scores, "float64").reshape(-1)
    if not scores.size or not np.isfinite(scores).all():
        raise ValueError(
            "Expected at least one score, and only finite ones. Received: "
            f"{scores.size}, {int((~np.isfinite(scores)).sum())} not finite."
        )
    return scores

"""Out-of-distribution (OOD) inputs: detection by a gate, and a threshold."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from keras_cascade.utils.validation import check_scores


@dataclasses.dataclass(frozen=True)
class OODDetection:
    """Detection of out-of-distribution inputs by a gate's score.

    Attributes:
        auroc: float, the chance that an in-distribution input scores above an
            out-of-distribution one; 0.5 for a score that separates nothing.
        delegated: float, share of OOD inputs that the threshold delegates.
        delegated_interval: tuple of two floats, exact (Clopper-Pearson).
        delegation_rate: float, share of in-distribution inputs that it
            delegates.
        ood_examples: int, number of OOD inputs.
        confidence: float, of the interval.
    """

    auroc: float
    delegated: float
    delegated_interval: tuple
    delegation_rate: float
    ood_examples: int
    confidence: float


def out_of_distribution(
    scores: npt.ArrayLike,
    ood_scores: npt.ArrayLike,
    threshold: float,
    confidence: float = 0.95,
) -> OODDetection:
    """Measures how a gate detects inputs that no class is right for.

    Args:
        scores: array `(examples,)`, of in-distribution inputs, such as
            `cascade.scores(x)`.
        ood_scores: array `(examples,)`, of OOD inputs.
        threshold: float. Delegate when `score < threshold`.
        confidence: float in (0, 1). Defaults to `0.95`.

    Returns:
        `OODDetection`.

    Raises:
        ValueError: no scores, or some that are not finite.

    Example:

    >>> import keras_cascade as kc
    >>> ood = kc.evaluation.out_of_distribution([0.9, 0.4], [0.5, 0.1], 0.3)
    >>> ood.auroc, ood.delegated
    (0.75, 0.5)
    """
    from scipy import stats
    from sklearn.metrics import roc_auc_score

    scores, ood = check_scores(scores), check_scores(ood_scores)
    cut = np.float32(threshold)
    delegated = ood.astype("float32") < cut
    exact = stats.binomtest(int(delegated.sum()), len(ood)).proportion_ci(
        confidence, "exact"
    )
    in_distribution = np.repeat([True, False], [len(scores), len(ood)])
    return OODDetection(
        auroc=float(
            roc_auc_score(in_distribution, np.concatenate([scores, ood]))
        ),
        delegated=float(delegated.mean()),
        delegated_interval=(float(exact.low), float(exact.high)),
        delegation_rate=float((scores.astype("float32") < cut).mean()),
        ood_examples=len(ood),
        confidence=confidence,
    )


def threshold_against(
    ood_scores: npt.ArrayLike, share: float, confidence: float | None = None
) -> float:
    """Lowest threshold that delegates a share of out-of-distribution inputs.

    A cascade's own threshold may be higher already. Raising it delegates more
    and so keeps every guarantee on accuracy; a guarantee on cost it may break.

    Args:
        ood_scores: array `(examples,)`, of OOD inputs.
        share: float in (0, 1), of them to delegate at least.
        confidence: float in (0, 1), with which that holds for new OOD
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
    ood = np.sort(check_scores(ood_scores))
    if not 0 < share < 1:
        raise ValueError(f"Expected `share` in (0, 1). Received: {share!r}.")
    count = len(ood)
    # The lowest rank whose share is reached: `0.07 * 100` is above 7.
    rank = max(math.ceil(share * count), 1)
    if rank > 1 and (rank - 1) / count >= share:
        rank -= 1
    if confidence is not None:
        from scipy import stats

        # The r-th of n scores lies above the s-quantile of all if fewer than
        # r fell below that; how many do is binomial.
        rank = 1 + int(stats.binom.ppf(confidence, count, share))
        if rank > count:
            needed = math.ceil(math.log(1 - confidence) / math.log(share))
            raise ValueError(
                f"Expected at least {needed} out-of-distribution inputs, to "
                f"delegate {share:.0%} of new ones with confidence "
                f"{confidence}. "
                f"Received: {count}."
            )
    lowest = ood[rank - 1]
    above = ood[ood > lowest]
    # Between two scores, as float32, in which a gate compares them.
    between = np.float32(lowest / 2 + above[0] / 2 if above.size else lowest)
    if between <= np.float32(lowest):
        between = np.nextafter(np.float32(lowest), np.float32(np.inf))
    return float(between)

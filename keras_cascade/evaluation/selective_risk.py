"""Selective risk: areas under the student's risk-coverage curves."""

import numpy as np
import numpy.typing as npt

from keras_cascade.evaluation.sorted_examples import SortedExamples


def aurc(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Area under the risk-coverage curve: lower is better.

    The student's error rate on the k examples with the highest scores,
    averaged over k = 1 ... n. Source: Geifman and El-Yaniv, arXiv 1705.08500
    and 1805.08206.

    Tied examples are kept in random order and the expectation is taken. With
    weights, an example is a step in coverage as wide as its weight; examples
    that tie share their weight and their errors equally.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        Float in [0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> round(
    ...     kc.evaluation.aurc([0.9, 0.5, 0.1], [True, False, True]), 4
    ... )  # (0 + 1/2 + 1/3) / 3
    0.2778
    """
    sizes, weight, wrong = _runs(scores, student_correct, sample_weight)
    weight = np.repeat(weight / sizes, sizes)
    wrong = np.repeat(wrong / sizes, sizes)
    risk = np.cumsum(wrong) / np.cumsum(weight)
    return float(np.average(risk, weights=weight))


def augrc(
    scores: npt.ArrayLike,
    student_correct: npt.ArrayLike,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Area under the generalized risk-coverage curve: lower is better.

    The share of examples that are kept *and* wrong, averaged over coverages
    from 0 to 1: the average risk of a silent failure. Unlike `aurc` it does
    not weight the first few kept examples most. Source: Traub et al., arXiv
    2407.01032. Straight lines join the candidates, so that tied examples
    count as kept in random order.

    Args:
        scores: float array `(examples,)`, higher = surer.
        student_correct: bool array `(examples,)`, or float array in [0, 1].
        sample_weight: optional float array `(examples,)`, non-negative.
            Defaults to `None`.

    Returns:
        Float in [0, 0.5].

    Example:

    >>> import keras_cascade as kc
    >>> round(
    ...     kc.evaluation.augrc([0.9, 0.5, 0.1], [True, False, True]), 4
    ... )  # (0 + 1/6 + 1/3) / 3
    0.1667
    """
    from sklearn.metrics import auc

    _, weight, wrong = _runs(scores, student_correct, sample_weight)
    coverage = np.append(0.0, np.cumsum(weight))
    return auc(
        coverage / coverage[-1],
        np.append(0.0, np.cumsum(wrong)) / coverage[-1],
    )


def _runs(scores, student_correct, sample_weight):
    """Returns size, weight and weight of errors per score, surest first.

    Examples without weight are left out.
    """
    examples = SortedExamples(
        scores, student_correct, student_correct, sample_weight
    )
    weight = examples.weight
    if weight is None:
        weight = np.ones(len(examples))
    columns = np.stack([weight > 0, weight, weight * (1 - examples.student)])
    starts = examples.delegated(np.ones(len(examples), dtype=bool))[:-1]
    sizes, weight, wrong = np.add.reduceat(columns, starts, axis=1)[:, ::-1]
    counts = sizes > 0
    return sizes[counts].astype(int), weight[counts], wrong[counts]

"""Remarks on a teacher that is no use to its student."""

import numpy as np
from scipy import stats

from keras_cascade.utils.validation import check_qualities

#: Fewer examples say nothing.
MIN_EXAMPLES = 50
#: Level of the tests.
ERROR = 0.01
#: Share of what chance leaves to be learned, below which a teacher counts as
#: near chance.
NEAR_CHANCE = 0.1


def teacher_remarks(results) -> list[str]:
    """Remarks on a teacher near chance, below or equal to its student.

    Args:
        results: `ExampleResults` with labels.

    Returns:
        List of sentences with the figures; empty for a teacher that is of
        use, for fewer than 50 examples, and, but for equal answers, where
        qualities are fractions: the tests are of right and wrong.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> from keras_cascade.evaluation.teacher_remarks import teacher_remarks
    >>> labels = np.arange(100) % 2
    >>> results = kc.evaluation.ExampleResults(
    ...     scores=np.linspace(0, 1, 100),
    ...     student_correct=np.ones(100, bool),
    ...     teacher_correct=np.arange(100) % 4 < 2,
    ...     labels=labels,
    ... )
    >>> for remark in teacher_remarks(results):
    ...     print(remark)
    The teacher is near chance: 50.0% right on 100 examples, where the most \
frequent class alone gives 50.0%.
    The teacher is below the student: 50.0% right on 100 examples, the \
student 100.0%.
    """
    count = len(results)
    if count < MIN_EXAMPLES or results.labels is None:
        return []
    student, teacher = check_qualities(
        results.student_correct, results.teacher_correct
    )
    if student.dtype != bool:
        return _remarks_on_equality(results)
    remarks = []
    of = f"{teacher.mean():.1%} right on {count} examples"
    chance = np.unique(results.labels, return_counts=True)[1].max() / count
    if chance < 1:
        right = int(teacher.sum())
        test = stats.binomtest(right, count, chance, alternative="greater")
        learned = (teacher.mean() - chance) / (1 - chance)
        if test.pvalue > ERROR or learned < NEAR_CHANCE:
            remarks.append(
                f"The teacher is near chance: {of}, where the most frequent "
                f"class alone gives {chance:.1%}."
            )
    if _more_often_right(student, teacher):
        remarks.append(
            f"The teacher is below the student: {of}, the student "
            f"{student.mean():.1%}."
        )
    return remarks + _remarks_on_equality(results)


def _remarks_on_equality(results):
    if not _are_equal(results):
        return []
    return [
        "The teacher equals the student: both give the same answers to "
        f"all {len(results)} examples, so that delegation changes nothing."
    ]


def _more_often_right(one, other):
    """Tests whether one model is right more often than another, in pairs."""
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    if not wins + losses:
        return False
    test = stats.binomtest(wins, wins + losses, 0.5, alternative="greater")
    return test.pvalue < ERROR


def _are_equal(results):
    pairs = [
        (results.student_labels, results.teacher_labels),
        (results.student_confidence, results.teacher_confidence),
    ]
    if any(column is None for pair in pairs for column in pair):
        return False
    (labels, others), (confidence, confidences) = pairs
    return np.array_equal(labels, others) and np.allclose(
        confidence, confidences, rtol=0, atol=1e-6
    )

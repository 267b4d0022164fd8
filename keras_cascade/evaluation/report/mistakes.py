"""Accepted mistakes of the student, and their inputs as picture or text."""

import base64
import io

import keras
import numpy as np

from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.utils.validation import check_qualities

MOST_MISTAKES = 12
LONGEST_TEXT = 600
_ROUNDING = 1e-3


def hardest_mistakes(results, threshold, most=MOST_MISTAKES):
    """Examples that the gate accepts and the student gets wrong, surest first.

    Examples of weight zero are left out. Of qualities that are fractions, all
    below 1 are mistakes.

    Args:
        results: `ExampleResults`, with labels and student labels.
        threshold: float. Delegate when `score < threshold`. Or one float
            for each class that the student predicts.
        most: int, the largest number of examples. Defaults to `12`.

    Returns:
        JSON-compatible list of dicts: `row` (from 0, as in `results`), `label`,
        `student_label`, `student_confidence`, `score` and
        `teacher_right`; `None` where the labels are not known.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> from keras_cascade.evaluation.report.mistakes import hardest_mistakes
    >>> results = kc.evaluation.ExampleResults(
    ...     scores=np.array([0.1, 0.7, 0.9]),
    ...     student_correct=np.array([False, False, True]),
    ...     teacher_correct=np.array([True, True, True]),
    ...     labels=np.array([0, 1, 1]),
    ...     student_labels=np.array([1, 0, 1]),
    ...     student_confidence=np.array([0.5, 0.75, 1.0]),
    ... )
    >>> (mistake,) = hardest_mistakes(results, 0.5)
    >>> mistake["row"], mistake["student_label"], mistake["teacher_right"]
    (1, 0, True)
    """
    if results.labels is None or results.student_labels is None:
        return None
    student, teacher = check_qualities(
        results.student_correct, results.teacher_correct
    )
    wrong = student < 1
    wrong &= ~delegated_at(results.scores, threshold, results.student_labels)
    if results.sample_weight is not None:
        wrong &= np.asarray(results.sample_weight) > 0
    rows = np.flatnonzero(wrong)
    scores = np.asarray(results.scores)[rows]
    rows = rows[np.argsort(-scores, kind="stable")[:most]]
    return [
        {
            "row": int(row),
            "label": int(results.labels[row]),
            "student_label": int(results.student_labels[row]),
            "student_confidence": float(results.student_confidence[row]),
            "score": float(results.scores[row]),
            "teacher_right": bool(teacher[row] == 1),
        }
        for row in rows
    ]


def picture_or_text(example):
    """One input as an image or a text, for the page.

    Args:
        example: array (or structure of arrays) without a batch axis.

    Returns:
        `{"image": data URI}` for an image of 1 or 3 channels, uint8 or
        floats in [0, 1]; `{"text": str}` for one string; else `{}`.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.evaluation.report.mistakes import picture_or_text
    >>> picture_or_text(np.array(b"a caf\\xc3\\xa9", dtype=object))
    {'text': 'a café'}
    >>> picture_or_text(np.zeros((2, 2, 1)))["image"][:22]
    'data:image/png;base64,'
    >>> picture_or_text(np.zeros(7))
    {}
    """
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(example)]
    if len(leaves) != 1:
        return {}
    (leaf,) = leaves
    if leaf.dtype.kind in "OSU":
        return {"text": _text(leaf.item())} if leaf.size == 1 else {}
    if leaf.ndim == 3 and leaf.shape[-1] in (1, 3) and leaf.size:
        return _picture(leaf)
    return {}


def _text(value):
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    value = str(value)
    short = len(value) <= LONGEST_TEXT
    return value if short else value[: LONGEST_TEXT - 1] + "…"


def _picture(pixels):
    from matplotlib.image import imsave

    if pixels.dtype == np.uint8:
        pixels = pixels / 255.0
    if pixels.dtype.kind != "f":
        return {}
    pixels = pixels.astype("float64")
    # NaN fails both comparisons.
    if not (pixels.min() >= -_ROUNDING and pixels.max() <= 1 + _ROUNDING):
        return {}
    pixels = np.clip(pixels, 0, 1)
    file = io.BytesIO()
    imsave(
        file,
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels,
        cmap="gray", vmin=0, vmax=1, format="png",
        metadata={"Software": None},
    )  # fmt: skip
    text = base64.b64encode(file.getvalue()).decode()
    return {"image": f"data:image/png;base64,{text}"}

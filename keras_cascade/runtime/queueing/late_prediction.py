"""Queued rows with their answers, in the form of every other prediction."""

import numpy as np

from keras_cascade.runtime.draft import SOURCE
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.utils.numpy_softmax import numpy_softmax


def late_prediction(rows, classes):
    """What the teacher answered to queued rows.

    Args:
        rows: list of `QueuedRow`, each with `logits` or a `refusal`.
        classes: list of str.

    Returns:
        `EdgePrediction`.
    """
    probabilities = np.empty((len(rows), len(classes)), "float32")
    labels = np.full(len(rows), -1, "int64")
    source = np.full(len(rows), "refused", SOURCE)
    for number, row in enumerate(rows):
        if row.logits is None:
            probabilities[number] = row.probabilities
            continue
        probabilities[number] = numpy_softmax(row.logits)
        labels[number] = probabilities[number].argmax()
        source[number] = "cloud"
    refusals = [row.refusal for row in rows if row.refusal is not None]
    return EdgePrediction(
        labels=labels,
        probabilities=probabilities,
        score=np.array([row.score for row in rows], "float32"),
        source=source,
        classes=classes,
        teacher_error=refusals[0] if refusals else None,
        operating_point=", ".join(sorted({r.operating_point for r in rows})),
        ids=[row.id for row in rows],
    )

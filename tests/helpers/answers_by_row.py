"""Comparison of a device's answers with Keras's, row by row."""

import numpy as np

import keras_cascade as kc


def softmax(model, x):
    """Probabilities of a Keras model, by NumPy."""
    logits = np.asarray(model.predict(x, verbose=0), dtype="float64")
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def check_answers_by_row(cascade, bundle, x, limit):
    """Checks what a quantized file's answers may differ from Keras's by.

    A kept row has the student's answer, a delegated one the teacher's: where
    the two decide otherwise, the whole answer is another model's, however
    little the student's own moved. So three things are checked apart: the
    student's own answers, each decision, and the whole answer of each row.

    Args:
        cascade: `Cascade` with a `MarginGate`.
        bundle: `Bundle` of it.
        x: inputs.
        limit: float, accepted mean distance of the student's answers, half
            the sum of the differences of a row's probabilities.

    Returns:
        Bool array: the rows that the file decides otherwise than Keras.
    """
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    alone, whole = edge.predict_alone(x), edge.predict(x)
    student, teacher = softmax(cascade.student, x), softmax(cascade.teacher, x)
    expected = cascade.predict(x, verbose=0)
    # The student's own answers.
    moved = np.abs(alone.probabilities - student)
    assert moved.sum(axis=1).mean() / 2 <= limit
    # A decision is that of the gate, on the file's own probabilities.
    ordered = np.sort(alone.probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    np.testing.assert_allclose(alone.score, margin, atol=1e-5)
    delegated = whole.source == "cloud"
    threshold = np.float32(bundle.operating_point()["threshold"])
    np.testing.assert_array_equal(delegated, alone.score < threshold)
    # A whole answer is one of the two.
    np.testing.assert_allclose(
        whole.probabilities,
        np.where(delegated[:, None], teacher, alone.probabilities),
        atol=1e-5,
    )
    same = delegated == expected["delegated"]
    difference = np.abs(whole.probabilities - expected["probabilities"])
    allowed = np.where(delegated[:, None], 0.0, moved) + 1e-5
    assert (difference <= allowed)[same].all()
    return ~same

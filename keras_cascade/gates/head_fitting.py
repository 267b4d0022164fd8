"""Fits the head of a learned gate with scikit-learn."""

import warnings

import numpy as np
from scipy.special import logit

#: Enough for a head to settle on some thousand examples. One that is stopped
#: here is a head too, and calibration measures whichever comes out.
ITERATIONS = 500


def fit_head(
    inputs, student_correct, teacher_correct, weight, hidden_units, l2, seed
):
    """A one-layer network from inputs to which model is right.

    Args:
        inputs: float array `(examples, inputs)`.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        weight: float array `(examples,)`, or `None`: all count the same.
        hidden_units: int.
        l2: float, scikit-learn's `alpha`.
        seed: int.

    Returns:
        Dict of float32 arrays: `mean`, `scale` `(inputs,)`; `hidden_kernel`
        `(inputs, hidden_units)`, `hidden_bias` `(hidden_units,)`;
        `right_kernel` `(hidden_units, 2)`, `right_bias` `(2,)`, of student
        and teacher.

    Raises:
        ValueError: each model is always right or always wrong.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier
    from threadpoolctl import threadpool_limits

    targets = np.stack([student_correct, teacher_correct], axis=1)
    if weight is not None:
        counted = weight > 0
        inputs, targets, weight = (
            inputs[counted],
            targets[counted],
            weight[counted],
        )
    varied = np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0))
    if not varied.size:
        raise ValueError(_nothing_to_learn(targets))
    inputs = inputs.astype("float64")
    mean = np.average(inputs, axis=0, weights=weight)
    scale = _scale(inputs, mean, weight)
    head = MLPClassifier(
        hidden_layer_sizes=(hidden_units,),
        activation="tanh",
        solver="lbfgs",
        alpha=l2,
        max_iter=ITERATIONS,
        random_state=seed,
    )
    weighted = {}
    if weight is not None:
        weighted["sample_weight"] = weight / weight.mean()
    # One thread: these matrices are too small to share out.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        head.fit(
            (inputs - mean) / scale,
            targets[:, varied] if varied.size == 2 else targets[:, varied[0]],
            **weighted,
        )
    # A model that is always right, or never, needs no weights: Laplace's
    # estimate of how often it is right will do.
    shares = np.average(targets, axis=0, weights=weight)
    right_kernel = np.zeros((hidden_units, 2))
    right_bias = logit((len(targets) * shares + 1) / (len(targets) + 2))
    right_kernel[:, varied] = head.coefs_[1]
    right_bias[varied] = head.intercepts_[1]
    found = {
        "mean": mean,
        "scale": scale,
        "hidden_kernel": head.coefs_[0],
        "hidden_bias": head.intercepts_[0],
        "right_kernel": right_kernel,
        "right_bias": right_bias,
    }
    return {name: values.astype("float32") for name, values in found.items()}


def _scale(inputs, mean, weight):
    """Standard deviations, but never so small as to blow up rounding.

    A saturated student's largest probability differs from 1 by less than
    float32 tells apart on another device; its logarithms carry the rest.
    """
    deviation = np.sqrt(np.average((inputs - mean) ** 2, 0, weight))
    floor = 1e-3 * np.abs(mean)
    scale = np.maximum(deviation, floor)
    return np.where(scale > 1e-6, scale, 1.0)


def _nothing_to_learn(targets):
    student, teacher = (
        "always right" if column.all() else "always wrong"
        for column in targets.T
    )
    return (
        "There is nothing to learn: on these examples the student is "
        f"{student} and the teacher is {teacher}. Expected: examples of which "
        "one of them gets some right and some wrong. Pass more held-out "
        "examples, and none that the student was trained on."
    )

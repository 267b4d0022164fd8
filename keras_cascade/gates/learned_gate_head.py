"""Head of the learned gate: its inputs, and its fit with scikit-learn."""

import math
import warnings

import numpy as np
from keras import ops
from scipy.special import logit

from keras_cascade.utils.tensor_ops import as_float

#: Number of largest probabilities among the inputs.
TOP = 5
#: With more student outputs, the probabilities by class are left out: the head
#: would have more weights than there are examples to fit them.
MAX_OUTPUTS = 256
#: Smaller probabilities are raised to this one before the logarithm.
FLOOR = math.exp(-16.0)
#: Enough to converge on some thousand examples. A head that is stopped here is
#: usable too: calibration measures whichever comes out.
ITERATIONS = 500


def head_inputs(logits, features):
    """Input vector of the head for each example.

    Args:
        logits: float tensor `(batch, outputs)`.
        features: dict of layer name to tensor, batch first; as
            `select_features` returns it.

    Returns:
        Float tensor `(batch, inputs)`: the largest probabilities in order,
        their logarithms, the logarithms of all, the flattened features.
    """
    shares = ops.softmax(logits, axis=-1)
    outputs = logits.shape[-1]
    top = _largest(shares, min(TOP, outputs))
    parts = [top, ops.log(ops.maximum(top, FLOOR))]
    if outputs <= MAX_OUTPUTS:
        parts.append(ops.log(ops.maximum(shares, FLOOR)))
    for feature in features.values():
        size = math.prod(feature.shape[1:])
        parts.append(ops.reshape(as_float(feature), (-1, size)))
    return ops.concatenate(parts, axis=-1)


def _largest(shares, count):
    """The largest values of each row, in order, as `top_k` gives them.

    Without `top_k`, which microcontrollers lack. A row that is not a number
    stays one: its maximum equals none of its values, and 0 is divided by 0.
    """
    numbers = np.arange(1, shares.shape[-1] + 1)
    numbers = ops.cast(numbers, shares.dtype)
    values, left = [], shares
    for _ in range(count):
        top = ops.max(left, axis=-1, keepdims=True)
        values.append(top)
        # Of values that tie one at a time, the last first.
        at_top = ops.where(ops.equal(left, top), numbers, 0.0)
        last = ops.max(at_top, axis=-1, keepdims=True)
        left = ops.where(ops.equal(numbers, last), -1.0, left)
    some = ops.cast(ops.equal(shares, values[0]), shares.dtype)
    known = ops.minimum(ops.sum(some, axis=-1, keepdims=True), 1.0)
    values[0] = values[0] * known / known
    return ops.concatenate(values, axis=-1)


def head_input_size(outputs, feature_shapes):
    """Length of the head's input vector.

    Args:
        outputs: int, number of student outputs.
        feature_shapes: dict of layer name to shape, batch first.
    """
    for name, shape in feature_shapes.items():
        if None in shape[1:]:
            raise ValueError(
                "A learned gate needs features of one size. Received shape "
                f"{tuple(shape)} from layer '{name}'. Name a pooling layer "
                "behind it."
            )
    size = 2 * min(TOP, outputs) + (outputs if outputs <= MAX_OUTPUTS else 0)
    return size + sum(math.prod(s[1:]) for s in feature_shapes.values())


def fit_head(
    inputs, student_correct, teacher_correct, weight, hidden_units, l2, seed
):
    """Fits a one-layer network that predicts which models are right.

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
        raise ValueError(_constant_targets_message(targets))
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
    head_weights = {
        "mean": mean,
        "scale": scale,
        "hidden_kernel": head.coefs_[0],
        "hidden_bias": head.intercepts_[0],
        "right_kernel": right_kernel,
        "right_bias": right_bias,
    }
    return {
        name: values.astype("float32") for name, values in head_weights.items()
    }


def _scale(inputs, mean, weight):
    """Standard deviations with a floor against amplified rounding errors.

    A saturated student's largest probability differs from 1 by less than
    float32 tells apart on another device; its logarithms carry the rest.
    """
    deviation = np.sqrt(np.average((inputs - mean) ** 2, 0, weight))
    floor = 1e-3 * np.abs(mean)
    scale = np.maximum(deviation, floor)
    return np.where(scale > 1e-6, scale, 1.0)


def _constant_targets_message(targets):
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

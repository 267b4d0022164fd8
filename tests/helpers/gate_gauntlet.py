"""Every gate, with the same score in NumPy."""

import functools

import keras
import numpy as np
import pytest
import scipy.special

from keras_cascade.gates import (
    AbstainGate,
    ClassGate,
    EnergyGate,
    EntropyGate,
    LearnedGate,
    MarginGate,
    MaxProbabilityGate,
)


def some_logits(rows=50, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(rows, classes))).astype("float32")


def scores(gate, *inputs):
    return keras.ops.convert_to_numpy(gate(*map(keras.ops.array, inputs)))


def margin(logits, temperature=1.0):
    logits = np.asarray(logits, "float64")
    ordered = np.sort(scipy.special.softmax(logits / temperature, axis=1))
    return ordered[:, -1] - ordered[:, -2]


def max_probability(logits, temperature=1.0):
    logits = np.asarray(logits, "float64")
    return scipy.special.softmax(logits / temperature, axis=1).max(axis=1)


def negated_entropy(logits, temperature=1.0):
    logits = np.asarray(logits, "float64")
    shares = scipy.special.softmax(logits / temperature, axis=1)
    return -scipy.special.entr(shares).sum(axis=1)


def energy(logits, temperature=1.0):
    logits = np.asarray(logits, "float64")
    return temperature * scipy.special.logsumexp(logits / temperature, axis=1)


def class_score(logits, inside):
    outside = np.setdiff1d(np.arange(logits.shape[1]), inside)
    return logits[:, inside].max(axis=1) - logits[:, outside].max(axis=1)


def gain_examples(rows, classes=5, seed=0):
    """Logits, and models that are right depending on classes 0 and 1.

    The student is right mostly where logit 0 is above logit 1, which no
    function of the sorted logits can see.
    """
    rng = np.random.default_rng(seed)
    logits = some_logits(rows, classes, seed)
    known = logits[:, 0] > logits[:, 1]
    student = rng.random(rows) < np.where(known, 0.95, 0.1)
    return logits, student, rng.random(rows) < 0.9


@functools.cache
def learned_weights():
    gate = LearnedGate().fit(gain_examples(300))
    return {w.name: keras.ops.convert_to_numpy(w) for w in gate.weights}


def learned():
    gate = LearnedGate()
    gate.build((None, 5))
    for weight in gate.weights:
        weight.assign(learned_weights()[weight.name])
    return gate


def head_inputs(logits):
    """The documented inputs of a learned gate's head, up to 256 outputs."""
    logs = scipy.special.log_softmax(np.asarray(logits, "float64"), axis=1)
    top = -np.sort(-logs, axis=1)[:, :5]
    return np.hstack([np.exp(top), np.maximum(top, -16), np.maximum(logs, -16)])


def head_output(inputs, head):
    """P(right) of student and teacher, from the head's weights by name."""
    standard = (inputs - head["mean"]) / head["scale"]
    hidden = np.tanh(standard @ head["hidden_kernel"] + head["hidden_bias"])
    return scipy.special.expit(
        hidden @ head["right_kernel"] + head["right_bias"]
    )


def learned_score(logits):
    right = head_output(head_inputs(logits), learned_weights())
    return right[:, 0] - right[:, 1]


# Short class name -> (makes the gate, the same score in NumPy).
GAUNTLET = {
    "margin": (MarginGate, margin),
    "margin_t": (lambda: MarginGate(2.0), lambda z: margin(z, 2.0)),
    "max_probability": (MaxProbabilityGate, max_probability),
    "max_probability_t": (
        lambda: MaxProbabilityGate(0.5),
        lambda z: max_probability(z, 0.5),
    ),
    "entropy": (EntropyGate, negated_entropy),
    "entropy_t": (lambda: EntropyGate(3.0), lambda z: negated_entropy(z, 3.0)),
    "energy": (EnergyGate, energy),
    "energy_t": (lambda: EnergyGate(0.25), lambda z: energy(z, 0.25)),
    "learned": (learned, learned_score),
    "learned_unfitted": (LearnedGate, lambda z: margin(z) - 0.5),
    "abstain": (
        lambda: AbstainGate([0, 1, 3, 6]),  # five outputs, the last abstains
        lambda logits: logits[:, :4].max(axis=1) - logits[:, 4],
    ),
    "class": (
        lambda: ClassGate([0, 3]),
        lambda logits: class_score(logits, [0, 3]),
    ),
}
each_gate = pytest.mark.parametrize(
    ("make", "reference"), GAUNTLET.values(), ids=list(GAUNTLET)
)

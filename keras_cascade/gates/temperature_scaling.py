"""The temperature under which labels are likeliest."""

import numpy as np
import scipy.optimize
import scipy.special

from keras_cascade.gates.fitting_checks import (
    check_labels,
    check_outputs,
    check_weight,
)

#: The search covers so many times the logits' spread, downwards and upwards.
REACH = 1e4


def best_temperature(outputs, labels, sample_weight=None):
    """argmin over T > 0 of the negative log likelihood of `labels`.

    `NLL(T) = mean_i(logsumexp(z_i / T) − z_i[label_i] / T)` is convex in
    1 / T, and so has one minimum along log T, which is searched.

    Args:
        outputs: float array `(examples, classes)` of logits `z`.
        labels: int array `(examples,)`.
        sample_weight: float array `(examples,)` or `None`.

    Returns:
        float.
    """
    logits = check_outputs(outputs)
    labels = check_labels(labels, *logits.shape)
    weight = check_weight(sample_weight, len(logits))
    counted = weight > 0
    logits = logits[counted].astype("float64")
    labels, weight = labels[counted], weight[counted]
    _check_varied(labels)
    logits -= logits.max(axis=1, keepdims=True)
    right = logits[np.arange(len(logits)), labels]
    _check_there_is_a_minimum(logits, right, weight)

    def loss(log_temperature):
        inverse = np.exp(-log_temperature)
        log_total = scipy.special.logsumexp(logits * inverse, axis=1)
        return np.average(log_total - right * inverse, weights=weight)

    middle = np.log(logits.std(axis=1).max())
    found = scipy.optimize.minimize_scalar(
        loss,
        bounds=(middle - np.log(REACH), middle + np.log(REACH)),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(np.exp(found.x))


def _check_varied(labels):
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "Fitting a temperature needs labels of at least two classes. "
            f"Received: class {labels[0]} only. Draw the examples from all "
            "classes."
        )


def _check_there_is_a_minimum(logits, right, weight):
    if (right == 0).all():
        raise ValueError(
            "No temperature is best: the student is right on every one of "
            f"the {len(right)} examples, so the lower the temperature, the "
            "likelier the labels. Expected: examples of which it gets some "
            "wrong. Pass more held-out examples, and none that the student "
            "was trained on."
        )
    # The slope of the log likelihood in 1 / T, where T is infinite.
    if np.average(right - logits.mean(axis=1), weights=weight) <= 0:
        raise ValueError(
            "No temperature is best: the right class's logit is on average "
            "no higher than the others, so the higher the temperature, the "
            "likelier the labels. Expected: logits that tell classes apart. "
            "Check that outputs and labels belong to the same examples, and "
            "train the student first."
        )

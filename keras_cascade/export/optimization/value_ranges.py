"""In the child: ranges of activations, before training goes on."""

import numpy as np

#: TFMOT's moving average keeps so much of the old range at every step, and
#: starts at -6 to 6: a short training would end with ranges that are far off.
DECAY = 0.999
RANGE_NAMES = ("_min", "_max")
#: Batches that the last ranges are averaged over.
AVERAGED = 8
MOST_ROUNDS = 40


def fit_value_ranges(model, tuning):
    """Sets the ranges of quantized activations to what the data shows.

    A layer's range is right once those before it are: rounds of one batch
    are run until all are, then one round of several. Everything else that a
    training step would change, such as BatchNormalization's statistics, is
    put back.

    Args:
        model: `tf_keras.Model` with TFMOT's quantizers.
        tuning: `FineTuning`, for its examples.
    """
    import tensorflow as tf

    variables = model.non_trainable_variables
    moving = [variable for variable in variables if _is_moving(variable)]
    kept = [
        (variable, variable.numpy())
        for variable in (*model.trainable_variables, *variables)
        if not _is_range(variable)
    ]
    run = tf.function(lambda inputs: model(inputs, training=True))
    rows = np.random.default_rng(tuning.seed).permutation(len(tuning.examples))
    size = max(1, min(tuning.batch_size, len(rows)))
    batches = [
        tuning.examples.batch(rows[start : start + size])[0]
        for start in range(0, len(rows) - size + 1, size)[:AVERAGED]
    ]
    rounds = [1] * min(len(moving) // 2, MOST_ROUNDS) + [len(batches)]
    for count in rounds:
        before = [variable.numpy() for variable in moving]
        for inputs in batches[:count]:
            run(inputs)
        left = DECAY**count  # of the range before
        for variable, old in zip(moving, before, strict=True):
            seen = (variable.numpy().astype("float64") - left * old) / (
                1 - left
            )
            variable.assign(seen.astype("float32"))
    for variable, value in kept:
        variable.assign(value)


def _is_range(variable):
    return variable.name.split(":")[0].endswith(RANGE_NAMES)


def _is_moving(variable):
    """Whether it is a moving average: of activations, not of kernels."""
    name = variable.name.split(":")[0].rsplit("/", 1)[-1]
    return _is_range(variable) and name.rsplit("_", 1)[0] in (
        "output",
        "post_activation",
        "pre_activation",
    )

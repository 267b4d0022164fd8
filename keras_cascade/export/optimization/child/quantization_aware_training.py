"""Quantization-aware training with TensorFlow Model Optimization."""

import numpy as np

from keras_cascade.export.optimization.child.keras2_student import (
    model_of,
    rebuild,
)
from keras_cascade.export.optimization.child.split_graph import (
    split_graph,
    split_separable_convs,
)
from keras_cascade.export.optimization.functional_config import (
    StudentRefusedError,
)

#: TFMOT's moving average keeps so much of the old range at every step, and
#: starts at -6 to 6: a short training would end with ranges that are far off.
DECAY = 0.999
RANGE_NAMES = ("_min", "_max")
#: Batches that the last ranges are averaged over.
AVERAGED = 8
MOST_ROUNDS = 40


def train_quantized(job, weights, tuner, preserve=None):
    """Trains a student that computes in simulated int8.

    Layers before the first that can be quantized (a `Rescaling`, an
    `Embedding`) stay in float: TFMOT receives a model of the others, which
    takes their outputs.

    Args:
        job: dict that `optimize_student` wrote.
        weights: dict of layer name to list of arrays.
        tuner: `FineTuner`.
        preserve: `"prune"` keeps zeros, `"cluster"` keeps few distinct
            weights. Defaults to `None`.

    Returns:
        `(model, losses, layers left in float)`.
    """
    import tf_keras

    steps, weights = split_separable_convs(job["steps"], weights)
    tensors = rebuild(job["inputs"], steps, weights)
    names = [job["output"], *job["features"].values()]
    parts = split_graph(steps, tensors, names)
    if not any(weights[name] for name in parts.quantized):
        raise StudentRefusedError(
            "TensorFlow Model Optimization can quantize no layer of the "
            "student that has weights: "
            + "; ".join(f"'{name}' {why}" for name, why in parts.in_float)
            + ". Export it with quantization='int8' or 'dynamic'."
        )
    before = [step for step in steps if step["name"] in parts.before]
    after = [step for step in steps if step["name"] not in parts.before]
    first = rebuild(job["inputs"], before, weights)
    between = {
        name: {
            "shape": list(first[name].shape[1:]),
            "dtype": first[name].dtype.name,
        }
        for name in parts.between
    }
    second = rebuild(between, after, weights)
    ends = [name for name in names if name not in first]
    quantized = _quantized(model_of(second, between, ends), parts, preserve)
    inputs = [first[name] for name in between]
    outputs = quantized(inputs if len(inputs) > 1 else inputs[0])
    outputs = outputs if isinstance(outputs, list) else [outputs]
    tensors = {**first, **dict(zip(ends, outputs, strict=True))}
    model = tf_keras.Model(
        [first[name] for name in job["inputs"]],
        [tensors[name] for name in names],
    )
    _fit_value_ranges(model, tuner)
    losses = tuner.train(model, frozen=_clustered_kernels(quantized))
    return model, losses, parts.in_float


def _clustered_kernels(model):
    """Kernels that are computed from their clusters at every step.

    A penalty on one would give it a gradient of its own, and the optimizer
    would move its weights apart.
    """
    return [
        weight
        for layer in model.layers
        if any("cluster_centroids" in one.name for one in layer.weights)
        for weight, _, _ in layer._weight_vars
    ]


def _quantized(model, parts, preserve):
    import tensorflow_model_optimization as tfmot
    import tf_keras
    from tensorflow_model_optimization.python.core.quantization.keras.default_8bit import (  # noqa: E501
        default_8bit_quantize_configs as configs,
    )

    keras_api = tfmot.quantization.keras

    def annotate(layer):
        if layer.name in parts.quantized:
            return keras_api.quantize_annotate_layer(layer)
        if layer.name in parts.output_only:
            return keras_api.quantize_annotate_layer(
                layer, configs.Default8BitOutputQuantizeConfig()
            )
        return layer

    combine = tfmot.experimental.combine
    schemes = {
        None: keras_api.default_8bit.Default8BitQuantizeScheme,
        "prune": combine.Default8BitPrunePreserveQuantizeScheme,
        "cluster": combine.Default8BitClusterPreserveQuantizeScheme,
    }
    with keras_api.quantize_scope():
        annotated = tf_keras.models.clone_model(model, clone_function=annotate)
        return keras_api.quantize_apply(annotated, schemes[preserve]())


def _fit_value_ranges(model, tuner):
    """Sets the ranges of quantized activations to those of the data.

    A layer's range is right once those before it are: rounds of one batch
    are run until all are, then one round of several. Everything else that a
    training step would change, such as BatchNormalization's statistics, is
    put back.

    Args:
        model: `tf_keras.Model` with TFMOT's quantizers.
        tuner: `FineTuner`, for its examples.
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
    rows = np.random.default_rng(tuner.seed).permutation(len(tuner.examples))
    size = max(1, min(tuner.batch_size, len(rows)))
    batches = [
        tuner.examples.batch(rows[start : start + size])[0]
        for start in range(0, len(rows) - size + 1, size)[:AVERAGED]
    ]
    rounds = [1] * min(len(moving) // 2, MOST_ROUNDS) + [len(batches)]
    for count in rounds:
        before = [variable.numpy() for variable in moving]
        for inputs in batches[:count]:
            run(inputs)
        remainder = DECAY**count  # of the range before
        for variable, old in zip(moving, before, strict=True):
            current = (variable.numpy().astype("float64") - remainder * old) / (
                1 - remainder
            )
            variable.assign(current.astype("float32"))
    for variable, value in kept:
        variable.assign(value)


def _is_range(variable):
    return variable.name.split(":")[0].endswith(RANGE_NAMES)


def _is_moving(variable):
    """Returns whether it is a range of activations, not of kernels."""
    name = variable.name.split(":")[0].rsplit("/", 1)[-1]
    return _is_range(variable) and name.rsplit("_", 1)[0] in (
        "output",
        "post_activation",
        "pre_activation",
    )

"""In the child: quantization-aware training."""

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.rebuilding import model_of, rebuild
from keras_cascade.export.optimization.separable_convs import (
    split_separable_convs,
)
from keras_cascade.export.optimization.split_graph import split_graph
from keras_cascade.export.optimization.value_ranges import fit_value_ranges


def quantize(job, weights, tuning, preserve=None):
    """Trains a student whose arithmetic is that of int8.

    Layers before the first that can be quantized (a `Rescaling`, an
    `Embedding`) stay in float: they feed a model of their own, of which TFMOT
    is given the rest.

    Args:
        job: dict that `optimize_student` wrote.
        weights: dict of layer name to list of arrays.
        tuning: `FineTuning`.
        preserve: `"prune"` keeps zeros, `"cluster"` keeps few distinct
            weights. Defaults to `None`.

    Returns:
        `(model, losses, layers left in float)`.
    """
    import tf_keras

    steps, weights = split_separable_convs(job["steps"], weights)
    tensors = rebuild(job["inputs"], steps, weights)
    wanted = [job["output"], *job["features"].values()]
    parts = split_graph(steps, tensors, wanted)
    if not any(weights[name] for name in parts.quantized):
        raise ExportError(
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
    ends = [name for name in wanted if name not in first]
    quantized = _quantized(model_of(second, between, ends), parts, preserve)
    given = [first[name] for name in between]
    outputs = quantized(given if len(given) > 1 else given[0])
    outputs = outputs if isinstance(outputs, list) else [outputs]
    found = {**first, **dict(zip(ends, outputs, strict=True))}
    model = tf_keras.Model(
        [first[name] for name in job["inputs"]],
        [found[name] for name in wanted],
    )
    fit_value_ranges(model, tuning)
    losses = tuning.train(model, held=_clustered_kernels(quantized))
    return model, losses, parts.in_float


def _clustered_kernels(model):
    """Kernels that are put together from their clusters at every step.

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

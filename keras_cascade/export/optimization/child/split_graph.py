"""Split of a student's layers into quantized and float ones."""

import dataclasses

#: Names of an `Activation` that TFMOT has a scheme for.
ACTIVATIONS = ("gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh")
#: Layers into which TFMOT folds a BatchNormalization behind them.
FOLDABLE = ("Conv2D", "Dense", "DepthwiseConv2D")

#: Arguments of a `SeparableConv2D` to those of the two that replace it.
DEPTHWISE = {
    "data_format": "data_format",
    "depth_multiplier": "depth_multiplier",
    "depthwise_constraint": "depthwise_constraint",
    "depthwise_regularizer": "depthwise_regularizer",
    "dilation_rate": "dilation_rate",
    "kernel_size": "kernel_size",
    "padding": "padding",
    "strides": "strides",
    "trainable": "trainable",
}
POINTWISE = {
    "activation": "activation",
    "activity_regularizer": "activity_regularizer",
    "bias_constraint": "bias_constraint",
    "bias_regularizer": "bias_regularizer",
    "data_format": "data_format",
    "filters": "filters",
    "pointwise_constraint": "kernel_constraint",
    "pointwise_regularizer": "kernel_regularizer",
    "trainable": "trainable",
    "use_bias": "use_bias",
}


@dataclasses.dataclass
class SplitGraph:
    """Layers of a student by their number format.

    Attributes:
        before: names of the layers in float before all quantized ones.
        between: names of the tensors that those pass on.
        quantized: names of the layers that TFMOT quantizes.
        output_only: names of layers in float, further on, whose output is
            quantized because a quantized layer takes it.
        in_float: list of `(name, reason)` of every layer left in float.
    """

    before: set
    between: list
    quantized: set
    output_only: set
    in_float: list


def split_graph(steps, tensors, outputs):
    """Decides the number format of every layer.

    Args:
        steps: list of dicts, as `Step.describe` gives them.
        tensors: dict of name to symbolic tensor, as `rebuild` returns it.
        outputs: names of the model's outputs.

    Returns:
        `SplitGraph`.
    """
    users = {}
    for step in steps:
        for name in step["inputs"]:
            users.setdefault(name, []).append(step["name"])
    quantized, in_float = set(), []
    layers = {step["name"]: step for step in steps}
    for step in steps:
        reason = _reason(step, tensors, layers, quantized, users, outputs)
        if reason is None:
            quantized.add(step["name"])
        else:
            in_float.append((step["name"], reason))
    inputs = set(tensors) - set(layers)
    before = set()
    for step in steps:
        if step["name"] not in quantized and before | inputs >= set(
            step["inputs"]
        ):
            before.add(step["name"])
    between = [
        name
        for name in tensors
        if name in before | inputs
        and any(user not in before for user in users.get(name, ()))
    ]
    output_only = {
        name
        for name, _ in in_float
        if name not in before
        and any(user in quantized for user in users.get(name, ()))
    }
    return SplitGraph(before, between, quantized, output_only, in_float)


def split_separable_convs(steps, weights):
    """Replaces each `SeparableConv2D` by a `DepthwiseConv2D` and a `Conv2D`.

    TFMOT does so itself, with a name that another layer may have already.

    Args:
        steps: list of dicts, as `Step.describe` gives them.
        weights: dict of step name to list of arrays.

    Returns:
        The same two, without `SeparableConv2D`.
    """
    weights, names, plain = dict(weights), set(weights), []
    for step in steps:
        if step["class_name"] != "SeparableConv2D":
            plain.append(step)
            continue
        name = step["name"]
        first = f"{name}_depthwise"
        while first in names:
            first += "_"
        names.add(first)
        depthwise = {"name": first, "use_bias": False, "activation": "linear"}
        pointwise = {"name": name, "kernel_size": 1}
        plain += [
            {
                **step,
                "name": first,
                "class_name": "DepthwiseConv2D",
                "config": depthwise | _renamed(step["config"], DEPTHWISE),
            },
            {
                **step,
                "class_name": "Conv2D",
                "config": pointwise | _renamed(step["config"], POINTWISE),
                "inputs": [first],
            },
        ]
        kernel, *rest = weights[name]
        weights[first], weights[name] = [kernel], rest
    return plain, weights


def _renamed(config, names):
    return {new: config[old] for old, new in names.items() if old in config}


def _reason(step, tensors, layers, quantized, users, outputs):
    """Reason that a layer cannot be quantized, or `None`."""
    inputs = [tensors[name] for name in step["inputs"]]
    if not all(tensor.dtype.is_floating for tensor in inputs):
        return "takes integers"
    if any(getattr(one, "_keras_mask", None) is not None for one in inputs):
        return "takes a mask"
    kind = step["class_name"]
    if kind == "BatchNormalization":
        source = step["inputs"][0]
        folds = (
            source in quantized
            and layers[source]["class_name"] in FOLDABLE
            and layers[source]["config"].get("activation") == "linear"
            and len(users[source]) == 1
            and source not in outputs
        )
        return None if folds else "follows no layer that it can be folded into"
    layer = tensors[step["name"]].node.layer
    if kind == "Activation":
        name = (
            getattr(layer.activation, "__name__", "")
            if hasattr(layer, "activation")
            else type(layer).__name__.lower()
        )
        supported = name in (*ACTIVATIONS, "relu", "leakyrelu")
        return None if supported else f"TFMOT has no scheme for '{name}'"
    if _registry().supports(layer):
        return None
    return f"TFMOT has no 8-bit scheme for {kind}"


def _registry():
    import tensorflow_model_optimization as tfmot

    return tfmot.quantization.keras.default_8bit.Default8BitQuantizeRegistry()

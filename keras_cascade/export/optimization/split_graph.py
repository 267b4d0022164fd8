"""In the child: which layers are quantized, and which stay in float."""

import dataclasses

#: Of `Activation`, what TFMOT has a scheme for.
ACTIVATIONS = ("gelu", "linear", "relu", "sigmoid", "softmax", "swish", "tanh")
#: Layers into which TFMOT folds a BatchNormalization behind them.
FOLDABLE = ("Conv2D", "Dense", "DepthwiseConv2D")


@dataclasses.dataclass
class SplitGraph:
    """Layers by what becomes of them.

    Attributes:
        before: names of the layers in float before all quantized ones.
        between: names of the tensors that those hand over.
        quantized: names of the layers that TFMOT quantizes.
        output_only: names of layers in float, further on, whose output is
            quantized because a quantized layer takes it.
        in_float: list of `(name, why)` of every layer left in float.
    """

    before: set
    between: list
    quantized: set
    output_only: set
    in_float: list


def split_graph(steps, tensors, wanted):
    """Decides about every layer.

    Args:
        steps: list of dicts, as `Step.describe` gives them.
        tensors: dict of name to symbolic tensor, as `rebuild` returns it.
        wanted: names of the model's outputs.

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
        why = _why_not(step, tensors, layers, quantized, users, wanted)
        if why is None:
            quantized.add(step["name"])
        else:
            in_float.append((step["name"], why))
    inputs = set(tensors) - set(layers)
    before = set()
    for step in steps:
        if step["name"] not in quantized and before | inputs >= set(
            step["inputs"]
        ):
            before.add(step["name"])
    handed = [
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
    return SplitGraph(before, handed, quantized, output_only, in_float)


def _why_not(step, tensors, layers, quantized, users, wanted):
    """Why a layer cannot be quantized, or `None`."""
    given = [tensors[name] for name in step["inputs"]]
    if not all(tensor.dtype.is_floating for tensor in given):
        return "takes integers"
    if any(getattr(one, "_keras_mask", None) is not None for one in given):
        return "takes a mask"
    kind = step["class_name"]
    if kind == "BatchNormalization":
        source = step["inputs"][0]
        folds = (
            source in quantized
            and layers[source]["class_name"] in FOLDABLE
            and layers[source]["config"].get("activation") == "linear"
            and len(users[source]) == 1
            and source not in wanted
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

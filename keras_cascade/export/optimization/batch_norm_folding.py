"""Folds BatchNormalization into the layer before it."""

import numpy as np

FOLDABLE = ("Conv1D", "Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")


def fold_batch_norms(graph):
    """Folds what the converter would fold, so that nothing changes later.

    A convolution of few distinct weights has many again once a scale a
    channel is multiplied in: clustering must come after folding.

    Args:
        graph: `StudentGraph`. Its steps are replaced.
    """
    users = {}
    for step in graph.steps:
        for name in step.inputs:
            users.setdefault(name, []).append(step)
    wanted = {graph.output, *graph.features.values()}
    by_name = {step.name: step for step in graph.steps}
    for norm in list(graph.steps):
        layer = by_name.get(norm.inputs[0]) if norm.inputs else None
        if (
            norm.class_name == "BatchNormalization"
            and layer is not None
            and layer.class_name in FOLDABLE
            and layer.config["activation"] == "linear"
            and len(users[layer.name]) == 1
            and layer.name not in wanted
            and norm.config["axis"] in (-1, graph.values[norm.name].ndim - 1)
        ):
            _fold(layer, norm)
            norm.class_name = "Activation"
            norm.config = {"name": norm.name, "activation": "linear"}
            norm.weights = []
            # The layer's own output is now the normalized one.
            graph.values.pop(layer.name, None)


def _fold(layer, norm):
    *affine, mean, variance = norm.weights
    affine = iter(affine)
    scale = 1.0 / np.sqrt(variance + norm.config["epsilon"])
    if norm.config["scale"]:
        scale = scale * next(affine)
    offset = next(affine) if norm.config["center"] else 0.0
    weights = list(layer.weights)
    bias = weights.pop() if layer.config["use_bias"] else 0.0
    kernel = weights[-1]
    by_channel = scale
    if layer.class_name == "DepthwiseConv2D":
        by_channel = scale.reshape(kernel.shape[-2:])
    weights[-1] = (kernel * by_channel).astype("float32")
    bias = ((bias - mean) * scale + offset).astype("float32")
    layer.weights = [*weights, bias]
    layer.config = {**layer.config, "use_bias": True}

"""In the child: a separable convolution as the two that it is."""

#: What each of the two takes of the one's config, and what it calls it.
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


def split_separable_convs(steps, weights):
    """Puts a `DepthwiseConv2D` and a `Conv2D` in each one's place.

    TFMOT does so itself, with a name that another layer may have already.

    Args:
        steps: list of dicts, as `Step.describe` gives them.
        weights: dict of step name to list of arrays.

    Returns:
        The same two, without `SeparableConv2D`.
    """
    weights, taken, made = dict(weights), set(weights), []
    for step in steps:
        if step["class_name"] != "SeparableConv2D":
            made.append(step)
            continue
        name = step["name"]
        first = f"{name}_depthwise"
        while first in taken:
            first += "_"
        taken.add(first)
        depthwise = {"name": first, "use_bias": False, "activation": "linear"}
        pointwise = {"name": name, "kernel_size": 1}
        made += [
            {
                **step,
                "name": first,
                "class_name": "DepthwiseConv2D",
                "config": depthwise | _taken(step["config"], DEPTHWISE),
            },
            {
                **step,
                "class_name": "Conv2D",
                "config": pointwise | _taken(step["config"], POINTWISE),
                "inputs": [first],
            },
        ]
        kernel, *rest = weights[name]
        weights[first], weights[name] = [kernel], rest
    return made, weights


def _taken(config, names):
    return {new: config[old] for old, new in names.items() if old in config}

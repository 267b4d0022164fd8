"""What the head of a learned gate looks at."""

import math

from keras import ops

from keras_cascade.utils.tensor_ops import as_float

#: So many of the largest probabilities are shown, in order.
TOP = 5
#: With more student outputs than this it is not shown which class is which:
#: the head would have more weights than there are examples to fit them.
MAX_OUTPUTS = 256
#: A smaller probability says no more than this one.
FLOOR = math.exp(-16.0)


def head_inputs(logits, features):
    """One row of numbers an example.

    Args:
        logits: float tensor `(batch, outputs)`.
        features: dict of layer name to tensor, batch first; as `in_order`
            gives it.

    Returns:
        Float tensor `(batch, inputs)`: the largest probabilities in order,
        their logarithms, the logarithms of all, the flattened features.
    """
    shares = ops.softmax(logits, axis=-1)
    outputs = logits.shape[-1]
    top, _ = ops.top_k(shares, k=min(TOP, outputs))
    parts = [top, ops.log(ops.maximum(top, FLOOR))]
    if outputs <= MAX_OUTPUTS:
        parts.append(ops.log(ops.maximum(shares, FLOOR)))
    for feature in features.values():
        size = math.prod(feature.shape[1:])
        parts.append(ops.reshape(as_float(feature), (-1, size)))
    return ops.concatenate(parts, axis=-1)


def head_input_size(outputs, feature_shapes):
    """Number of inputs.

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


def in_order(features, layers):
    """The features of the layers asked for, in the order asked for.

    Args:
        features: dict of layer name to tensor, or `None`.
        layers: names of layers.
    """
    given = features or {}
    missing = [name for name in layers if name not in given]
    if missing:
        raise ValueError(
            f"The gate looks at the student's layers {list(layers)}. Received "
            f"no features of {missing}. Pass `features`, a dict of layer name "
            "to output."
        )
    return {name: given[name] for name in layers}

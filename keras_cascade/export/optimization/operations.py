"""Operators between tensors of a functional model, as layers."""

from keras_cascade.errors import ExportError

#: Class of an operation to name of an activation.
ACTIVATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Silu": "silu",
    "Tanh": "tanh",
    "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu",
}
MERGES = ("Add", "Multiply", "Subtract")


def layer_of_operation(operation, args):
    """The layer that does what an operation does.

    `x * 2.0` is a `Rescaling`, `x + y` an `Add`, `ops.relu(x)` an
    `Activation`.

    Args:
        operation: `keras.Operation` that is no layer.
        args: its arguments: names of tensors, and numbers.

    Returns:
        `(class name, config, names of tensors)`.
    """
    kind = type(operation).__name__
    tensors = [arg for arg in args if isinstance(arg, str)]
    if kind in ACTIVATIONS and len(args) == 1:
        return "Activation", {"activation": ACTIVATIONS[kind]}, tensors
    if kind == "Mean" and _over_pixels(operation):
        config = {"keepdims": operation.keepdims}
        return "GlobalAveragePooling2D", config, tensors
    if kind in MERGES and len(tensors) == 2:
        return kind, {}, tensors
    scaled = len(tensors) == 1 and len(args) == 2 and _rescaling(kind, args)
    if not scaled:
        raise ExportError(
            "The student cannot be rebuilt for optimization: operation "
            f"'{operation.name}' ({kind}) has no layer to stand in for it. "
            "Export it with another quantization, or use a layer."
        )
    scale, offset = scaled
    return "Rescaling", {"scale": scale, "offset": offset}, tensors


def _over_pixels(mean):
    """Whether it is over height and width, the channels last."""
    axis = mean.axis if isinstance(mean.axis, (list, tuple)) else [mean.axis]
    rank = len(mean.input.shape)
    return rank == 4 and sorted(axis) == [1, 2]


def _rescaling(kind, args):
    """`(scale, offset)` of an operation on a tensor and a number."""
    first, second = args
    number = second if isinstance(first, str) else first
    if not isinstance(number, (int, float)):
        return None
    number_first = number is first
    if kind == "Add":
        return 1.0, float(number)
    if kind == "Multiply":
        return float(number), 0.0
    if kind == "Subtract":
        return (-1.0, float(number)) if number_first else (1.0, -float(number))
    if kind in ("Divide", "TrueDivide") and not number_first:
        return 1.0 / number, 0.0
    return None

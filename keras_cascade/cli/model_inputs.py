"""Images that a Keras model takes, read from its first layers."""

import dataclasses
import itertools

import keras
import numpy as np

from keras_cascade import Cascade, models
from keras_cascade.export.optimization.functional_config import (
    functional_config,
    history,
    input_names,
)

#: Layers and operations before the first weights of a model.
_LEADING = (
    "Add", "AutoContrast", "CenterCrop", "Concatenate", "Divide",
    "GaussianNoise", "GetItem", "Identity", "Multiply", "Normalization",
    "Pipeline", "Rescaling", "Resizing", "Stack", "Subtract", "TrueDivide",
    "ZeroPadding2D",
)  # fmt: skip
#: Names of `keras.applications` whose `preprocess_input`, outside of the
#: model, scales to [-1, 1].
_MINUS_ONE_TO_ONE = (
    "inception_resnet_v2", "inception_v3", "mobilenet_", "mobilenetv2_",
    "nasnet", "resnet101v2", "resnet152v2", "resnet50v2", "xception",
)  # fmt: skip
#: The narrowest that fits is taken.
_RANGES = {"0-1": (0.0, 1.0), "-1-1": (-1.0, 1.0), "0-255": (0.0, 255.0)}
#: Height and width of a probe, where a model takes any.
_SIDE = 32


@dataclasses.dataclass(frozen=True)
class ModelInputs:
    """Images that a model takes, as far as the model itself tells.

    Attributes:
        scale: str, or `None` where neither the type of the input, nor a
            layer before the first weights, nor the model's name says it.
        image_size: tuple `(height, width)`, or `None`.
        channels: int, or `None`.
    """

    scale: str | None = None
    image_size: tuple | None = None
    channels: int | None = None


def model_inputs(model):
    """Returns the `ModelInputs` of a `keras.Model`."""
    preprocessor = getattr(model, "preprocessor", None)
    converter = getattr(preprocessor, "image_converter", None)
    if converter is not None:  # of KerasHub: it takes images as they are
        size = getattr(converter, "image_size", None)
        return ModelInputs("0-255", None if size is None else tuple(size), 3)
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return ModelInputs()
    height, width, channels = inputs[0].shape[1:]
    return ModelInputs(
        "none"
        if np.dtype(keras.backend.standardize_dtype(inputs[0].dtype)).kind
        in "iu"
        else _scale(model),
        None if None in (height, width) else (height, width),
        channels,
    )


def common_inputs(of_models):
    """Returns the `ModelInputs` that all of a cascade's models take.

    Args:
        of_models: list of `keras.Model`; of a cascade among them its student.

    Raises:
        ValueError: the models take different scales or sizes.
    """
    known = {}
    for model in of_models:
        while isinstance(model, Cascade):
            model = model.student
        for name, value in dataclasses.asdict(model_inputs(model)).items():
            if value is None:
                continue
            first = known.setdefault(name, value)
            if name == "scale" and {first, value} == {"none", "0-255"}:
                known[name] = "none"  # the other model takes bytes as well
            elif first != value:
                raise ValueError(
                    "Expected a teacher and a student that take the same "
                    f"images. Received: {name} {first} and {value}. Put the "
                    "conversion into one of the models, such as with "
                    "`keras.layers.Rescaling` or `Resizing`."
                )
    return ModelInputs(**known)


def _scale(model):
    """Scale by what the leading layers make of it, or by the model's name."""
    factor, offset, names = _leading_transform(model)
    if factor != 1 or offset != 0:
        return _scale_of_transform(factor, offset)
    known = any(
        name.lower().startswith(_MINUS_ONE_TO_ONE) and "small" not in name
        for name in names
    )
    if known:
        return "-1-1"
    return "0-1" if _is_reference(model) else None


def _is_reference(model):
    """Returns whether a model is of `keras_cascade.models`: 0 to 1."""
    (tensor,) = model.inputs
    if tensor.name != "image":
        return False
    return any(
        [type(layer) for layer in model.layers]
        == [
            type(layer)
            for layer in build(
                tensor.shape[1:], model.output_shape[-1], width=1
            ).layers
        ]
        for build in (models.image_teacher, models.image_student)
    )


def _scale_of_transform(factor, offset):
    """Scale whose values a transform normalizes; `None` if there is none.

    `(x - mean) / deviation` normalizes values of a range only if they can
    have this deviation around this mean: its square is at most
    `(mean - low) * (high - mean)`, and it is no tiny part of the range.
    """
    mean, deviation = -offset / factor, abs(1 / factor)
    for scale, (low, high) in _RANGES.items():
        largest = (mean - low) * (high - mean)
        possible = low < mean < high and deviation**2 <= largest * 1.001
        if possible and deviation > 0.02 * (high - low):
            return scale
    for scale, (low, high) in _RANGES.items():
        # Made about one wide, or as wide as bytes for layers further in.
        width = abs(factor) * (high - low)
        middle = abs(offset + factor * (high + low) / 2)
        if middle <= width and (0.5 <= width <= 10 or 250 < width < 260):
            return scale
    return None


def _leading_transform(model):
    """`(factor, offset, names)` of what comes before a model's first weights.

    Measured on images of zeros and of ones, averaged over the channels.
    """
    first = model.inputs[0]
    function, following = _leading(model)
    if function is not None:
        factor, offset = _measured(function, first)
        if (factor, offset) != (1.0, 0.0):
            return factor, offset, [model.name]
    if len(getattr(following, "inputs", None) or []) == 1:  # a model in it
        factor, offset, names = _leading_transform(following)
        return factor, offset, [model.name, *names]
    return 1.0, 0.0, [model.name]


def _leading(model):
    """Part of a model before its first weights, and the layer behind it.

    Returns:
        `(function, layer)`: the function is `None` where nothing does.
    """
    if isinstance(model, keras.Sequential):
        leading = list(itertools.takewhile(_is_leading, model.layers))
        behind = [*model.layers[len(leading) :], None][0]
        return (keras.Sequential(leading) if leading else None), behind
    config = functional_config(model)
    operations = {one.name: one for one in model.operations}
    leading, behind = dict.fromkeys(input_names(model)), {}
    for entry in config["layers"]:
        name = entry["name"]
        read = {
            source[0]
            for node in entry["inbound_nodes"]
            for source in history(node["args"])
        }
        if not read & leading.keys():
            continue
        one = operations[name]
        once = len(entry["inbound_nodes"]) == 1
        if once and read <= leading.keys() and _is_leading(one):
            leading[name] = one.output
        else:
            behind.update(dict.fromkeys(read & leading.keys(), one))
    if len(behind) != 1:  # branches
        return None, None
    ((source, one),) = behind.items()
    if leading[source] is None:
        return None, one
    try:
        return keras.Model(model.inputs[0], leading[source]), one
    except ValueError:  # a layer that other models call too
        return None, None


def _is_leading(layer):
    kind = type(layer).__name__
    return kind in _LEADING or kind.startswith("Random")


def _measured(function, tensor):
    """`(factor, offset)` of what layers make of a value in an image."""
    shape = [_SIDE if size is None else size for size in tensor.shape[1:]]

    def at_the_center(value):
        image = np.full((1, *shape), value, "float32")
        row = keras.ops.convert_to_numpy(function(image, training=False))[0]
        if row.ndim == 3:  # padding is at the border
            row = row[row.shape[0] // 2, row.shape[1] // 2]
        return float(np.mean(row))

    zero, one = at_the_center(0.0), at_the_center(1.0)
    return (one - zero, zero) if one != zero else (1.0, 0.0)

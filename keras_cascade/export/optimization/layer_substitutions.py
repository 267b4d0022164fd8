"""Substitutions of layers, operations and composed layers by plain layers.

Keras 2 and TensorFlow Model Optimization take plain layers only.
"""

import inspect

import keras
import numpy as np

from keras_cascade.export.optimization.functional_config import (
    NEXT_STEP,
    StudentRefusedError,
)
from keras_cascade.models.binary_logits import BinaryLogits

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
#: Keras's layers of images that do something in training only, beside those
#: whose names begin with `Rand`. Others look at the image (`AutoContrast`).
AUGMENTATIONS = ("AugMix", "CutMix", "Equalization", "MixUp", "Solarization")
_IMAGE_LAYERS = "keras.src.layers.preprocessing.image_preprocessing."
#: Layers of noise that Keras 2 has, too.
NOISES = (
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
#: Layers that a BatchNormalization behind them is folded into.
FOLDABLE = ("Conv1D", "Conv2D", "Dense", "DepthwiseConv2D", "SeparableConv2D")

#: What a `Conv2D` takes of a `Dense`, by the same name.
SHARED = (
    "activation",
    "activity_regularizer",
    "bias_constraint",
    "bias_regularizer",
    "kernel_constraint",
    "kernel_regularizer",
    "trainable",
    "use_bias",
)


def substitute(layer, inputs):
    """Equivalent of one of Keras's own layers that can be quantized.

    A `Normalization` has the statistics that it computes with. A `Dense` over
    pixels, whose kernel TFLite would keep in float, is a
    convolution of one pixel. ConvNeXt's `LayerScale`, one factor per channel,
    is a depthwise convolution of one pixel; its `StochasticDepth` drops a
    whole example at a time. The zero before the logit of a binary student is
    a `Dense` with the kernel `[[0, 1]]`.

    Args:
        layer: `keras.layers.Layer`.
        inputs: the tensors that it takes.

    Returns:
        `(class name, config, weights)`, or `None` without a substitute.
    """
    module, kind = type(layer).__module__, type(layer).__name__
    rank = len(inputs[0].shape)
    if isinstance(layer, BinaryLogits):
        config = {"units": 2, "use_bias": False, "activation": "linear"}
        return "Dense", config, [np.array([[0.0, 1.0]], "float32")]
    if kind == "Dense" and module.startswith("keras.src.layers") and rank == 4:
        return _pointwise(layer)
    if kind == "Normalization" and module.startswith("keras.src.layers"):
        return kind, _as_it_normalizes(layer, inputs[0].shape), []
    if module != "keras.src.applications.convnext":
        return None
    if kind == "LayerScale" and rank == 4:
        (scale,) = layer.get_weights()
        config = {
            "kernel_size": 1,
            "use_bias": False,
            "activation": "linear",
            "trainable": layer.trainable,
        }
        return "DepthwiseConv2D", config, [scale.reshape(1, 1, -1, 1)]
    if kind == "StochasticDepth":
        shape = [None] + [1] * (rank - 1)
        config = {"rate": layer.drop_path_rate, "noise_shape": shape}
        return "Dropout", config, []
    return None


def is_augmentation(layer):
    """Returns whether a layer is one of Keras's that augment images.

    Args:
        layer: `keras.layers.Layer`.
    """
    kind = type(layer)
    return kind.__module__.startswith(_IMAGE_LAYERS) and (
        kind.__name__.startswith("Rand") or kind.__name__ in AUGMENTATIONS
    )


def layer_of_operation(operation, args):
    """Layer that is equivalent to an operation between tensors.

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
        raise StudentRefusedError(
            "The student cannot be rebuilt for optimization: operation "
            f"'{operation.name}' ({kind}) has no layer to stand in for it. "
            f"{NEXT_STEP}"
        )
    scale, offset = scaled
    return "Rescaling", {"scale": scale, "offset": offset}, tensors


def as_model(layer, inputs):
    """Functional model of a layer that is composed of other layers.

    Its `call` runs once on symbolic inputs. Whatever it does through layers
    and `keras.ops` is then a graph, as in KerasHub's convolutional blocks.

    Args:
        layer: built `keras.layers.Layer`.
        inputs: the tensors that it takes.

    Returns:
        `keras.Model`, or `None` where the graph does not hold all of the
        layer's weights, or `call` does not take symbolic inputs.
    """
    symbolic = [
        keras.Input(
            batch_shape=(None, *tensor.shape[1:]),
            dtype=keras.backend.standardize_dtype(tensor.dtype),
        )
        for tensor in inputs
    ]
    training = "training" in inspect.signature(layer.call).parameters
    try:
        outputs = layer.call(
            *symbolic, **({"training": False} if training else {})
        )
        model = keras.Model(symbolic, outputs)
        # A weight that `call` uses by itself is in no layer of the graph.
        in_graph = {id(weight) for weight in model.weights}
    # Of the user's own code, which may expect anything.
    except Exception:
        return None
    whole = all(id(weight) in in_graph for weight in layer.weights)
    return model if whole else None


def fold_batch_norms(graph):
    """Folds every BatchNormalization that the converter would fold.

    A convolution of few distinct weights has many again once one scale per
    channel is multiplied in: clustering must come after folding.

    Args:
        graph: `StudentGraph`. Its steps are replaced.
    """
    users = {}
    for step in graph.steps:
        for name in step.inputs:
            users.setdefault(name, []).append(step)
    outputs = {graph.output, *graph.features.values()}
    by_name = {step.name: step for step in graph.steps}
    for norm in list(graph.steps):
        layer = by_name.get(norm.inputs[0]) if norm.inputs else None
        if (
            norm.class_name == "BatchNormalization"
            and layer is not None
            and layer.class_name in FOLDABLE
            and layer.config["activation"] == "linear"
            and len(users[layer.name]) == 1
            and layer.name not in outputs
            and norm.config["axis"] in (-1, graph.values[norm.name].ndim - 1)
        ):
            _fold(layer, norm)
            norm.class_name = "Activation"
            norm.config = {"name": norm.name, "activation": "linear"}
            norm.weights = []
            # The layer's own output is now the normalized one.
            graph.values.pop(layer.name, None)


def _as_it_normalizes(layer, shape):
    """Config of a `Normalization`, with its statistics.

    Its weights may be others: Keras computes with those of the last `adapt`,
    or of a file, whatever `set_weights` was given since.
    """
    axes = sorted(axis % len(shape) for axis in layer.axis)
    sizes = [int(shape[axis]) for axis in axes]
    mean, variance = (
        np.reshape(keras.ops.convert_to_numpy(one), sizes).tolist()
        for one in (layer.mean, layer.variance)
    )
    return {
        "axis": axes,
        "mean": mean,
        "variance": variance,
        "invert": layer.invert,
    }


def _pointwise(dense):
    """A `Dense` as a `Conv2D` of one pixel."""
    kernel, *bias = dense.get_weights()
    if len(bias) != int(dense.use_bias):
        return None
    original = keras.saving.serialize_keras_object(dense)["config"]
    config = {name: original[name] for name in SHARED if name in original}
    config |= {
        "filters": dense.units,
        "kernel_size": 1,
        "data_format": "channels_last",
    }
    return "Conv2D", config, [kernel[None, None], *bias]


def _over_pixels(mean):
    """Returns whether it reduces height and width, the channels last."""
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

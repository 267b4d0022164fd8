"""Layers for which others that can be quantized stand in."""

import keras

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


def stand_in(layer, inputs):
    """The layer that does what another of Keras's own does.

    A `Dense` over pixels, whose kernel TFLite would keep in float, is a
    convolution of one pixel. ConvNeXt's `LayerScale`, a factor a channel, is
    a depthwise convolution of one pixel; its `StochasticDepth` drops a whole
    example at a time.

    Args:
        layer: `keras.layers.Layer`.
        inputs: the tensors that it takes.

    Returns:
        `(class name, config, weights)`, or `None` where nothing stands in.
    """
    module, kind = type(layer).__module__, type(layer).__name__
    rank = len(inputs[0].shape)
    if kind == "Dense" and module.startswith("keras.src.layers") and rank == 4:
        return _pointwise(layer)
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


def _pointwise(dense):
    """A `Dense` as a `Conv2D` of one pixel."""
    kernel, *bias = dense.get_weights()
    if len(bias) != int(dense.use_bias):
        return None
    given = keras.saving.serialize_keras_object(dense)["config"]
    config = {name: given[name] for name in SHARED if name in given}
    config |= {
        "filters": dense.units,
        "kernel_size": 1,
        "data_format": "channels_last",
    }
    return "Conv2D", config, [kernel[None, None], *bias]

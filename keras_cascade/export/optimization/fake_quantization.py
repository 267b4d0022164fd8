"""Simulated 8 bits in a Keras 3 model, while it is trained."""

import contextlib

import keras
from keras import ops

from keras_cascade.export.optimization.layer_substitutions import NOISES

#: Least width of a range: a kernel of zeros has one, too.
_EPSILON = 1e-8


class FakeQuantizedModel:
    """A model that computes in simulated 8 bits, within `simulated`.

    Simulated, with `keras.quantizers.fake_quant_with_min_max_vars`, are:

    - every weight of two axes or more, symmetric, as TFLite stores it: a
      kernel with one scale per output channel, anything else (an embedding,
      positions) with one scale. The range is that of the weights.
    - the output of every layer without inner layers, with one scale and a
      zero point, in the range of the batch. Not simulated are noise, which no
      file has, and kernels without a bias or an activation, as a
      `BatchNormalization` comes next, which TFLite folds in.

    Between the layers of a composed one, such as the sum of a residual
    connection or the scores of an attention, nothing is simulated. Gradients
    pass as if nothing was rounded.

    Args:
        model: built `keras.Model`. Its layers get a `call` of their own
            within `simulated`, and are as before outside of it.
        names: list of the names of its inputs, if it takes a dict. Defaults
            to `None`: it takes one array.
    """

    def __init__(self, model, names=None):
        self._model = model
        self._names = names
        self._is_simulated = False
        self._kernels = [
            (weight, channel_axes(layer, weight))
            for layer in model._flatten_layers()
            if not _inner(layer)
            for weight in layer.weights
            if len(weight.shape) > 1 and "float" in weight.dtype
        ]

    @property
    def trainable_variables(self):
        """Variables that training changes."""
        return self._model.trainable_variables

    @property
    def losses(self):
        """Penalties of the last call."""
        return self._model.losses

    @contextlib.contextmanager
    def simulated(self):
        """Context in which the model computes in simulated 8 bits."""
        layers = [
            layer
            for layer in self._model._flatten_layers()
            if not _inner(layer) and _has_range(layer)
        ]
        self._is_simulated = True
        try:
            for layer in layers:
                # An attribute of the object hides the method of its class.
                vars(layer)["call"] = _simulated_call(layer.call)
            yield self
        finally:
            self._is_simulated = False
            for layer in layers:
                vars(layer).pop("call", None)

    def __call__(self, inputs, training):
        """Student outputs.

        Args:
            inputs: list of tensors.
            training: bool.
        """
        if self._names is None:
            (inputs,) = inputs
        else:
            inputs = dict(zip(self._names, inputs, strict=True))
        if not self._is_simulated:
            return self._model(inputs, training=training)
        # A layer reads the rounded weights, and their gradient is that of
        # the weights.
        mapping = [
            (weight, _rounded(ops.convert_to_tensor(weight), axes))
            for weight, axes in self._kernels
        ]
        with keras.StatelessScope(mapping) as scope:
            outputs = self._model(inputs, training=training)
        if training:
            rounded = {id(weight) for weight, _ in self._kernels}
            for variable in self._model.non_trainable_variables:
                value = scope.get_current_value(variable)
                if value is not None and id(variable) not in rounded:
                    variable.assign(value)
        return outputs


def channel_axes(layer, weight):
    """Axes of a weight along which TFLite has a scale each.

    Args:
        layer: `keras.layers.Layer`.
        weight: `keras.Variable` of it.

    Returns:
        Tuple of int; empty for one scale.
    """
    name, rank = weight.name, len(weight.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        left, output = layer.equation.split("->")
        kernel = left.split(",")[1]
        if len(kernel) != rank:
            return ()
        return tuple(i for i, axis in enumerate(kernel) if axis in output)
    if "depthwise" in name or "Depthwise" in type(layer).__name__:
        return (rank - 2, rank - 1)
    if "Transpose" in type(layer).__name__ and "kernel" in name:
        return (rank - 2,)
    return (rank - 1,) if "kernel" in name else ()


def _rounded(weight, axes):
    """A weight in simulated 8 bits, symmetric, by channel."""
    channels = [weight.shape[axis] for axis in axes]
    others = [i for i in range(len(weight.shape)) if i not in axes]
    order = [*others, *axes]
    if not axes:
        limit = ops.maximum(ops.max(ops.abs(weight)), _EPSILON)
        return _fake(weight, -limit, limit, narrow_range=True)
    # Channels become the last axis, as Keras takes one axis for them.
    flat = ops.reshape(ops.transpose(weight, order), (-1, _product(channels)))
    limit = ops.maximum(ops.max(ops.abs(flat), axis=0), _EPSILON)
    flat = _fake(flat, -limit, limit, narrow_range=True, axis=1)
    whole = ops.reshape(flat, [weight.shape[axis] for axis in order])
    return ops.transpose(whole, [order.index(i) for i in range(len(order))])


def _product(sizes):
    product = 1
    for size in sizes:
        product *= size
    return product


def _simulated_call(call):
    """A layer's `call`, with an output of simulated 8 bits."""

    def simulated(*args, **kwargs):
        return keras.tree.map_structure(_in_its_range, call(*args, **kwargs))

    return simulated


def _in_its_range(tensor):
    """A tensor of floats in simulated 8 bits, in the range of its values."""
    dtype = getattr(tensor, "dtype", None)
    if dtype is None or "float" not in keras.backend.standardize_dtype(dtype):
        return tensor
    # A range holds zero, which padding is.
    least = ops.minimum(ops.min(tensor), 0.0)
    most = ops.maximum(ops.max(tensor), least + _EPSILON)
    return _fake(tensor, least, ops.maximum(most, 0.0))


def _fake(tensor, least, most, **options):
    rounded = keras.quantizers.fake_quant_with_min_max_vars(
        tensor, least, most, 8, **options
    )
    # Its own gradient is 0 where rounding puts the end of a range below the
    # largest value, as it does of every other range.
    return tensor + ops.stop_gradient(rounded - tensor)


def _inner(layer):
    """Layers inside of a layer."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def _has_range(layer):
    kind = type(layer).__name__
    if kind in (*NOISES, "InputLayer"):
        return False
    activation = getattr(layer, "activation", None)
    is_linear = activation in (None, keras.activations.linear)
    return not is_linear or getattr(layer, "bias", True) is not None

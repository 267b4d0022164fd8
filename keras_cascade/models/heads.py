"""Logits of a functional model, read before its last activation."""

import keras

from keras_cascade.utils.answer_form import SIGMOID, SOFTMAX

#: Layers with an activation of their own that a linear twin can be made of.
_WITH_ACTIVATION = (keras.layers.Dense, keras.layers.EinsumDense)


def has_graph(model):
    """Returns whether a model is Sequential or Functional, and built."""
    plain = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    return plain and getattr(model, "inputs", None) is not None


def last_activation(model):
    """Name of the activation that a model's one output ends in.

    Args:
        model: `keras.Model`.

    Returns:
        `"softmax"`, `"sigmoid"`, or `None`: the model ends in none, or in one
        that nothing can be read before.
    """
    if not has_graph(model) or not _has_one_output(model):
        return None
    return _activation_before(model.outputs[0])[1]


def tensor_before_activation(model, view):
    """Symbolic tensor of a model's logits, on the model's own inputs.

    The model's layers are called no second time: its graph is as before. Of a
    last layer with an activation of its own there is a linear twin, which has
    the same variables.

    Args:
        model: `keras.Model` whose `last_activation` is not `None`.
        view: function from an inner model to one without its last activation,
            for a model that ends in another.
    """
    source, _, steps = _activation_before(model.outputs[0])
    for step in reversed(steps):
        source = step(source, view)
    return source


def _has_one_output(model):
    outputs = model.outputs
    return len(outputs) == 1 and len(outputs[0].shape) == 2


def _activation_before(tensor):
    """`(tensor, name, steps)`: where the last activation's inputs come from.

    The steps lead from the tensor to the logits: functions of a tensor and a
    `view`.
    """
    operation, number, _ = tensor._keras_history
    if operation is None:
        return tensor, None, []
    node = operation._inbound_nodes[number]
    sources = node.arguments.keras_tensors
    if isinstance(operation, keras.Model):
        name = last_activation(operation)

        def of_view(_, view):
            arguments = node.arguments
            return view(operation)(*arguments.args, **arguments.kwargs)

        return tensor, name, [of_view]
    if len(sources) != 1:
        return tensor, None, []
    (source,) = sources
    if _is_identity(operation):
        return _activation_before(source)
    name = _name_of_operation(operation, len(source.shape))
    if name is not None:
        return source, name, []
    name = activation_name(getattr(operation, "activation", None))
    if name is None or not _can_be_linear(operation):
        return tensor, None, []
    return source, name, [lambda logits, _: linear_twin(operation)(logits)]


def _is_identity(operation):
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    return isinstance(operation, keras.layers.Identity)


def _name_of_operation(operation, rank):
    """Name of the activation that an operation computes, and nothing else."""
    if isinstance(operation, keras.layers.Softmax):
        return SOFTMAX if operation.axis in (-1, rank - 1) else None
    if isinstance(operation, keras.layers.Activation):
        return activation_name(operation.activation)
    if isinstance(operation, keras.layers.Layer):
        return None
    kind = type(operation).__name__  # of `keras.ops`
    if kind == "Softmax":
        return SOFTMAX if operation.axis in (-1, rank - 1) else None
    return SIGMOID if kind == "Sigmoid" else None


def activation_name(function):
    """`"softmax"` or `"sigmoid"` for such a function, `None` for others.

    Args:
        function: `activation` of a layer: Keras's own, or TensorFlow's.
    """
    for name in (SOFTMAX, SIGMOID):
        own = (getattr(keras.activations, name), getattr(keras.ops, name))
        if any(function is one for one in own):
            return name
        module = getattr(function, "__module__", None) or ""
        if module.startswith("tensorflow.") and getattr(
            function, "__name__", ""
        ) in (name, f"{name}_v2"):
            return name
    return None


def _can_be_linear(layer):
    return (
        type(layer) in _WITH_ACTIVATION
        and layer.built
        and layer.dtype_policy.quantization_mode is None
        and not layer.lora_enabled
    )


def linear_twin(layer):
    """Layer without the activation of another, on the same variables.

    Args:
        layer: built `keras.layers.Dense` or `EinsumDense`.
    """
    config = {**layer.get_config(), "activation": None}
    config["activity_regularizer"] = None  # it is of the activation's values
    twin = type(layer).from_config(config)
    for name, value in vars(layer).items():
        if isinstance(value, keras.Variable):
            setattr(twin, name, value)
    if layer.bias is None:
        twin.bias = None
    twin.input_spec = layer.input_spec
    twin.built = True
    return twin

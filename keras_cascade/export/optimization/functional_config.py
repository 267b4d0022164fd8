"""Layers and calls of a functional model, from its `get_config`."""

import graphlib
import inspect

import keras

from keras_cascade.errors import ExportError

#: End of each error of a student that cannot be rebuilt.
NEXT_STEP = (
    "Export it with quantization='qat', for which Keras trains it on, or "
    "with 'dynamic', 'int8' or 'float16', which take the student as it is, or "
    "replace the layer."
)


class StudentRefusedError(ExportError):
    """A student that TensorFlow Model Optimization cannot train."""


def has_graph(model):
    """Returns whether a model is Sequential or Functional, and built."""
    plain = isinstance(model, keras.Sequential) or hasattr(model, "operations")
    return plain and getattr(model, "inputs", None) is not None


def functional_config(model):
    """Config of a functional model, with its layers and calls.

    A subclass, such as those of KerasHub, has a config of its own: then it is
    that of a plain model between the same tensors.
    """
    config = model.get_config()
    if "layers" not in config:
        config = keras.Model(model.input, model.output).get_config()
    return config


def input_names(model):
    """Names of a model's input layers, in the order of its inputs."""
    if isinstance(model, keras.Sequential):
        return [model.inputs[0].name]
    return [
        name
        for name in keras.tree.flatten(functional_config(model)["input_layers"])
        if isinstance(name, str)
    ]


def nodes_of(config):
    """Dict of `(layer, call number)` to the config of the call."""
    return {
        (entry["name"], number): node
        for entry in config["layers"]
        for number, node in enumerate(entry["inbound_nodes"])
    }


def _is_functional(layer):
    plain = isinstance(layer, keras.Sequential)
    return hasattr(layer, "operations") and not plain


def _is_tensor(value):
    return isinstance(value, dict) and value.get("class_name") == (
        "__keras_tensor__"
    )


def _is_mask(value):
    """Returns whether an argument is a mask, which Keras adds itself."""
    if isinstance(value, dict) and not _is_tensor(value):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_mask(one) for one in value)
    return value is None or _is_tensor(value)


def history(value):
    """`(layer, call number, output number)` of each tensor in arguments."""
    if _is_tensor(value):
        return [tuple(value["config"]["keras_history"])]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [one for part in value for one in history(part)]
    return []


def in_order(output, nodes, names):
    """Calls that an output depends on, in topological order.

    Masks are left out: a layer of Keras 2 passes on its own.
    """
    needed, waiting = {}, [output]
    while waiting:
        key = waiting.pop()
        if key not in names and key not in needed:
            needed[key] = {k[:2] for k in history(nodes[key]["args"])}
            waiting += needed[key]
    order = graphlib.TopologicalSorter(needed).static_order()
    return [key for key in order if key not in names]


def replaced(value, names):
    """Arguments of a call, with tensors replaced by their names."""
    if _is_tensor(value):
        return names[tuple(value["config"]["keras_history"][:2])]
    if isinstance(value, dict):
        return {key: replaced(one, names) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(one, names) for one in value]
    return value


def only_output(model, config, operations):
    """`(layer, call number)` of a functional model's single output.

    Among outputs, and nowhere else, Keras counts the calls of a model that is
    functional itself from one.
    """
    outputs = config["output_layers"]
    if outputs and isinstance(outputs, list) and isinstance(outputs[0], list):
        outputs = outputs[0] if len(outputs) == 1 else None
    if not isinstance(outputs, list) or outputs[2]:
        raise unsupported(model, "has several outputs")
    name, number = outputs[:2]
    return name, number - int(_is_functional(operations[name]))


def check_kwargs(layer, kwargs):
    """Raises where a call is of another kind than `layer(inputs)`.

    Whether it trains does not matter: a model that is called with
    `training=False`, as by a cascade, passes that on to every layer.
    """
    unknown = {
        key: value
        for key, value in kwargs.items()
        if value is not None
        and not (key == "training" and isinstance(value, bool))
        and not (key == "mask" and _is_mask(value))
    }
    if unknown:
        raise unsupported(layer, f"is called with {sorted(unknown)}")


def is_fixed(layer, kwargs):
    """Returns whether a layer was called with `training=False` explicitly.

    Keras writes the default of a layer's `call` into its config, too: that of
    `Dropout` is `False`, and does not keep it from dropping in training.
    """
    if kwargs.get("training") is not False:
        return False
    training = inspect.signature(layer.call).parameters.get("training")
    return training is None or training.default is not False


def unsupported(layer, why):
    """Error that names a layer that cannot be rebuilt."""
    return StudentRefusedError(
        f"The student cannot be rebuilt for optimization: layer "
        f"'{layer.name}' ({type(layer).__name__}) {why}. {NEXT_STEP}"
    )

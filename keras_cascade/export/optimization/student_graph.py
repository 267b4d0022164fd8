"""A student as a list of plain layers that Keras 2 can rebuild."""

import dataclasses
import re

import keras
import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.functional_config import (
    StudentRefusedError,
    check_kwargs,
    functional_config,
    has_graph,
    history,
    in_order,
    input_names,
    is_fixed,
    nodes_of,
    only_output,
    replaced,
    unsupported,
)
from keras_cascade.export.optimization.layer_substitutions import (
    NOISES,
    as_model,
    is_augmentation,
    layer_of_operation,
    substitute,
)

#: Activations that stay inside the layer that has them.
FUSED = ("linear", "relu")
#: Layers that Keras 2 calls otherwise.
ATTENTIONS = (
    keras.layers.MultiHeadAttention,
    keras.layers.GroupQueryAttention,
)


@dataclasses.dataclass
class Step:
    """One layer with one call and one output, which has the step's name.

    Attributes:
        name: str, unique in the graph.
        class_name: str, as in `keras.layers`.
        config: dict, JSON-compatible.
        inputs: list of names of inputs or earlier steps.
        source: str, the layer's name in the student.
        weights: list of arrays.
    """

    name: str
    class_name: str
    config: dict
    inputs: list
    source: str
    weights: list = dataclasses.field(default_factory=list)

    def describe(self):
        """JSON-compatible dict of all attributes but the weights."""
        values = dict(vars(self))
        del values["weights"]
        return values


class StudentGraph:
    """The layers of a student in execution order, nested models inlined.

    Args:
        student: Sequential or Functional `keras.Model`, built.
        examples: some inputs, as the student takes them. They are run layer
            by layer, for comparison with what is rebuilt.
        features: names of layers whose outputs the gate takes. Defaults to
            `()`.

    Attributes:
        steps: list of `Step`.
        inputs: dict of input name to `{"shape", "dtype"}`, without batch.
        output: name of the step that gives the student's outputs.
        features: dict of layer name to name of a step.
        values: dict of name to its array on `examples`.

    Raises:
        ExportError: a layer that cannot be rebuilt, by name.
    """

    def __init__(self, student, examples, features=()):
        if not has_graph(student):
            raise StudentRefusedError(
                "Optimization rebuilds a student layer by layer. Expected: a "
                "Sequential or Functional `keras.Model`. Received: "
                f"{type(student).__name__}, whose layers cannot be seen."
            )
        self.inputs = {
            name: {
                "shape": list(tensor.shape[1:]),
                "dtype": keras.backend.standardize_dtype(tensor.dtype),
            }
            for name, tensor in zip(
                input_names(student), student.inputs, strict=True
            )
        }
        self.steps = []
        self.values = {
            name: keras.ops.convert_to_tensor(array)
            for name, array in self.arrays(examples).items()
        }
        self._called = set()
        self._names = set(self.inputs)
        #: Name of a layer at the top to name of the step with its output.
        self._outputs = {}
        self.output = self._walk(student, list(self.inputs), top=True)
        self._check_whole(student, examples)
        self.values = {
            name: _plain(value) for name, value in self.values.items()
        }
        missing = [name for name in features if name not in self._outputs]
        if missing:
            raise ExportError(
                f"The gate looks at the student's layers {missing}. Expected "
                f"some of: {sorted(self._outputs)}."
            )
        self.features = {name: self._outputs[name] for name in features}

    def _check_whole(self, student, examples):
        """Raises where a subclass's `call` differs from its graph."""
        expected = student(examples, training=False)
        output = self.values[self.output]
        if output.shape != expected.shape or not np.allclose(
            _plain(output), _plain(expected), rtol=1e-3, atol=1e-3
        ):
            raise unsupported(student, "answers otherwise than its layers do")

    def arrays(self, inputs):
        """Dict of input name to array, as the input layers take them."""
        return {
            name: self._standard(name, array)
            for name, array in self.named(inputs).items()
        }

    def named(self, inputs):
        """Dict of input name to its entry in `inputs`."""
        if not isinstance(inputs, dict):
            (name,) = self.inputs
            return {name: inputs}
        return {name: inputs[name] for name in self.inputs}

    def _standard(self, name, array):
        """Casts and adds a last axis of one, as a Keras model does."""
        spec = self.inputs[name]
        array = np.asarray(array).astype(spec["dtype"])
        if array.ndim == len(spec["shape"]) and spec["shape"][-1] == 1:
            array = array[..., None]
        return array

    def _walk(self, model, tensors, top=False, fixed=False):
        """Adds a model's layers.

        Args:
            model: `keras.Model` with a graph.
            tensors: names of its inputs' tensors.
            top: bool, whether it is the student itself.
            fixed: bool, whether it was called with `training=False`.

        Returns:
            Name of its output.
        """
        if isinstance(model, keras.Sequential):
            name = tensors[0]
            for layer in model.layers:
                name = self._call(layer, (name,), {}, top, fixed)
            return name
        config = functional_config(model)
        operations = {one.name: one for one in model.operations}
        nodes = nodes_of(config)
        inputs = input_names(model)
        names = {
            (name, 0): tensor
            for name, tensor in zip(inputs, tensors, strict=True)
        }
        output = only_output(model, config, operations)
        for key in in_order(output, nodes, names):
            layer, node = operations[key[0]], nodes[key]
            if any(number for _, _, number in history(node["args"])):
                raise unsupported(
                    layer, "takes one of several outputs of a layer"
                )
            args = replaced(node["args"], names)
            names[key] = self._call(layer, args, node["kwargs"], top, fixed)
        return names[output]

    def _call(self, layer, args, kwargs, top, fixed):
        """Adds one call, of a layer, a nested model or an operation."""
        check_kwargs(layer, kwargs)
        fixed = fixed or is_fixed(layer, kwargs)
        names = keras.tree.flatten(args)
        if isinstance(layer, keras.Model):
            if not has_graph(layer):
                raise unsupported(layer, "is a subclassed model")
            output = self._walk(layer, names, fixed=fixed)
        elif isinstance(layer, keras.layers.InputLayer):
            output = names[0]
        elif isinstance(layer, keras.layers.Pipeline):
            (output,) = names
            for inner in layer.layers:
                output = self._call(inner, (output,), {}, False, fixed)
        else:
            output = self._add(layer, args, fixed)
        if top:
            self._outputs[layer.name] = output
        return output

    def _add(self, layer, args, fixed):
        if not isinstance(layer, keras.layers.Layer):
            class_name, config, inputs = layer_of_operation(layer, args)
            return self._append(layer, class_name, config, inputs, layer, args)
        weights = layer.get_weights()
        if id(layer) in self._called and weights:
            raise unsupported(layer, "is called more than once")
        self._called.add(id(layer))
        inputs = keras.tree.flatten(args)
        if isinstance(layer, ATTENTIONS):
            # Each input of theirs has a name, and a mask may come along.
            raise unsupported(layer, "is an attention")
        if is_augmentation(layer):
            return self._add_augmentation(layer, inputs)
        replacement = substitute(layer, [self.values[name] for name in inputs])
        if replacement:
            class_name, config, weights = replacement
        elif type(layer).__module__.startswith("keras.src.layers"):
            class_name = type(layer).__name__
            config = keras.saving.serialize_keras_object(layer)["config"]
        else:
            return self._add_composed(layer, inputs, fixed)
        if fixed and class_name == "BatchNormalization":
            config["trainable"] = False
        elif fixed and class_name in NOISES:
            class_name, config = "Activation", {"activation": "linear"}
        activation = "linear"
        if "activation" in config:
            activation = _activation_name(layer, config["activation"])
            config["activation"] = activation
        fused = activation in FUSED or "recurrent_activation" in config
        if fused or not weights:
            return self._append(
                layer, class_name, config, inputs, layer, args, weights
            )
        # What cannot be fused is a layer of its own: it can stay in float
        # while the layer that has it is quantized.
        config["activation"] = "linear"
        before = self._append(
            layer, class_name, config, inputs, None, None, weights
        )
        return self._append(
            layer, "Activation", {"activation": activation}, [before], layer,
            args,
        )  # fmt: skip

    def _add_augmentation(self, layer, inputs):
        """Leaves a layer out that does nothing but in training.

        The tensors that it passes on are its inputs, or these as floats.
        """
        before = self.values[inputs[0]]
        after = layer(before, training=False)
        if before.shape != after.shape or not np.array_equal(
            _plain(before), _plain(after)
        ):
            raise unsupported(layer, "changes its inputs in inference")
        if before.dtype == after.dtype:
            return inputs[0]
        as_it_is = {"scale": 1.0, "offset": 0.0}
        return self._append(layer, "Rescaling", as_it_is, inputs, layer, inputs)

    def _add_composed(self, layer, inputs, fixed):
        """Adds the layers that another is composed of."""
        model = as_model(layer, [self.values[name] for name in inputs])
        if model is None:
            raise unsupported(
                layer, "is no layer of Keras, nor made of such alone"
            )
        try:
            return self._walk(model, inputs, fixed=fixed)
        except StudentRefusedError as error:
            raise StudentRefusedError(
                f"Of layer '{layer.name}' ({type(layer).__name__}): {error}"
            ) from error

    def _append(
        self, source, class_name, config, inputs, run, args, weights=()
    ):
        name = self._unique(source.name)
        config = {**config, "name": name}
        self.steps.append(
            Step(name, class_name, config, inputs, source.name, list(weights))
        )
        if run is not None:
            # Some layers train where nothing is said, such as `RandomFlip`.
            layer = isinstance(run, keras.layers.Layer)
            self.values[name] = run(
                *keras.tree.map_structure(
                    lambda a: self.values[a] if isinstance(a, str) else a, args
                ),
                **({"training": False} if layer else {}),
            )
            if not hasattr(self.values[name], "shape"):
                raise unsupported(source, "has several outputs")
        return name

    def _unique(self, name):
        name = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}_{number}"
        self._names.add(unique)
        return unique


def _activation_name(layer, activation):
    """Name of an activation in a layer's config; `"linear"` for `None`.

    A function of the user's own is a dict there, and an error.
    """
    if activation is None:
        return "linear"
    if not isinstance(activation, str):
        raise StudentRefusedError(
            "The student cannot be rebuilt for optimization: layer "
            f"'{layer.name}' ({type(layer).__name__}) has an activation of "
            "its own. Expected: one of Keras's, by name."
        )
    return activation


def _plain(tensor):
    """A NumPy array that any NumPy can read: no half precision."""
    half = keras.backend.standardize_dtype(tensor.dtype) in (
        "bfloat16",
        "float16",
    )
    tensor = keras.ops.cast(tensor, "float32") if half else tensor
    return np.asarray(keras.ops.convert_to_numpy(tensor))

"""Input signature of an exported graph."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.runtime.student_interpreter import DECISION
from keras_cascade.utils.answer_form import answer_name
from keras_cascade.utils.native_output import without_remarks

ENDPOINT = "serving_default"
SINGLE_INPUT = "input"
FLOAT32 = "float32"


class Signature:
    """Names, shapes, types and value ranges of an exported graph's inputs.

    A single input is called `input`; the names of a dictionary are kept.
    Types and sizes are those that the models declare with `keras.Input`, and
    not those of the arrays at hand: a size that they leave free stays free.
    Every float is float32. Models that declare no inputs, such as subclassed
    ones, take what they were given: floats as float32, integers of more than
    8 bits as int32 where that holds them.

    Args:
        inputs: example inputs with a batch axis: an array, or a dict of
            arrays.
        models: `keras.Model`s that take them. The first that declares an
            input decides; a size that it leaves free may be another's.
            Defaults to `()`.
        input_shape: tuple of sizes of one example, or a dict of them by input
            name; `None` leaves a size to the models. Defaults to `None`.
        variable_length: bool. Leaves the second axis free, such as the length
            of texts. Defaults to `False`.

    Attributes:
        is_dict: bool, whether the models take a dict of inputs.
    """

    def __init__(
        self,
        inputs: Any,
        models: Sequence[Any] = (),
        input_shape: Any = None,
        variable_length: bool = False,
    ):
        self.is_dict = isinstance(inputs, dict)
        leaves = keras.tree.flatten(inputs)
        if not self.is_dict and len(leaves) != 1:
            raise ValueError(
                "Export needs one input, or a dictionary of named inputs. "
                f"Received: {len(leaves)} unnamed inputs. Build the models "
                "with `inputs={'name': keras.Input(...), ...}`."
            )
        named = self._arrays(inputs)
        declared = [_declared(model, named, self.is_dict) for model in models]
        self._specs = {
            name: _spec(name, array, [one[name] for one in declared])
            for name, array in named.items()
        }
        if input_shape is not None:
            self._fix(input_shape)
        if variable_length:
            for spec in self._specs.values():
                spec["shape"][1] = None
        for name, array in self.named(inputs).items():
            self._specs[name]["range"] = _range(array)

    @property
    def is_free(self) -> bool:
        """`True` where an input has a free size beyond the batch."""
        return any(None in spec["shape"][1:] for spec in self.describe())

    def named(self, inputs: Any) -> dict:
        """Dict of input name to array, as the files take them.

        Args:
            inputs: in the models' own structure. They are cast as Keras does,
                and given a last axis of one, or freed of it.

        Raises:
            ExportError: an integer that the type does not hold.
        """
        return {
            name: _as_declared(array, self._specs[name])
            for name, array in self._arrays(inputs).items()
        }

    def row_shapes(self, inputs: Any) -> dict[str, tuple]:
        """Shape of one row of each input.

        Args:
            inputs: in the models' own structure.
        """
        return {k: a.shape[1:] for k, a in self.named(inputs).items()}

    def resized(self, inputs: Any, factor: float) -> Any:
        """Inputs of another size along every free axis.

        Args:
            inputs: in the models' own structure.
            factor: float; content is repeated or cut.
        """

        def other(name, array):
            sizes = self._specs[name]["shape"]
            for axis, size in enumerate(array.shape):
                if axis and size and axis < len(sizes) and sizes[axis] is None:
                    rows = np.arange(max(1, round(factor * size))) % size
                    array = np.take(array, rows, axis=axis)
            return array

        if not self.is_dict:
            return other(SINGLE_INPUT, inputs)
        return {name: other(name, array) for name, array in inputs.items()}

    def widen(self, inputs: Any):
        """Extends the value ranges to more inputs."""
        for name, array in self.named(inputs).items():
            new = _range(array)
            if new is not None:
                low, high = self._specs[name]["range"]
                self._specs[name]["range"] = [
                    min(low, new[0]),
                    max(high, new[1]),
                ]

    def describe(self) -> list[dict]:
        """List of names, shapes, types and ranges, as in the manifest."""
        return list(self._specs.values())

    def _arrays(self, inputs):
        named = inputs if self.is_dict else {SINGLE_INPUT: inputs}
        return {name: np.asarray(array) for name, array in named.items()}

    def _fix(self, input_shape):
        """Replaces free sizes by those of `input_shape`."""
        shapes = input_shape
        if not isinstance(shapes, dict):
            shapes = dict.fromkeys(self._specs, shapes)
        expected = {
            name: tuple(spec["shape"][1:]) for name, spec in self._specs.items()
        }
        if not set(shapes) <= set(expected) or not all(
            _fits(shape, expected[name]) for name, shape in shapes.items()
        ):
            raise ValueError(
                "Expected `input_shape` with the sizes of one example, in the "
                f"place of each `None` of {expected}. Received: "
                f"{input_shape!r}."
            )
        for name, shape in shapes.items():
            self._specs[name]["shape"] = [
                None,
                *(
                    own if size is None else int(size)
                    for size, own in zip(shape, expected[name], strict=True)
                ),
            ]

    def write_saved_model(self, folder, model, outputs, tracked):
        """Writes a SavedModel with the one signature `serving_default`.

        Args:
            folder: path to write to.
            model: built `keras.Model`, or another function of inputs and
                `training`.
            outputs: function from the model's outputs to a dict of named
                outputs.
            tracked: of `write_endpoints`.
        """
        self.write_endpoints(
            folder,
            {ENDPOINT: lambda x: outputs(model(x, training=False))},
            tracked,
        )

    def write_endpoints(self, folder, endpoints, tracked):
        """Writes a SavedModel with one signature per function.

        Args:
            folder: path to write to.
            endpoints: dict of a signature's name to a function from inputs to
                a dict of named outputs.
            tracked: list of the user's own models in it, whose lookup tables
                must come along.

        Raises:
            ExportError: the disk is full, or may not be written to.
        """
        import tensorflow as tf

        specs = {
            name: tf.TensorSpec(spec["shape"], spec["dtype"], name=name)
            for name, spec in self._specs.items()
        }
        # Only an export archive carries a Keras 3 model's weights over, and
        # an endpoint called "serve" would hide the others from the converter.
        archive = keras.export.ExportArchive()
        for resource in tracked:
            archive.track(resource)
        for name, function in endpoints.items():
            archive.add_endpoint(
                name,
                function,
                input_signature=[
                    specs if self.is_dict else specs[SINGLE_INPUT]
                ],
            )
        try:
            with without_remarks():
                archive.write_out(str(folder), verbose=False)
        except (OSError, tf.errors.OpError) as error:
            text = " ".join(str(error).split())[-300:]
            raise ExportError(
                f"The model cannot be written to '{folder}': {text}. Is there "
                "room on the disk? Nothing was kept."
            ) from error


def as_answer(outputs) -> dict:
    """The exported outputs among those of a `StudentWithGate`.

    `delegate` is int32, 0 or 1: browsers refuse tensors of type BOOL.
    """
    names = (answer_name(outputs), *DECISION)
    answer = {name: outputs[name] for name in names}
    return {
        **answer,
        "delegate": keras.ops.cast(answer["delegate"], "int32"),
    }


def as_logits(outputs) -> dict:
    """The exported output of a teacher, which may be a cascade."""
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"logits": logits}


def _declared(model, named, is_dict):
    """Dict of input name to the `keras.Input` of a model, or to `None`.

    Args:
        model: `keras.Model`.
        named: dict of input name to example array.
        is_dict: bool, whether the inputs have names of their own.
    """
    tensors = getattr(model, "inputs", None) or []
    try:
        structure = model.input
    except AttributeError:  # Sequential
        structure = None
    if not is_dict:
        tensor = tensors[0] if len(tensors) == 1 else None
        return {SINGLE_INPUT: tensor}
    if not isinstance(structure, dict):
        structure = {tensor.name: tensor for tensor in tensors}
    return {name: structure.get(name) for name in named}


def _spec(name, array, tensors):
    """Entry of one input.

    Args:
        name: str.
        array: example, batch first.
        tensors: list of `keras.Input` or `None`, of each model.
    """
    spec = {"name": name, "shape": [None, *array.shape[1:]]}
    tensors = [
        one
        for one in tensors
        if hasattr(one, "dtype") and _of_rank(array, len(one.shape)) is not None
    ]
    if not _is_number(array):
        spec["dtype"] = "string"
        return spec
    if not tensors:
        spec["dtype"] = _undeclared_type(array)
        return spec
    dtype = keras.backend.standardize_dtype(tensors[0].dtype)
    spec["dtype"] = FLOAT32 if "float" in dtype else dtype
    rank = len(tensors[0].shape)
    shapes = [one.shape for one in tensors if len(one.shape) == rank]
    spec["shape"] = [
        None,
        *(
            next((size for size in sizes if size is not None), None)
            for sizes in list(zip(*shapes, strict=True))[1:]
        ),
    ]
    return spec


def _undeclared_type(array):
    """Type of an input that no model declares."""
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b" or (kind == "u" and size == 1):
        return str(array.dtype)
    if kind not in "iu":
        return FLOAT32
    limits = np.iinfo("int32")
    fits = not array.size or (
        limits.min <= array.min() and array.max() <= limits.max
    )
    return "int32" if fits else "int64"


def _of_rank(array, rank):
    """An array with a last axis of one added or dropped; `None` otherwise.

    Keras does so for inputs of its models.
    """
    if array.ndim == rank:
        return array
    if array.ndim == rank - 1:
        return array[..., None]
    if array.ndim == rank + 1 and array.shape[-1] == 1:
        return array[..., 0]
    return None


def _as_declared(array, spec):
    """Array of a batch with the type and number of axes of the entry."""
    if spec["dtype"] == "string" or not _is_number(array):
        return array
    fitted = _of_rank(array, len(spec["shape"]))
    array = array if fitted is None else fitted
    cast = array.astype(spec["dtype"], copy=False)
    integers = array.dtype.kind in "iu" and cast.dtype.kind in "iu"
    if integers and not np.array_equal(cast, array):
        raise ExportError(
            f"Expected integers that fit into {spec['dtype']}, which the "
            f"models take as '{spec['name']}'. Received values from "
            f"{array.min()} to {array.max()}. Build the models with "
            "`keras.Input(..., dtype='int64')`."
        )
    return cast


def _fits(shape, expected):
    """Returns whether sizes fit to others, of which some may be free."""
    return (
        isinstance(shape, (list, tuple))
        and len(shape) == len(expected)
        and all(
            size is None
            or (
                isinstance(size, (int, np.integer))
                and size > 0
                and own in (None, size)
            )
            for size, own in zip(shape, expected, strict=True)
        )
    )


def _is_number(array):
    # ml_dtypes' types, such as bfloat16, are of no kind that NumPy knows.
    return array.dtype.kind in "biuf" or "float" in array.dtype.name


def _range(array):
    """Minimum and maximum; `None` for strings."""
    if not _is_number(array):
        return None
    return [float(array.min()), float(array.max())]

"""Input signature of an exported graph."""

from typing import Any

import keras

from keras_cascade.errors import ExportError
from keras_cascade.runtime.student_interpreter import OUTPUTS
from keras_cascade.utils.native_output import without_remarks

ENDPOINT = "serving_default"
SINGLE_INPUT = "input"


class Signature:
    """Names, shapes, types and value ranges of an exported graph's inputs.

    A single input is called `input`; the names of a dictionary are kept.

    Args:
        inputs: example inputs with a batch axis: an array, or a dict of
            arrays.
        variable_length: bool. Leaves the second axis free, such as the length
            of texts. Defaults to `False`.

    Attributes:
        is_dict: bool, whether the models take a dict of inputs.
    """

    def __init__(self, inputs: Any, variable_length: bool = False):
        self.is_dict = isinstance(inputs, dict)
        leaves = keras.tree.flatten(inputs)
        if not self.is_dict and len(leaves) != 1:
            raise ValueError(
                "Export needs one input, or a dictionary of named inputs. "
                f"Received: {len(leaves)} unnamed inputs. Build the models "
                "with `inputs={'name': keras.Input(...), ...}`."
            )
        self._specs = {
            name: {
                "name": name,
                "shape": [None, *_row(array, variable_length)],
                "dtype": str(array.dtype) if _is_number(array) else "string",
                "range": _range(array),
            }
            for name, array in self.named(inputs).items()
        }

    def named(self, inputs: Any) -> dict:
        """Dict of name to array, of inputs in the models' own structure."""
        return dict(inputs) if self.is_dict else {SINGLE_INPUT: inputs}

    def widen(self, inputs: Any):
        """Extends the value ranges to more inputs."""
        for name, array in self.named(inputs).items():
            if _is_number(array):
                low, high = self._specs[name]["range"]
                least, most = _range(array)
                self._specs[name]["range"] = [min(low, least), max(high, most)]

    def describe(self) -> list[dict]:
        """List of names, shapes, types and ranges, as in the manifest."""
        return list(self._specs.values())

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
    """The exported outputs among those of a `StudentWithGate`."""
    return {name: outputs[name] for name in OUTPUTS}


def as_logits(outputs) -> dict:
    """The exported output of a teacher, which may be a cascade."""
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"logits": logits}


def _row(array, variable_length):
    return [None, *array.shape[2:]] if variable_length else array.shape[1:]


def _is_number(array):
    return array.dtype.kind in "biuf"


def _range(array):
    """Minimum and maximum; `None` for strings."""
    if not _is_number(array):
        return None
    return [float(array.min()), float(array.max())]

"""Base class of the files that a student and its gate are exported to."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from keras import ops

from keras_cascade.evaluation.delegated_at import Threshold
from keras_cascade.export.integer_file import integer_spec
from keras_cascade.export.quantization import FLOAT32
from keras_cascade.export.signature import as_answer
from keras_cascade.gates import Gate, StudentWithGate
from keras_cascade.runtime.integer_inputs import IntegerInput

STUDENT_OUTPUTS = "student_outputs"


class StudentArtifact:
    """A student and its gate in one file format, for any threshold.

    A subclass implements `convert` and `open`. Its files have the outputs
    `probabilities` (or `values`, of a regression), `score` and `delegate`,
    whatever the format.

    Args:
        student_with_gate: built `StudentWithGate`. Converting changes neither
            of the two models: a threshold is set on a copy of the gate.
        quantization: str, how numbers are stored. Defaults to `"float32"`.

    Attributes:
        student_with_gate: the `StudentWithGate`.
        quantization: str.
    """

    #: Name of the package that writes the file, for the manifest.
    tool: str | None = None

    #: Dict of input name to `IntegerInput`, of inputs that are floats for the
    #: cascade and integers for the file.
    integer_inputs: Mapping[str, IntegerInput] = MappingProxyType({})

    def __init__(
        self, student_with_gate: StudentWithGate, quantization: str = FLOAT32
    ):
        self.student_with_gate = student_with_gate
        self.quantization = quantization

    def convert(self, threshold: Threshold) -> bytes:
        """Content of the file.

        Args:
            threshold: float. `delegate` is `not (score >= threshold)`. Or a
                sequence of one float for each predicted class.

        Raises:
            ExportError: the student or the gate needs operations that the
                format lacks.
        """
        raise NotImplementedError(f"{type(self).__name__}.convert")

    def write(self, path: Path, threshold: Threshold) -> Path:
        """Writes the file, and a second one where many rows need it.

        Args:
            path: `Path` to write.
            threshold: as in `convert`.

        Returns:
            `Path` of the file that takes any number of rows and every size of
            the signature: `path`, or that of the second file.

        Raises:
            ExportError: as in `convert`.
        """
        path.write_bytes(self.convert(threshold))
        return path

    def open(self, path):
        """Object with `run(inputs)` that executes a written file.

        Args:
            path: path of a file with the content of `convert`.

        Raises:
            ExportError: the file is not valid.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")

    def describe(self) -> dict:
        """Quantization and tool, as in the manifest's `student` entry."""
        return {"quantization": self.quantization, "tool": self.tool}

    def describe_inputs(self, specs: list[dict]) -> list[dict]:
        """Inputs of the file, in the form of the manifest's `input`.

        Args:
            specs: list of the cascade's inputs, as in the manifest.
        """
        return [
            integer_spec(spec, self.integer_inputs[spec["name"]])
            if spec["name"] in self.integer_inputs
            else spec
            for spec in specs
        ]

    def advice(self, limit: float) -> str:
        """Advice on a file whose answers are too far from those of Keras.

        Args:
            limit: float, accepted mean distance.

        Returns:
            Str, sentences; empty where there is nothing to say.
        """
        return ""

    def with_threshold(self, threshold: Threshold) -> StudentWithGate:
        """`StudentWithGate` of the same student and a copy of the gate.

        Args:
            threshold: as in `convert`, of the copy.
        """
        model = self.student_with_gate
        gate = _copy_of(model.gate)
        gate.decision_threshold = threshold
        return StudentWithGate(model.student, gate, model.classes)

    def gate_inputs(self, outputs, features=None) -> dict:
        """Student outputs and inner layers, by their names between two graphs.

        Args:
            outputs: float tensor `(batch, outputs)`, of the student.
            features: dict of student layer name to output, where the gate
                names layers. Defaults to `None`.
        """
        layers = self.student_with_gate.gate.student_layers
        return {
            STUDENT_OUTPUTS: outputs,
            **{
                f"feature_{number}": features[layer]
                for number, layer in enumerate(layers)
            },
        }

    @staticmethod
    def gate_answer(model: StudentWithGate, gate_inputs: dict) -> dict:
        """`probabilities`, `score` and `delegate` from the gate's inputs.

        Args:
            model: of `with_threshold`.
            gate_inputs: dict with the keys of the method `gate_inputs`.
        """
        features = {
            layer: gate_inputs[f"feature_{number}"]
            for number, layer in enumerate(model.gate.student_layers)
        }
        return as_answer(model.answer(gate_inputs[STUDENT_OUTPUTS], features))


def _copy_of(gate: Gate) -> Gate:
    """Gate of the same class, config and weights."""
    copy = type(gate).from_config(gate.get_config())
    if gate.built and not copy.built:
        copy.build_from_config(gate.get_build_config())
    for weight, original in zip(copy.weights, gate.weights, strict=True):
        weight.assign(np.asarray(ops.convert_to_numpy(original)))
    return copy

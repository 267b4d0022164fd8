"""TFLite files of a student and its gate."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_cascade.bundle import BundleError
from keras_cascade.errors import ExportError
from keras_cascade.export.mixed_int8 import MixedInt8, calibrated
from keras_cascade.export.portable_file import portable
from keras_cascade.export.quantization import (
    FLOAT32,
    check_measurable,
    quantize,
)
from keras_cascade.export.recurrent_layers import as_loops
from keras_cascade.export.signature import Signature
from keras_cascade.export.student_artifact import (
    STUDENT_OUTPUTS,
    StudentArtifact,
)
from keras_cascade.export.tabular_layers import with_built_in_operations
from keras_cascade.export.tflite_conversion import convert_to_tflite
from keras_cascade.export.tflite_file import link, with_sizes
from keras_cascade.gates import StudentWithGate
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.utils.progress import tell


class LinkedStudent(StudentArtifact):
    """TFLite file that is linked from a student's part and a gate's part.

    The file is of one row and fixed sizes, as `portable` makes it, and an
    interpreter resizes it. Where it cannot, or sizes are free, `write` adds a
    file for any number of rows.

    The student is converted once, the gate per threshold. So the gate
    computes in float on dequantized logits, whatever the student computes in:
    a softmax of 8 bits has 256 values and its margins tie. And a new
    threshold leaves the student's part as it is, bit by bit, and with it
    every score.

    A subclass calls `convert_student` in its constructor.
    """

    tool = "tf.lite.TFLiteConverter"

    def convert_student(
        self, student, signature, tracked, settings, gate_examples, rows
    ):
        """Converts the student's part of every file.

        Args:
            student: function from inputs and `training` to a dict with the
                keys of `gate_inputs`.
            signature: `Signature` of the inputs.
            tracked: list of the models in `student`, as in
                `Signature.write_endpoints`.
            settings: function that configures the `tf.lite.TFLiteConverter`.
            gate_examples: dict of arrays, batch first, as `student` returns.
            rows: dict of input name to the shape of one example, the sizes of
                the portable file.

        Raises:
            ExportError: the student needs operations that TFLite lacks.
        """
        self._gate_examples = gate_examples
        self._student_part = self._converted(
            signature, student, tracked, settings
        )
        self._rows, self._is_free = rows, signature.is_free
        if self._is_free:
            self._student_part = with_sizes(self._student_part, rows)

    def convert(self, threshold: float) -> bytes:
        return self._portable(self._linked(threshold))[0]

    def write(self, path: Path, threshold: float) -> Path:
        linked = self._linked(threshold)
        content, resizable = self._portable(linked)
        path.write_bytes(content)
        batch = batch_file(path)
        batch.unlink(missing_ok=True)
        if resizable and not self._is_free:
            return path
        batch.write_bytes(linked)
        return batch

    def _portable(self, linked):
        """`(content, resizable)`, of a file for any number of rows."""
        try:
            return portable(linked, self._rows)
        except ExportError as error:
            if self._is_free:
                raise
            warnings.warn(
                "The student's file keeps a free number of rows, so that only "
                f"LiteRT's interpreter runs it. {error}",
                stacklevel=6,
            )
            return linked, True

    def _linked(self, threshold):
        """File of any number of rows, as bytes."""
        model = self.with_threshold(threshold)
        self.gate_answer(model, self._gate_examples)  # builds the copy

        def gate(gate_inputs, training):
            return self.gate_answer(model, gate_inputs)

        gate_part = self._converted(
            Signature(self._gate_examples),
            gate,
            [model.gate],  # a student's lookup tables would come along
            lambda converter: quantize(converter, FLOAT32, (), None),
        )
        return link(self._student_part, gate_part)

    def open(self, path) -> StudentInterpreter:
        return open_tflite(path)

    def _converted(self, signature, function, tracked, settings):
        with (
            tempfile.TemporaryDirectory() as folder,
            with_built_in_operations(self.student_with_gate),
            as_loops(*tracked),
        ):
            signature.write_saved_model(
                folder, function, lambda outputs: outputs, tracked
            )
            return convert_to_tflite(folder, settings, self.student_with_gate)


class TFLiteStudent(LinkedStudent):
    """TFLite file of a Keras student, in float or quantized after training.

    Args:
        student_with_gate: built `StudentWithGate`.
        example_inputs: a batch of inputs.
        quantization: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
            Defaults to `"float32"`.
        representative: list of batches of inputs, for `"int8"`. Defaults to
            `()`.
        signature: `Signature` of the inputs. Defaults to `None`: that of
            `example_inputs`.
        float_layers: names of layers that stay in float, of `"int8"`.
            Defaults to `()`.
        row_shapes: dict of input name to the shape of one example, of the
            portable file. Defaults to `None`: those of `example_inputs`.

    Raises:
        ExportError: the student needs operations that TFLite lacks; `"int8"`
            of one that takes strings.
    """

    def __init__(
        self,
        student_with_gate: StudentWithGate,
        example_inputs,
        quantization: str = FLOAT32,
        representative=(),
        signature: Signature | None = None,
        float_layers: Sequence[str] = (),
        row_shapes: dict | None = None,
    ):
        super().__init__(student_with_gate, quantization)
        self._float_layers = list(float_layers)
        signature = signature or Signature(example_inputs)
        if quantization == "int8":
            check_measurable(signature)
        model = StudentWithGate(
            student_with_gate.student,
            student_with_gate.gate,
            student_with_gate.classes,
            keep_outputs=True,
        )

        def student(inputs, training):
            answer = model(inputs, training=training)
            return self.gate_inputs(
                answer[STUDENT_OUTPUTS], answer.get("features")
            )

        tracked = [student_with_gate.student, student_with_gate.gate]
        named = [signature.named(x) for x in representative]

        def settings(converter):
            quantize(converter, quantization, representative, signature)
            if self._float_layers:
                return lambda: MixedInt8(
                    calibrated(converter), student_with_gate.student
                ).quantized(self._float_layers)
            return None

        def mixed_int8():
            def settings(converter):
                quantize(converter, quantization, representative, signature)
                return lambda: calibrated(converter)

            content = self._converted(signature, student, tracked, settings)
            return MixedInt8(content, student_with_gate.student)

        self._mixed_int8, self._representative = mixed_int8, named
        self.convert_student(
            student,
            signature,
            tracked,
            settings,
            keras.tree.map_structure(
                keras.ops.convert_to_numpy, student(example_inputs, False)
            ),
            row_shapes or signature.row_shapes(example_inputs),
        )

    def describe(self) -> dict:
        described = super().describe()
        if self._float_layers:
            described["left_in_float"] = [
                {"layer": name, "why": "asked for"}
                for name in self._float_layers
            ]
        return described

    def advice(self, limit: float) -> str:
        """Says which layers move the answers of an `"int8"` file.

        Args:
            limit: float, accepted mean distance.
        """
        if self.quantization != "int8" or self._float_layers:
            return ""
        tell("int8 moves the answers: measuring which layers do.")
        return self._mixed_int8().advice(self._representative, limit)


def batch_file(path: Path) -> Path:
    """Path of the file for many rows that belongs to a portable one.

    Args:
        path: `Path` of the portable file.
    """
    return path.with_stem(f"{path.stem}_batch")


def open_tflite(path) -> StudentInterpreter:
    """`StudentInterpreter` of an exported file.

    Args:
        path: path of the file.

    Raises:
        ExportError: LiteRT does not open the file.
    """
    try:
        return StudentInterpreter(path)
    except BundleError as error:
        # Such as scales that its kernels cannot compute with, of a student
        # whose outputs hardly vary.
        text = " ".join(str(error.__cause__ or error).split())[:300]
        raise ExportError(
            f"LiteRT cannot open the exported student: {text}. The file was "
            "not kept. Train the student first, or export it without "
            "quantization."
        ) from error

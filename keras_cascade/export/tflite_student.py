"""TFLite files of a student and its gate."""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras

from keras_cascade.bundle import BundleError
from keras_cascade.errors import ExportError
from keras_cascade.evaluation.delegated_at import Threshold
from keras_cascade.export.converter_settings import ConverterSettings
from keras_cascade.export.int4_weights import (
    check_int4_installed,
    with_int4_weights,
)
from keras_cascade.export.integer_file import (
    with_int8_inputs,
    with_pixel_inputs,
)
from keras_cascade.export.mixed_int8 import MixedInt8
from keras_cascade.export.portable_file import portable
from keras_cascade.export.quantization import (
    FLOAT32,
    INT4,
    check_measurable,
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
from keras_cascade.runtime.integer_inputs import (
    IntegerInput,
    IntegerInputs,
    IntegerInputStudent,
)
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

    Attributes:
        left_in_float: list of `(layer name, reason)`, of layers that compute
            in float; `None` where the file does not say.
    """

    tool = "tf.lite.TFLiteConverter"
    left_in_float: Sequence[tuple[str, str]] | None = None

    def convert_student(
        self,
        student,
        signature,
        tracked,
        settings,
        gate_examples,
        rows,
        finish=None,
    ):
        """Converts the student's part of every file.

        Args:
            student: function from inputs and `training` to a dict with the
                keys of `gate_inputs`.
            signature: `Signature` of the inputs.
            tracked: list of the models in `student`, as in
                `Signature.write_endpoints`.
            settings: `ConverterSettings`.
            gate_examples: dict of arrays, batch first, as `student` returns.
            rows: dict of input name to the shape of one example, the sizes of
                the portable file.
            finish: function from the converter's bytes to those of the
                student's part. Defaults to `None`.

        Raises:
            ExportError: the student needs operations that TFLite lacks.
        """
        self._gate_examples = gate_examples
        self._student_part = self._converted(
            signature, student, tracked, settings
        )
        if finish is not None:
            self._student_part = finish(self._student_part)
        self._rows, self._is_free = rows, signature.is_free
        if self._is_free:
            self._student_part = with_sizes(self._student_part, rows)

    def content(self) -> bytes:
        """The TFLite file with the threshold that the gate has now."""
        return self.convert(self.student_with_gate.gate.decision_threshold)

    def describe(self) -> dict:
        described = super().describe()
        if self.left_in_float is not None:
            described["left_in_float"] = [
                {"layer": layer, "why": reason}
                for layer, reason in self.left_in_float
            ]
        return described

    def convert(self, threshold: Threshold) -> bytes:
        return self._portable(self._linked(threshold))[0]

    def write(self, path: Path, threshold: Threshold) -> Path:
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
            ConverterSettings(),
        )
        return link(self._student_part, gate_part)

    def open(self, path):
        student = open_tflite(path)
        if not self.integer_inputs:
            return student
        return IntegerInputStudent(
            student, IntegerInputs(dict(self.integer_inputs), None)
        )

    def take_int8(self):
        """Makes the inputs of every file int8, where they are floats.

        Raises:
            ExportError: the student does not begin in 8 bits.
        """
        self._student_part, self.integer_inputs = with_int8_inputs(
            self._student_part
        )

    def take_pixels(self, pixels: dict[str, IntegerInput]):
        """Makes inputs of every file uint8, and scales them in it.

        Args:
            pixels: dict of input name to `IntegerInput`.
        """
        self._student_part = with_pixel_inputs(self._student_part, pixels)
        self.integer_inputs = pixels

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
        quantization: `"float32"`, `"float16"`, `"dynamic"`, `"int8"` or
            `"int4"`. Defaults to `"float32"`.
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
            of one that takes strings; `"int4"` of one none of whose layers can
            be stored in 4 bits, or without its package.
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
        if self._float_layers:
            self.left_in_float = [
                (name, "asked for") for name in self._float_layers
            ]
        signature = signature or Signature(example_inputs)
        if quantization == "int8":
            check_measurable(signature)
        if quantization == INT4:
            check_int4_installed()
            self.tool = "litert-quantizer"
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
        # 4 bits are made of the file in float32.
        of_converter = FLOAT32 if quantization == INT4 else quantization
        settings = ConverterSettings(of_converter, named)
        measured = ConverterSettings(quantization, named, calibrated_only=True)

        def mixed_int8(content):
            return MixedInt8(content, student_with_gate.student)

        self._mixed_int8 = lambda: mixed_int8(
            self._converted(signature, student, tracked, measured)
        )
        self._representative = named
        in_float = self._float_layers
        self.convert_student(
            student,
            signature,
            tracked,
            measured if in_float else settings,
            keras.tree.map_structure(
                keras.ops.convert_to_numpy, student(example_inputs, False)
            ),
            row_shapes or signature.row_shapes(example_inputs),
            (lambda content: mixed_int8(content).quantized(in_float))
            if in_float
            else None,
        )
        self._stored: dict = {}
        if quantization == INT4:
            self._student_part, self._stored = with_int4_weights(
                self._student_part, student_with_gate.student
            )

    def describe(self) -> dict:
        return {**super().describe(), **self._stored}

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

"""A student's TFLite file, which a new threshold does not change otherwise."""

import tempfile

import keras

from keras_cascade.export.quantization import FLOAT32, quantize
from keras_cascade.export.signature import Signature, as_answer
from keras_cascade.export.tflite_conversion import convert_to_tflite
from keras_cascade.export.tflite_linking import link
from keras_cascade.gates import StudentWithGate

STUDENT_OUTPUTS = "student_outputs"


class StudentFile:
    """Converts a student once, and its gate as often as it changes.

    The two are converted apart and then linked. So the gate computes in float
    on dequantized logits, whatever the student computes in: a softmax of 8
    bits has 256 values and its margins tie. And a new threshold leaves the
    student's part as it is, bit by bit, and with it every score.

    Args:
        student_with_gate: built `StudentWithGate`.
        example_inputs: a batch of inputs.
        quantization: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
            Defaults to `"float32"`.
        representative: list of batches of inputs, for `"int8"`. Defaults to
            `()`.
        signature: `Signature` of the inputs. Defaults to `None`: that of
            `example_inputs`.

    Raises:
        ExportError: the student needs operations that TFLite lacks.
    """

    def __init__(
        self,
        student_with_gate,
        example_inputs,
        quantization=FLOAT32,
        representative=(),
        signature=None,
    ):
        self._model = StudentWithGate(
            student_with_gate.student,
            student_with_gate.gate,
            student_with_gate.classes,
            keep_outputs=True,
        )
        self._layers = tuple(student_with_gate.gate.student_layers)
        self._between = Signature(
            keras.tree.map_structure(
                keras.ops.convert_to_numpy,
                self._shown_to_gate(self._model(example_inputs)),
            )
        )
        signature = signature or Signature(example_inputs)
        self._student = self._converted(
            signature,
            self._model,
            self._shown_to_gate,
            [student_with_gate.student, student_with_gate.gate],
            lambda converter: quantize(
                converter, quantization, representative, signature
            ),
        )

    def convert(self, threshold):
        """TFLite bytes of the student and its gate.

        Args:
            threshold: float, for the file. The gate keeps its own.
        """
        gate = self._model.gate
        before, gate.threshold = gate.threshold, threshold
        try:
            added = self._converted(
                self._between,
                self._answer,
                as_answer,
                [gate],  # a student's lookup tables would come along
                lambda converter: quantize(converter, FLOAT32, (), None),
            )
        finally:
            gate.threshold = before
        return link(self._student, added)

    def _shown_to_gate(self, answer):
        features = answer.get("features", {})
        return {
            STUDENT_OUTPUTS: answer[STUDENT_OUTPUTS],
            **{
                f"feature_{number}": features[layer]
                for number, layer in enumerate(self._layers)
            },
        }

    def _answer(self, shown, training):
        features = {
            layer: shown[f"feature_{number}"]
            for number, layer in enumerate(self._layers)
        }
        return self._model.answer(shown[STUDENT_OUTPUTS], features)

    def _converted(self, signature, model, outputs, tracked, settings):
        with tempfile.TemporaryDirectory() as folder:
            signature.write_saved_model(folder, model, outputs, tracked)
            return convert_to_tflite(folder, settings, self._model)

"""Student and gate as one TFLite file with built-in operations only."""

import re
import tempfile
from pathlib import Path

from keras_cascade.export.errors import ExportError
from keras_cascade.export.signature import Signature
from keras_cascade.gates import StudentWithGate
from keras_cascade.runtime.student_interpreter import OUTPUTS


def export_student(cascade, filepath, example_inputs=None):
    """Writes the student and its gate as one float32 TFLite file.

    The file has the signature `serving_default` with the outputs
    `probabilities`, `score` and `delegate`, and takes any batch size.

    Args:
        cascade: `Cascade` with a built student.
        filepath: path that ends in `.tflite`.
        example_inputs: a batch of inputs; gives names, shapes and types.
            Defaults to inputs that the cascade has seen in this process,
            when the cascade calls this.

    Returns:
        `Signature` of the file.

    Raises:
        ExportError: the student needs operations that TFLite lacks.
    """
    filepath = Path(filepath)
    if filepath.suffix != ".tflite":
        raise ValueError(
            f"Expected a path that ends in '.tflite'. Received: '{filepath}'."
        )
    cascade.gate.check_ready()
    if example_inputs is None:
        raise ValueError(
            "Expected `example_inputs`, a batch of inputs: they give names, "
            "shapes and types, and this cascade has seen none yet."
        )
    signature = Signature(example_inputs)
    model = StudentWithGate(cascade.student, cascade.gate, cascade.classes)
    model(example_inputs)
    filepath.write_bytes(convert(model, signature))
    return signature


def convert(student_with_gate, signature):
    """TFLite bytes of a `StudentWithGate`."""
    import tensorflow as tf

    def shipped(outputs):
        return {name: outputs[name] for name in OUTPUTS}

    with tempfile.TemporaryDirectory() as folder:
        signature.write_saved_model(
            folder, student_with_gate, shipped, [student_with_gate.student]
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # The default lets in operations that no current interpreter runs.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return converter.convert()
        except Exception as error:
            raise ExportError(_explained(error)) from error


def _explained(error):
    text = str(error)
    names = set(re.findall(r"(?:Select ops|Custom ops): ([^\n]+)", text))
    names |= set(re.findall(r"op: 'tf\.(\w+)'", text))
    what = ", ".join(sorted(names)) or text.strip().splitlines()[-1][:300]
    return (
        "The student cannot be converted to TFLite's built-in operations. "
        f"Not built in: {what}. Replace the layers that use them."
    )

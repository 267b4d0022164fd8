"""ONNX files of a student with its gate, or of a teacher."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.errors import ExportError
from keras_cascade.evaluation.delegated_at import Threshold, delegated_at
from keras_cascade.export.backend import check_backend
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.exported_model import check_not_external
from keras_cascade.export.onnx_interpreter import (
    OnnxStudentInterpreter,
    open_session,
)
from keras_cascade.export.saved_model_functions import allow_inlining
from keras_cascade.export.signature import (
    ENDPOINT,
    Signature,
    as_answer,
    as_logits,
)
from keras_cascade.export.student_artifact import StudentArtifact
from keras_cascade.export.verification import (
    BATCH_SIZES,
    answers_at_sizes,
    check_same,
)
from keras_cascade.utils.output_path import output_path
from keras_cascade.utils.progress import progress_shown

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

OPSET = 17


def export_onnx(
    cascade: "Cascade",
    filepath: str | os.PathLike,
    example_inputs: Any = None,
    part: str = "student",
    verbose: bool | None = None,
    input_shape: tuple | dict | None = None,
) -> Signature:
    """Writes the student with its gate, or the teacher, as one ONNX file.

    The file is opened in onnxruntime and compared with Keras at 1, 2, 7 and
    64 rows before it is moved to `filepath`.

    Args:
        cascade: `Cascade` with built models.
        filepath: path that ends in `.onnx`.
        example_inputs: a batch of inputs; gives names, shapes and types.
            Defaults to inputs that the cascade has seen in this process,
            when the cascade calls this.
        part: `"student"` (outputs `probabilities`, `score`, `delegate`) or
            `"teacher"` (output `logits`). Defaults to `"student"`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.
        input_shape: sizes of one example, in the place of those that the
            models leave free; or a dict of them by input name. Defaults to
            `None`: what is free stays free.

    Returns:
        `Signature` of the file.

    Raises:
        ExportError: the model cannot be converted, or answers otherwise.
        RuntimeError: Keras does not run on TensorFlow.
    """
    check_backend()
    filepath = Path(filepath)
    if filepath.suffix != ".onnx" or part not in ("student", "teacher"):
        raise ValueError(
            "Expected a path that ends in '.onnx' and `part` 'student' or "
            f"'teacher'. Received: '{filepath}' and {part!r}."
        )
    target = output_path(filepath)
    job = ExportJob(
        cascade, example_inputs=example_inputs, input_shape=input_shape
    )
    exported = getattr(job, part)
    check_not_external(exported.model, "An ONNX file of a teacher")
    model, outputs = _converted_part(exported)
    signature = exported.signature
    example_inputs = exported.inputs(job.example_inputs)
    with (
        progress_shown(verbose),
        job.in_float32(),
        tempfile.TemporaryDirectory(dir=target.parent) as folder,
    ):
        file = Path(folder, target.name)
        named = convert_to_onnx(model, file, example_inputs, signature, outputs)
        threshold = None
        if part == "student":
            threshold = cascade.gate.decision_threshold
        _compare(named, file, example_inputs, signature, threshold, job.answers)
        os.replace(file, target)
    return signature


class OnnxStudent(StudentArtifact):
    """ONNX file of a student and its gate, in float32.

    Args:
        student_with_gate: built `StudentWithGate`.
        example_inputs: a batch of inputs.
        signature: `Signature` of them.
    """

    tool = "tf2onnx"

    def __init__(self, student_with_gate, example_inputs, signature):
        super().__init__(student_with_gate)
        self._example_inputs = example_inputs
        self._signature = signature

    def convert(self, threshold: Threshold) -> bytes:
        model = self.with_threshold(threshold)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "student.onnx")
            convert_to_onnx(model, file, self._example_inputs, self._signature)
            return file.read_bytes()

    def open(self, path) -> OnnxStudentInterpreter:
        return OnnxStudentInterpreter(path)


def convert_to_onnx(model, file, example_inputs, signature, outputs=None):
    """Writes a model's ONNX file, without running it.

    Args:
        model: `keras.Model`.
        file: path to write.
        example_inputs: a batch of inputs.
        signature: `Signature` of them.
        outputs: function from the model's outputs to a dict of named
            outputs. Defaults to those of a `StudentWithGate`.

    Returns:
        `NamedOutputs`, the model as it was converted.
    """
    named = NamedOutputs(model, outputs or as_answer)
    named(example_inputs)
    _convert(named, file, signature)
    return named


def _converted_part(exported):
    """`(model, outputs)`, as `convert_to_onnx` takes them."""
    if exported.role == "student":
        return exported.with_gate, as_answer
    if any(spec["dtype"] == "string" for spec in exported.signature.describe()):
        raise ExportError(
            "ONNX has no operations that KerasHub's and Keras's preprocessors "
            "of texts become. Received a teacher of texts. Serve its "
            "SavedModel, or give it a `keras_cascade.text.Tokenizer`."
        )
    return exported.model, as_logits


class NamedOutputs(keras.Model):
    """A model whose outputs are the dict that is exported."""

    def __init__(self, model, outputs):
        super().__init__()
        self.autocast = False
        self._model = model
        self._outputs = outputs

    def call(self, inputs):
        return self._outputs(self._model(inputs, training=False))


def _convert(model, file, signature):
    """Converts a SavedModel of the model.

    Keras's own export passes tf2onnx a function in which constants that a
    layer holds look like inputs, and convolutions of several groups are calls
    that ONNX lacks.
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx

    _register_erfc()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            # Of tf2onnx's own old habits with NumPy.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            # Of a function for each inner model that nobody calls.
            warnings.filterwarnings("ignore", "The structure of `inputs`")
            signature.write_saved_model(
                folder, model, lambda outputs: outputs, [model]
            )
            allow_inlining(folder)
            frozen, inputs, outputs, tables, names = tf_loader.from_saved_model(
                folder, None, None, "serve", [ENDPOINT],
                return_initialized_tables=True, return_tensors_to_rename=True,
            )  # fmt: skip
            with tf.Graph().as_default() as graph:
                tf.import_graph_def(frozen, name="")
                converted = tfonnx.process_tf_graph(
                    graph, opset=OPSET, input_names=inputs,
                    output_names=outputs, tensors_to_rename=names,
                    initialized_tables=tables,
                )  # fmt: skip
            converted = optimizer.optimize_graph(converted)
            content = converted.make_model("keras_cascade").SerializeToString()
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ExportError(
            f"The model cannot be converted to ONNX: {text}"
        ) from error
    file.write_bytes(content)


def _compare(model, file, inputs, signature, threshold, answers):
    """Opens the file in onnxruntime; tf2onnx can write one that is invalid."""
    session = open_session(file)
    names = [output.name for output in session.get_outputs()]
    for part, expected in _answers(model, inputs, signature):
        values = session.run(names, signature.named(part))
        outputs = dict(zip(names, values, strict=True))
        if set(outputs) != set(expected):
            raise ExportError(
                f"Expected the outputs {sorted(expected)} in the ONNX file. "
                f"Received: {sorted(outputs)}."
            )
        if threshold is not None:
            # Exactly as the file's own scores say: a score on the threshold
            # may fall to the other side in Keras.
            expected["delegate"] = delegated_at(
                outputs["score"],
                threshold,
                answers.predicted(outputs[answers.name]),
            )
        for name, values in expected.items():
            check_same("ONNX file", name, outputs[name], values)


def _answers(model, inputs, signature):
    """Yields inputs of every size of a batch, and of the inputs' free axes."""

    def answer(part):
        return keras.tree.map_structure(keras.ops.convert_to_numpy, model(part))

    rows = np.arange(max(BATCH_SIZES)) % rows_of(inputs)
    for size in BATCH_SIZES:
        part = take_rows(inputs, rows[:size])
        yield part, answer(part)
    if signature.is_free:
        yield from answers_at_sizes(inputs, signature, answer)


def _register_erfc():
    """Registers a handler of `Erfc`, which exact GELU needs: 1 - Erf."""
    from tf2onnx.handler import tf_op

    if getattr(_register_erfc, "done", False):
        return

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, context, node, **kwargs):
            one = context.make_const(
                f"{node.name}_one", np.array(1.0, dtype="float32")
            )
            shapes, dtypes = node.output_shapes, node.output_dtypes
            argument, output = node.input[0], node.output[0]
            context.remove_node(node.name)
            error = context.make_node("Erf", [argument])
            context.make_node(
                "Sub",
                [one.output[0], error.output[0]],
                outputs=[output],
                shapes=shapes,
                dtypes=dtypes,
            )

    _register_erfc.done = True

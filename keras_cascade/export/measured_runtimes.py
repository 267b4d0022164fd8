"""Runtimes that `verify` can run a bundle's student in."""

import dataclasses
import importlib.metadata
from typing import Any

from keras_cascade.bundle import Bundle
from keras_cascade.errors import ExportError
from keras_cascade.export.litertjs_student import LiteRtJsStudent
from keras_cascade.export.onnx_interpreter import OnnxStudentInterpreter
from keras_cascade.export.tflite_micro_student import TFLiteMicroStudent
from keras_cascade.runtime.integer_inputs import with_integer_inputs
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.student_runtimes import open_runtime
from keras_cascade.runtime.tokenized import student_with_tokenizer

NAMES = ("interpreter", "compiled", "litertjs", "onnxruntime", "tflite-micro")


@dataclasses.dataclass
class MeasuredRuntime:
    """A bundle's student in one runtime.

    Attributes:
        name: str, out of `NAMES`.
        accelerator: `"cpu"`, `"gpu"` or `"npu"`.
        file: str, the file in the bundle that it runs.
        student: object with `run(inputs)`, for the bundle's inputs.
        version: str, of the runtime's package.
        details: dict, what is known of the runtime.
    """

    name: str
    accelerator: str
    file: str
    student: Any
    version: str
    details: dict = dataclasses.field(default_factory=dict)

    def close(self) -> None:
        """Ends what the student runs in."""
        close = getattr(self.student, "close", None)
        if close is not None:
            close()

    @property
    def title(self) -> str:
        """File, runtime and accelerator, for people."""
        on = "" if self.accelerator == "cpu" else f" on the {self.accelerator}"
        return f"{self.file} in {self.name} {self.version}{on}"


def open_measured_runtime(
    bundle: Bundle, name: str, accelerator: str = "cpu"
) -> MeasuredRuntime:
    """Opens a bundle's student in a runtime.

    Args:
        bundle: `Bundle`.
        name: str, out of `NAMES`.
        accelerator: str, with `"compiled"`. Defaults to `"cpu"`.

    Raises:
        BundleError: the runtime, or its accelerator, cannot run the file.
        ExportError: the runtime is not installed, or cannot run the file.
        ValueError: there is no such runtime.
    """
    if name not in NAMES:
        raise ValueError(
            f"Expected a runtime out of {list(NAMES)}. Received: {name!r}."
        )
    if accelerator != "cpu" and name != "compiled":
        raise ValueError(
            f"Expected the runtime 'compiled' with the accelerator "
            f"{accelerator!r}. Received: {name!r}."
        )
    if (
        name in ("litertjs", "tflite-micro")
        and not bundle.answer_form.one_class
    ):
        raise ExportError(
            f"The runtime '{name}' is measured with bundles of one class per "
            "example. Received: one of the task "
            f"{bundle.manifest['task']['class']}. Choose 'interpreter', "
            "'compiled' or 'onnxruntime'."
        )
    file = bundle.manifest["student"]["file"]
    if name in ("interpreter", "compiled"):
        student, _ = open_runtime(bundle, 1, name, accelerator, fall_back=False)
        version = importlib.metadata.version("ai-edge-litert")
        return MeasuredRuntime(name, accelerator, file, student, version)
    if name == "onnxruntime":
        if "student" not in bundle.onnx_files:
            raise ExportError(
                f"The runtime 'onnxruntime' runs 'student.onnx', which "
                f"'{bundle.path}' lacks. Export it again with onnx=True."
            )
        file = bundle.manifest["onnx"]["student"]["file"]
        onnx = OnnxStudentInterpreter(bundle.read(file), file)
        return MeasuredRuntime(
            name,
            accelerator,
            file,
            student_with_tokenizer(onnx, bundle),
            importlib.metadata.version("onnxruntime"),
        )
    content = bundle.read(file)
    runner: Any
    if name == "litertjs":
        shapes = StudentInterpreter(content, name=file).row_shapes()
        runner = LiteRtJsStudent(content, file, bundle.student_inputs, shapes)
        version, details = runner.version, {}
    else:
        runner = TFLiteMicroStudent(content, file)
        version = importlib.metadata.version("tflite-micro")
        details = {"arena_bytes": runner.arena_bytes}
    student = student_with_tokenizer(
        with_integer_inputs(runner, bundle), bundle, fixed=True
    )
    return MeasuredRuntime(name, accelerator, file, student, version, details)

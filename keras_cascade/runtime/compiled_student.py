"""LiteRT's `CompiledModel` of the student and its gate, on CPU, GPU or NPU."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import types
from pathlib import Path

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.runtime.student_interpreter import (
    SIGNATURE,
    StudentInterpreter,
)
from keras_cascade.utils.answer_form import AnswerForm
from keras_cascade.utils.forks import never_free_in_forks
from keras_cascade.utils.native_output import hidden_native_output

ACCELERATORS = ("cpu", "gpu", "npu")
#: What LiteRT logs of an accelerator that it does not use.
REMARK = re.compile(r"^(?:ERROR|WARNING): \[[^\]]*\] (.+)$", re.MULTILINE)
#: Types that LiteRT's buffers hold.
DTYPES = ("float32", "float16", "int32", "int8", "uint8", "bool")


class AcceleratorError(BundleError):
    """An accelerator that is not there, or does not compute the student."""


class CompiledStudent(StudentInterpreter):
    """Runs the bundle's TFLite file in LiteRT's `CompiledModel`.

    The file has one row, and is never resized: after a resize, LiteRT 2.3
    writes beyond its buffers. The rows of a batch are run one by one. On the
    CPU each thread has a model of its own; an accelerator has one, which one
    thread uses at a time.

    Args:
        file: as in `StudentInterpreter`.
        num_threads: int, threads inside one model. Defaults to `1`.
        name: str, as in `StudentInterpreter`. Defaults to `None`.
        accelerator: `"cpu"`, `"gpu"` or `"npu"`. On a GPU, operations that it
            lacks run on the CPU. Defaults to `"cpu"`.

    Attributes:
        accelerator: str.

    Raises:
        BundleError: the file is not of one row, or LiteRT does not open it.
        AcceleratorError: the accelerator is not there.
    """

    def __init__(
        self,
        file: str | os.PathLike | bytes,
        num_threads: int = 1,
        name: str | None = None,
        accelerator: str = "cpu",
    ):
        self.accelerator = accelerator
        self._reset_models()
        super().__init__(file, num_threads, name)
        runner = self._runner()
        self._inputs = _layout(runner.get_input_details())
        self._outputs = _layout(runner.get_output_details())
        self._check_portable(runner)
        super().forget()
        self._model()  # fail now rather than on the first request

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch, row by row.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            As `StudentInterpreter.run`.

        Raises:
            BundleError: rows of other sizes than the file's.
        """
        rows = 0
        for name, (shape, _) in self._inputs.items():
            rows, *sizes = inputs[name].shape
            if tuple(sizes) != shape:
                raise BundleError(
                    f"'{self._file}' takes rows of {shape} as '{name}' in the "
                    f"runtime 'compiled'. Received: {tuple(sizes)}. Load the "
                    "bundle with runtime='interpreter' for other sizes."
                )
        with self._lock:
            model = self._model()
            try:
                if rows == 1:
                    return _decided(model.run(inputs))
                outputs = {
                    name: np.empty((rows, *shape), dtype)
                    for name, (shape, dtype) in self._outputs.items()
                }
                for row in range(rows):
                    answer = model.run(
                        {k: v[row : row + 1] for k, v in inputs.items()}
                    )
                    for name, value in answer.items():
                        outputs[name][row] = value[0]
                return _decided(outputs)
            except RuntimeError as error:
                raise self._unusable(error) from error

    def check(self, specs: list[dict], answers: AnswerForm) -> None:
        # Of sizes that the manifest leaves free, the file takes one.
        own = self.row_shapes()
        fixed = []
        for spec in specs:
            row = own.get(spec["name"], ())
            sizes = [
                size or (row[axis] if axis < len(row) else None)
                for axis, size in enumerate(spec["shape"][1:])
            ]
            fixed.append({**spec, "shape": [1, *sizes]})
        super().check(fixed, answers)
        super().forget()  # the interpreter that knows the file's details

    def row_shapes(self) -> dict[str, list[int]]:
        return {name: list(shape) for name, (shape, _) in self._inputs.items()}

    def close(self) -> None:
        """Releases all models; the next run creates one."""
        with hidden_native_output():  # LiteRT logs the end of each
            self.forget()

    def forget(self) -> None:
        super().forget()
        self._reset_models()

    def _reset_models(self):
        if self.accelerator == "cpu":
            self._models = threading.local()
            self._lock = contextlib.nullcontext()
        else:
            self._models = types.SimpleNamespace()
            self._lock = threading.Lock()

    def _model(self):
        models = self._models
        if not hasattr(models, "model"):
            models.model = self._opened()
        return models.model

    def _opened(self):
        try:
            with hidden_native_output():
                model = _Model(
                    self._content,
                    self._num_threads,
                    self.accelerator,
                    self._inputs,
                    self._outputs,
                )
        except (ImportError, RuntimeError, ValueError) as error:
            if self.accelerator != "cpu":
                raise AcceleratorError(reason_of(error)) from error
            raise self._unusable(error) from error
        never_free_in_forks(model)
        return model

    def _check_portable(self, runner):
        details = [
            *runner.get_input_details().values(),
            *runner.get_output_details().values(),
        ]
        shapes = [tuple(one["shape_signature"].tolist()) for one in details]
        fixed = all(shape[:1] == (1,) and min(shape) > 0 for shape in shapes)
        if not fixed or self._outputs["delegate"][1] == np.bool_:
            raise BundleError(
                f"'{self._file}' is not a portable file, of one row and fixed "
                "sizes, which runtime='compiled' needs. Export the bundle "
                "again with this version, or load it with "
                "runtime='interpreter'."
            )
        for name, (_, dtype) in self._inputs.items():
            if dtype.name not in DTYPES:
                raise BundleError(
                    f"'{self._file}' takes '{name}' as {_named(dtype)}, which "
                    f"runtime='compiled' does not: it takes {list(DTYPES)}. "
                    "Load the bundle with runtime='interpreter'."
                )


def _decided(outputs):
    outputs["delegate"] = outputs["delegate"].astype(bool)
    return outputs


class _Model:
    """One `CompiledModel` with its buffers.

    Args:
        content: bytes of a TFLite file.
        num_threads: int, of the CPU.
        accelerator: str.
        inputs: dict of name to `(shape of a row, dtype)`.
        outputs: the same, of the outputs.
    """

    def __init__(self, content, num_threads, accelerator, inputs, outputs):
        from ai_edge_litert.compiled_model import (
            CompiledModel,
            CpuOptions,
            Options,
        )

        self._content = content  # LiteRT does not copy it
        self._compiled = CompiledModel.from_buffer(
            content,
            options=Options(
                hardware_accelerators=_hardware(accelerator),
                cpu_options=CpuOptions(num_threads=num_threads),
            ),
        )
        self._signature = self._compiled.get_signature_index(SIGNATURE)
        names = self._compiled.get_signature_list()[SIGNATURE]
        self._inputs = self._compiled.create_input_buffers(self._signature)
        self._outputs = self._compiled.create_output_buffers(self._signature)
        self._writes = [
            (name, buffer.write)
            for name, buffer in zip(names["inputs"], self._inputs, strict=True)
        ]
        buffers = dict(zip(names["outputs"], self._outputs, strict=True))
        self._reads = [
            (
                name,
                buffers[name].read,
                int(np.prod(shape)),
                dtype.type,
                (1, *shape),
            )
            for name, (shape, dtype) in outputs.items()
        ]
        self.run(  # LiteRT logs at the first
            {
                name: np.zeros((1, *shape), dtype)
                for name, (shape, dtype) in inputs.items()
            }
        )

    def run(self, inputs):
        """Runs one row."""
        for name, write in self._writes:
            write(inputs[name])
        self._compiled.run_by_index(
            self._signature, self._inputs, self._outputs
        )
        return {
            name: read(count, dtype).reshape(shape)
            for name, read, count, dtype, shape in self._reads
        }


def _hardware(accelerator):
    """Flags of LiteRT."""
    from ai_edge_litert import compiled_model

    hardware = compiled_model.HardwareAccelerator
    if accelerator == "gpu":
        folder = Path(compiled_model.__file__).parent
        if not any(folder.glob("*LiteRt*GpuAccelerator*")):
            raise RuntimeError("this build of LiteRT has none")
        return hardware.GPU | hardware.CPU
    # With the CPU as well, LiteRT would use it alone, without a word.
    return hardware.NPU if accelerator == "npu" else hardware.CPU


def reason_of(error: Exception) -> str:
    """Returns LiteRT's words on an accelerator, in one line."""
    remarks = REMARK.findall("\n".join(getattr(error, "__notes__", ())))
    text = " ".join((remarks[-1] if remarks else str(error)).split())
    return f"LiteRT cannot use it here ({text[:200].rstrip('.')})"


def _layout(details):
    """Dict of name to `(shape of a row, dtype)`."""
    return {
        name: (
            tuple(detail["shape"][1:].tolist()),
            np.dtype(detail["dtype"]),
        )
        for name, detail in details.items()
    }


def _named(dtype):
    return "string" if dtype.kind in "SO" else dtype.name

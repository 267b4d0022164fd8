"""An ONNX file as a teacher."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import CLIP
from keras_cascade.runtime.teachers.onnx_teacher import (
    ONNX,
    ONNX_FILE,
    OnnxTeacher,
)
from keras_cascade.teachers.teacher import SINGLE_INPUT, Teacher, files_sha256


class Onnx(Teacher):
    """ONNX file, run in onnxruntime.

    A saved cascade holds the path, not the file. A bundle holds a copy of the
    file, which `EdgeCascade.load(teacher="local")` and `keras-cascade serve`
    run in onnxruntime.

    Args:
        path: path of the `.onnx` file.
        output: str, the output to read. Defaults to `None`: the only one, or
            the one called `logits` or `probabilities`.
        outputs: of `Teacher`. Defaults to `"logits"`.
        clip: of `Teacher`. Defaults to `1e-7`.
        inputs: dict of the cascade's input names to the file's. Defaults to
            `None`: the same names, or the only input.

    Raises:
        TeacherError: onnxruntime is missing, the file cannot be opened, or
            has no such output.

    Example:

    ```python
    teacher = kc.teachers.Onnx("teacher.onnx", outputs="probabilities")
    cascade = kc.Cascade(teacher, student)
    ```
    """

    def __init__(
        self,
        path: str | os.PathLike,
        output: str | None = None,
        outputs: str = "logits",
        clip: float = CLIP,
        inputs: dict[str, str] | None = None,
    ) -> None:
        super().__init__(outputs, clip)
        self.path = os.fspath(path)
        self.inputs = inputs
        self._runner = OnnxTeacher(self.path, output, outputs, clip, inputs)
        self.output = self._runner.output

    def answers(self, inputs: Any) -> np.ndarray:
        return self.logits(inputs)

    def logits(self, inputs: Any) -> np.ndarray:
        named = inputs if isinstance(inputs, dict) else {SINGLE_INPUT: inputs}
        logits = self._runner.logits(named)
        self._check(logits)
        return logits

    def describe(self) -> str:
        return f"the ONNX file '{os.path.basename(self.path)}'"

    def identity(self) -> str:
        options = f"{self.output} {self.outputs} {self.clip}"
        return files_sha256({options: Path(self.path)})

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "path": self.path,
            "output": self.output,
            "inputs": self.inputs,
        }

    @classmethod
    def restored(cls, config: dict[str, Any]) -> Teacher:
        return cls(**config)

    def write(self, folder: Path, signature: Any) -> dict | None:
        folder.mkdir(parents=True)
        shutil.copyfile(self.path, folder / ONNX_FILE)
        options: dict[str, Any] = {
            "output": self.output,
            "outputs": self.outputs,
            "clip": self.clip,
        }
        if self.inputs is not None:
            options["inputs"] = self.inputs
        return {"format": ONNX, "signature": "", ONNX: options}

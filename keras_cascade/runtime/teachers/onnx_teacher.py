"""A teacher on this machine: an ONNX file in onnxruntime."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.answers import (
    CLIP,
    check_outputs,
    logits_of_answers,
)
from keras_cascade.utils.onnx_session import cpu_session

if TYPE_CHECKING:
    from keras_cascade.bundle import Bundle

#: Value of `format` in a manifest's entry of the teacher.
ONNX = "onnx"
ONNX_FILE = "model.onnx"
TYPES = {
    "tensor(bool)": "bool", "tensor(double)": "float64",
    "tensor(float)": "float32", "tensor(float16)": "float16",
    "tensor(int8)": "int8", "tensor(int16)": "int16",
    "tensor(int32)": "int32", "tensor(int64)": "int64",
    "tensor(uint8)": "uint8", "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32", "tensor(uint64)": "uint64",
}  # fmt: skip
TEXT = "tensor(string)"


class OnnxTeacher:
    """Runs an ONNX file in this process. Needs `onnxruntime`.

    Args:
        file: path of the file, or its content as bytes; weights in further
            files are then not read.
        output: str, the output to read. Defaults to `None`: the only one, or
            the one called `logits` or `probabilities`.
        outputs: str, `"logits"` or `"probabilities"`, of which the logarithm
            is taken. Defaults to `"logits"`.
        clip: float, the least probability. Defaults to `1e-7`.
        inputs: dict of the names in `logits` to those of the file. Defaults
            to `None`: the same names, or the only input.
        name: str, what errors call the file. Defaults to `None`: its path.

    Attributes:
        output: str.

    Raises:
        TeacherError: onnxruntime is missing, the file cannot be opened, or
            has no such output.
    """

    def __init__(
        self,
        file: str | os.PathLike | bytes,
        output: str | None = None,
        outputs: str = "logits",
        clip: float = CLIP,
        inputs: dict[str, str] | None = None,
        name: str | None = None,
    ):
        check_outputs(outputs, clip)
        self._name = name or (
            "model.onnx" if isinstance(file, bytes) else os.fspath(file)
        )
        self._outputs, self._clip, self._names = outputs, clip, inputs
        self._session = _session(file, self._name)
        self._inputs = {
            one.name: one.type for one in self._session.get_inputs()
        }
        self.output = self._checked_output(output)

    @classmethod
    def of(cls, bundle: Bundle) -> OnnxTeacher:
        """Opens a bundle's ONNX teacher, from bytes that have its hash.

        Raises:
            BundleError: the file is missing or was altered.
            TeacherError: onnxruntime is missing, or cannot open the file.
        """
        entry = bundle.manifest["teacher"]
        file = f"{entry['path']}/{ONNX_FILE}"
        options = {
            key: value
            for key, value in entry.get(ONNX, {}).items()
            if key in ("output", "outputs", "clip", "inputs")
        }
        return cls(bundle.read(file), name=file, **options)

    def check(self) -> None:
        """Does nothing: an open file is ready to answer."""

    def close(self) -> None:
        """Does nothing: there is no connection."""

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Computes the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: the file refuses the inputs.
        """
        feeds = {
            name: _typed(array, self._inputs[name])
            for name, array in self._named(inputs).items()
        }
        try:
            (answer,) = self._session.run([self.output], feeds)
        except Exception as error:  # onnxruntime's own have no common base
            text = " ".join(str(error).split())[:300]
            raise TeacherError(
                f"The ONNX file '{self._name}' refuses inputs of shapes "
                f"{ {k: v.shape for k, v in feeds.items()} }: {text}",
                refused=True,
                about_input=True,
            ) from error
        return logits_of_answers(answer, self._outputs, self._clip)

    def _named(self, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        if self._names is not None:
            inputs = {self._names[name]: one for name, one in inputs.items()}
        elif len(inputs) == len(self._inputs) == 1:
            inputs = dict(zip(self._inputs, inputs.values(), strict=True))
        if set(inputs) != set(self._inputs):
            raise TeacherError(
                f"Expected the inputs {sorted(self._inputs)} of the ONNX file "
                f"'{self._name}'. Received: {sorted(inputs)}. Name the "
                "cascade's inputs so, or pass `inputs={'mine': 'of the "
                "file'}`.",
                refused=True,
            )
        return {name: np.asarray(one) for name, one in inputs.items()}

    def _checked_output(self, output):
        names = [one.name for one in self._session.get_outputs()]
        tensors = [
            one.name
            for one in self._session.get_outputs()
            if str(one.type).startswith("tensor(")
        ]
        if output is None:
            by_name = [n for n in ("logits", "probabilities") if n in tensors]
            chosen = by_name if len(tensors) > 1 else tensors
            output = chosen[0] if chosen else None
        if output in tensors:
            return output
        others = [name for name in names if name not in tensors]
        advice = (
            f" {others} are no tensors: convert scikit-learn models with "
            "`options={'zipmap': False}`."
            if others
            else ""
        )
        raise TeacherError(
            f"Expected `output` out of {tensors}, the tensors that the ONNX "
            f"file '{self._name}' outputs. Received: {output!r}.{advice}"
        )


def _session(file, name):
    try:
        return cpu_session(file)
    except ImportError as error:
        raise TeacherError(
            "An ONNX teacher runs in onnxruntime, which is not installed. "
            "Install it with `pip install 'keras-cascade[onnx]'`, or pass the "
            "URL of a teacher that runs elsewhere."
        ) from error
    except Exception as error:  # onnxruntime's own have no common base
        text = " ".join(str(error).split())[:300]
        raise TeacherError(
            f"Expected an ONNX file that onnxruntime opens at '{name}'. "
            f"Received: {text}"
        ) from error


def _typed(array, kind):
    if kind == TEXT:
        return array.astype(object)
    return np.ascontiguousarray(array, TYPES.get(kind, array.dtype))

"""Executes ONNX files in onnxruntime."""

from keras_cascade.errors import ExportError
from keras_cascade.runtime.student_interpreter import DECISION
from keras_cascade.utils.answer_form import answer_name
from keras_cascade.utils.onnx_session import cpu_session


def open_session(file, name=None):
    """An `onnxruntime.InferenceSession` of a file, on the CPU.

    Args:
        file: path, or the file's content as bytes: weights in further files
            are then not read.
        name: str, what errors call the file. Defaults to `None`: its path.

    Raises:
        ExportError: onnxruntime is missing, or the file is not valid:
            tf2onnx can write such a one.
    """
    if not isinstance(file, bytes):
        name = str(file)
    try:
        return cpu_session(file)
    except ImportError as error:
        raise ExportError(
            "ONNX files are run in onnxruntime, which is not installed. "
            "Install it with `pip install 'keras-cascade[onnx]'`."
        ) from error
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ExportError(
            f"The ONNX file '{name}' cannot be opened: {text}"
        ) from error


class OnnxStudentInterpreter:
    """Runs a bundle's `student.onnx`, with `StudentInterpreter`'s interface.

    Args:
        file: path of an ONNX file with the outputs `probabilities` (or
            `values`), `score` and `delegate`, or its content as bytes.
        name: str, what errors call the file. Defaults to `None`: its path.
    """

    def __init__(self, file, name=None):
        self._session = open_session(file, name)
        names = [output.name for output in self._session.get_outputs()]
        self._names = [answer_name(names), *DECISION]

    def run(self, inputs):
        """Runs one batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`, bool.
        """
        answers = self._session.run(self._names, dict(inputs))
        answer = dict(zip(self._names, answers, strict=True))
        return {**answer, "delegate": answer["delegate"].astype(bool)}

    def close(self) -> None:
        """Releases the session."""
        self._session = None

"""Executes ONNX files in onnxruntime."""

from keras_cascade.errors import ExportError
from keras_cascade.runtime.student_interpreter import OUTPUTS


def open_session(file):
    """An `onnxruntime.InferenceSession` of a file, on the CPU.

    Raises:
        ExportError: onnxruntime is missing, or the file is not valid:
            tf2onnx can write such a one.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ExportError(
            "ONNX files are run in onnxruntime, which is not installed. "
            "Install it with `pip install 'keras-cascade[onnx]'`."
        ) from error
    try:
        return onnxruntime.InferenceSession(
            str(file), providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ExportError(
            f"The ONNX file '{file}' cannot be opened: {text}"
        ) from error


class OnnxStudentInterpreter:
    """Runs a bundle's `student.onnx`, with `StudentInterpreter`'s interface.

    Args:
        file: path of an ONNX file with the outputs `probabilities`, `score`
            and `delegate`.
    """

    def __init__(self, file):
        self._session = open_session(file)

    def run(self, inputs):
        """Runs one batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Dict of `probabilities` `(rows, classes)`, `score` `(rows,)` and
            `delegate` `(rows,)`.
        """
        answers = self._session.run(list(OUTPUTS), dict(inputs))
        return dict(zip(OUTPUTS, answers, strict=True))

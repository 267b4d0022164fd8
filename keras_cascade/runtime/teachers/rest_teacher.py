"""A teacher behind TensorFlow Serving's REST interface."""

import json

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import HttpTeacher


class RestTeacher(HttpTeacher):
    """Asks a teacher over HTTP: `POST URL:predict` with `instances`.

    Works against TensorFlow Serving, KServe and `keras-cascade serve`.
    Arguments as in `RemoteTeacher`; the URL is such as
    `"http://127.0.0.1:8501/v1/models/teacher"`.
    """

    def check(self) -> None:
        """Raises a `TeacherError` unless the model answers at its URL."""
        self._json(self._client.request("GET", self.url)[1])

    def _encoded(self, inputs):
        columns = {name: array.tolist() for name, array in inputs.items()}
        if len(columns) == 1:
            instances = next(iter(columns.values()))
        else:
            instances = [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ]
        body = json.dumps({"instances": instances}, separators=(",", ":"))
        return body.encode("ascii"), len(body)

    def _answered(self, request, rows):
        _, content = self._post(
            f"{self.url}:predict",
            request,
            {"Content-Type": "application/json"},
            rows,
        )
        answer = self._json(content)
        try:
            predictions = answer["predictions"]
            if isinstance(predictions[0], dict):
                predictions = [row[self._output] for row in predictions]
        except (IndexError, KeyError, TypeError) as error:
            raise TeacherError(
                f"The teacher's answer has no '{self._output}' in every row "
                "of 'predictions'.",
                invalid_answer=True,
            ) from error
        return predictions

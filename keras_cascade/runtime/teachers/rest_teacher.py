"""A teacher behind TensorFlow Serving's REST interface."""

import json

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import (
    REQUEST_ID,
    HttpRequest,
    HttpTeacher,
    Received,
)
from keras_cascade.runtime.teachers.remote_teacher import IDENTITY_HEADER


class RestTeacher(HttpTeacher):
    """Asks a teacher over HTTP: `POST URL:predict` with `instances`.

    Works against TensorFlow Serving, KServe and `keras-cascade serve`.
    Arguments as in `RemoteTeacher`; the URL is such as
    `"http://127.0.0.1:8501/v1/models/teacher"`.
    """

    def _infer_url(self):
        return f"{self.url}:predict"

    def _check_ready(self, answer):
        self._json(answer.content)

    def _encoded(self, inputs):
        columns = {name: array.tolist() for name, array in inputs.items()}
        if len(columns) == 1:
            instances = next(iter(columns.values()))
        else:
            instances = [
                dict(zip(columns, row, strict=True))
                for row in zip(*columns.values(), strict=True)
            ]
        text = json.dumps({"instances": instances}, separators=(",", ":"))
        request = HttpRequest(
            {"Content-Type": "application/json"}, text.encode("ascii")
        )
        return request, len(request.body)

    def _received(self, answer, request_id):
        content = self._json(answer.content)
        try:
            predictions = content["predictions"]
            if isinstance(predictions, dict) and self._top_k is not None:
                pass  # the k largest logits, in columns
            elif isinstance(predictions[0], dict):
                predictions = [row[self._output] for row in predictions]
        except (IndexError, KeyError, TypeError) as error:
            raise TeacherError(
                f"The teacher's answer has no '{self._output}' in every row "
                "of 'predictions'.",
                invalid_answer=True,
            ) from error
        # The protocol has no ids. Another one in this header says nothing:
        # proxies put their own there.
        own = answer.headers.get(REQUEST_ID) == request_id
        return Received(
            predictions,
            request_id if own else None,
            answer.headers.get(IDENTITY_HEADER),
        )

"""A teacher whose protocol is found out by asking."""

import threading

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import HttpTeacher
from keras_cascade.runtime.teachers.rest_teacher import RestTeacher
from keras_cascade.runtime.teachers.v2_http_teacher import V2HttpTeacher

NAME = "teacher"


class DetectedTeacher(HttpTeacher):
    """Asks a server which protocol it speaks, when it is first needed.

    Open Inference Protocol v2 (`GET /v2/health/ready`) before TensorFlow
    Serving's REST form (`GET /v1/models/teacher`). Until the server answers,
    every call asks again.

    Args:
        url: str, such as `"http://127.0.0.1:8501"`. The model's name there is
            `teacher`.

    Further arguments as in `RemoteTeacher`.
    """

    def __init__(self, url, classes, *args, **kwargs):
        super().__init__(url, classes, *args, **kwargs)
        self._arguments = (classes, *args), kwargs
        self._found = None
        self._lock = threading.Lock()

    def check(self):
        """Raises a `TeacherError` unless the model is ready to answer."""
        self._teacher().check()

    def logits(self, inputs):
        """As `RemoteTeacher.logits`."""
        return self._teacher().logits(inputs)

    def close(self):
        """Closes the connections."""
        super().close()
        if self._found is not None:
            self._found.close()

    def _encoded(self, inputs):
        return self._teacher()._encoded(inputs)

    def _answered(self, request, rows):
        return self._teacher()._answered(request, rows)

    def _teacher(self):
        if self._found is None:
            made = self._detected()
            with self._lock:
                if self._found is None:
                    made.seen_rows = self.seen_rows
                    self._found, made = made, None
            if made is not None:  # another thread was quicker
                made.close()
        return self._found

    def _detected(self):
        args, kwargs = self._arguments
        refusals = []
        for asked, kind, path in (
            ("/v2/health/ready", V2HttpTeacher, f"/v2/models/{NAME}"),
            (f"/v1/models/{NAME}", RestTeacher, f"/v1/models/{NAME}"),
        ):
            try:
                self._client.request("GET", self.url + asked)
            except TeacherError as error:
                if not error.refused:
                    raise
                refusals.append(str(error))
            else:
                return kind(self.url + path, *args, **kwargs)
        raise TeacherError(
            f"The server at {self.url} speaks neither Open Inference Protocol "
            "v2 nor TensorFlow Serving's REST form. Pass the model's whole "
            f"URL. {' '.join(refusals)}",
            refused=True,
        )

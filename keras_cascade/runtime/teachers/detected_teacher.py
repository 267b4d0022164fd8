"""A teacher whose protocol is detected from its server's answers."""

from __future__ import annotations

import threading

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import HttpTeacher
from keras_cascade.runtime.teachers.rest_teacher import RestTeacher
from keras_cascade.runtime.teachers.v2_http_teacher import V2HttpTeacher

NAME = "teacher"


class DetectedTeacher(HttpTeacher):
    """Detects a server's protocol when it is first needed.

    Open Inference Protocol v2 (`GET /v2/health/ready`) before TensorFlow
    Serving's REST form (`GET /v1/models/teacher`). Until the server answers,
    every call asks again.

    Args:
        url: str, such as `"http://127.0.0.1:8501"`. The model's name there is
            `teacher`.

    Further arguments as in `RemoteTeacher`.
    """

    def check(self) -> None:
        """Raises a `TeacherError` unless the model is ready to answer.

        With a `TeacherIdentity` the model must be the bundle's teacher.
        """
        self._teacher().check()

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Asks for the logits of a batch, as `RemoteTeacher.logits`."""
        return self._teacher().logits(inputs)

    def close(self) -> None:
        """Closes the connections."""
        super().close()
        if self._detected is not None:
            self._detected.close()

    def _prepare(self):
        super()._prepare()
        self._detected = None
        self._lock = threading.Lock()

    def _infer_url(self):
        return self._teacher()._infer_url()

    def _encoded(self, inputs):
        return self._teacher()._encoded(inputs)

    def _received(self, answer, request_id):
        return self._teacher()._received(answer, request_id)

    def _teacher(self):
        if self._detected is None:
            # Without the lock: a slow server must not block other threads
            # longer than their own timeout.
            teacher = self._detect()
            with self._lock:
                if self._detected is None:
                    teacher.row_counter = self.row_counter
                    self._detected, teacher = teacher, None
            if teacher is not None:  # another thread was quicker
                teacher.close()
        return self._detected

    def _detect(self):
        messages = []
        for probe, kind, path in (
            ("/v2/health/ready", V2HttpTeacher, f"/v2/models/{NAME}"),
            (f"/v1/models/{NAME}", RestTeacher, f"/v1/models/{NAME}"),
        ):
            try:
                self._client.request("GET", self.url + probe)
            except TeacherError as error:
                if not error.refused:
                    raise
                messages.append(str(error))
            else:
                return kind(
                    self.url + path,
                    self._sizes,
                    self._output,
                    self.timeout,
                    self._max_rows,
                    token=self._token,
                    ca_file=self._ca_file,
                    max_request_bytes=self._max_request_bytes,
                    max_response_bytes=self._max_response_bytes,
                    client_cert=self._client_cert,
                    client_key=self._client_key,
                    identity=self._identity,
                    top_k=self._top_k,
                )
        raise TeacherError(
            f"The server at {self.url} speaks neither Open Inference Protocol "
            "v2 nor TensorFlow Serving's REST form. Pass the model's whole "
            f"URL. {' '.join(messages)}",
            refused=True,
        )

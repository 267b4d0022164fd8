"""A teacher behind Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import json
import math
import os
import uuid

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import HttpTeacher
from keras_cascade.runtime.teachers.remote_teacher import (
    MAX_BYTES,
    MAX_ROWS,
    TIMEOUT,
)
from keras_cascade.runtime.teachers.v2_tensors import (
    datatype_of,
    from_bytes,
    to_bytes,
)

LENGTH = "Inference-Header-Content-Length"
EXTENSION = "binary_tensor_data"


class V2HttpTeacher(HttpTeacher):
    """Asks a teacher over HTTP: `POST URL/infer`.

    Works against Triton, KServe and `keras-cascade serve`.

    Args:
        url: str, such as `"http://127.0.0.1:8501/v2/models/teacher"`.
        classes: int, how many logits a row must have.
        binary: bool or `None`. Sends and asks for tensors as bytes behind a
            JSON header, or as JSON numbers; `None` asks the server once
            whether it offers the former. Defaults to `None`.

    Further arguments as in `RemoteTeacher`.
    """

    def __init__(
        self,
        url: str,
        classes: int,
        output: str = "logits",
        timeout: float = TIMEOUT,
        max_rows: int = MAX_ROWS,
        *,
        binary: bool | None = None,
        token: str | None = None,
        ca_file: str | os.PathLike | None = None,
        max_request_bytes: int = MAX_BYTES,
        max_response_bytes: int = MAX_BYTES,
    ):
        super().__init__(
            url,
            classes,
            output,
            timeout,
            max_rows,
            token=token,
            ca_file=ca_file,
            max_request_bytes=max_request_bytes,
            max_response_bytes=max_response_bytes,
        )
        self._binary = binary

    def check(self) -> None:
        """Raises a `TeacherError` unless the model says that it is ready."""
        self._client.request("GET", f"{self.url}/ready")

    def _encoded(self, inputs):
        if self._binary is None:
            self._binary = self._offers_binary()
        tensors, raw = [], []
        for name, array in inputs.items():
            tensor = {
                "name": name,
                "shape": list(array.shape),
                "datatype": datatype_of(array),
            }
            if self._binary:
                raw.append(to_bytes(array))
                tensor["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                tensor["data"] = array.ravel().tolist()
            tensors.append(tensor)
        header = json.dumps(
            {
                "id": uuid.uuid4().hex,
                "inputs": tensors,
                "outputs": [
                    {
                        "name": self._output,
                        "parameters": {"binary_data": self._binary},
                    }
                ],
            },
            separators=(",", ":"),
        ).encode("ascii")
        body = b"".join([header, *raw])
        headers = {"Content-Type": "application/json"}
        if self._binary:
            headers = {
                "Content-Type": "application/octet-stream",
                LENGTH: str(len(header)),
            }
        return (headers, body), len(body)

    def _answered(self, request, rows):
        headers, body = request
        answer_headers, content = self._post(
            f"{self.url}/infer", body, headers, rows
        )
        try:
            return self._tensor(answer_headers.get(LENGTH.lower()), content)
        except (
            AttributeError, IndexError, KeyError, OverflowError, TypeError,
            ValueError,
        ) as error:  # fmt: skip
            raise TeacherError(
                f"The teacher's answer has no usable output '{self._output}' "
                f"({type(error).__name__}: {str(error)[:200]}).",
                invalid_answer=True,
            ) from error

    def _tensor(self, header_length, content):
        """Reads the output's array from the JSON or the bytes behind it."""
        end = len(content) if header_length is None else int(header_length)
        if not 0 <= end <= len(content):
            raise ValueError(f"a header of {end} of {len(content)} bytes")
        start = end
        for output in self._json(content[:end])["outputs"]:
            size = (output.get("parameters") or {}).get("binary_data_size")
            raw = content[start : start + (size or 0)]
            start += len(raw)
            if output["name"] != self._output:
                continue
            shape = output["shape"]
            if size is None:
                return _from_json(output["data"], shape)
            if len(raw) != size:
                raise ValueError(f"{len(raw)} bytes of {size}")
            return from_bytes(raw, output["datatype"], shape)
        raise KeyError(self._output)

    def _offers_binary(self):
        server = self.url.partition("/v2/")[0] + "/v2"
        answer = self._json(self._client.request("GET", server)[1])
        try:
            return EXTENSION in answer["extensions"]
        except (KeyError, TypeError) as error:
            raise TeacherError(
                f"The server at {server} does not say which 'extensions' of "
                "Open Inference Protocol v2 it has. Pass `binary=False`."
            ) from error


def _from_json(data, shape):
    """Reads JSON numbers, flat or nested, into their shape."""
    values = np.asarray(data)
    if values.size != math.prod(shape):
        raise ValueError(f"{values.size} values for the shape {shape}")
    return values.reshape(shape)

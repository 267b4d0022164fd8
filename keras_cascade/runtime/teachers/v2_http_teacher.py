"""A teacher behind Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import json
import math
import os
import uuid
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.http_teacher import (
    HttpRequest,
    HttpTeacher,
    Received,
)
from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    IDENTITY_PARAMETER,
    MAX_BYTES,
    MAX_ROWS,
    TIMEOUT,
    TOP_K_OUTPUTS,
    numbers_of,
)
from keras_cascade.runtime.teachers.v2_tensors import (
    datatype_of,
    from_bytes,
    to_bytes,
)

if TYPE_CHECKING:
    from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity

LENGTH = "Inference-Header-Content-Length"
EXTENSION = "binary_tensor_data"


class V2HttpTeacher(HttpTeacher):
    """Asks a teacher over HTTP: `POST URL/infer`.

    Works against Triton, KServe and `keras-cascade serve`.

    Args:
        url: str, such as `"http://127.0.0.1:8501/v2/models/teacher"`.
        classes: of `RemoteTeacher`.
        binary: bool or `None`. Sends and asks for tensors as bytes behind a
            JSON header, or as JSON numbers; `None` asks the server once
            whether it offers the former. Defaults to `None`.

    Further arguments as in `RemoteTeacher`.
    """

    def __init__(
        self,
        url: str,
        classes: int | tuple[int | None, ...],
        output: str = "logits",
        timeout: float = TIMEOUT,
        max_rows: int = MAX_ROWS,
        *,
        binary: bool | None = None,
        token: str | None = None,
        ca_file: str | os.PathLike | None = None,
        max_request_bytes: int = MAX_BYTES,
        max_response_bytes: int | None = None,
        client_cert: str | os.PathLike | None = None,
        client_key: str | os.PathLike | None = None,
        identity: TeacherIdentity | None = None,
        top_k: int | None = None,
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
            client_cert=client_cert,
            client_key=client_key,
            identity=identity,
            top_k=top_k,
        )
        self._binary = binary

    @property
    def _ready_url(self):
        return f"{self.url}/ready"

    def _infer_url(self):
        return f"{self.url}/infer"

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
        request_id = uuid.uuid4().hex
        header = json.dumps(
            {
                "id": request_id,
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
        return HttpRequest(headers, body, request_id), len(body)

    def _received(self, answer, request_id):
        try:
            return self._read(answer)
        except (
            AttributeError, IndexError, KeyError, OverflowError, TypeError,
            ValueError,
        ) as error:  # fmt: skip
            raise TeacherError(
                f"The teacher's answer has no usable output '{self._output}' "
                f"({type(error).__name__}: {str(error)[:200]}).",
                invalid_answer=True,
            ) from error

    def _read(self, answer):
        """Reads the output's array from the JSON or the bytes behind it."""
        length, content = answer.headers.get(LENGTH.lower()), answer.content
        end = len(content) if length is None else int(length)
        if not 0 <= end <= len(content):
            raise ValueError(f"a header of {end} of {len(content)} bytes")
        header = self._json(content[:end])
        stated = header.get("parameters") or {}
        return Received(
            self._tensors(header["outputs"], content, end),
            _text(header.get("id")),
            # The header is the same as the parameter; a proxy may drop it.
            answer.headers.get(IDENTITY_HEADER)
            or _text(stated.get(IDENTITY_PARAMETER)),
            _text(header.get("model_version")),
        )

    def _tensors(self, outputs, content, start):
        """Returns the output's array; of the k largest logits a dict."""
        names = [output["name"] for output in outputs]
        compact = self._top_k is not None and names == list(TOP_K_OUTPUTS)
        arrays = {}
        for output in outputs:
            size = (output.get("parameters") or {}).get("binary_data_size")
            raw = content[start : start + (size or 0)]
            start += len(raw)
            if not compact and output["name"] != self._output:
                continue
            shape = output["shape"]
            if size is None:
                array = _from_json(output["data"], shape)
            elif len(raw) != size:
                raise ValueError(f"{len(raw)} bytes of {size}")
            else:
                array = from_bytes(raw, output["datatype"], shape)
            if not compact:
                return array
            arrays[output["name"]] = array
        if not compact:
            raise KeyError(self._output)
        return arrays

    def _offers_binary(self):
        server = self.url.partition("/v2/")[0] + "/v2"
        with self._client.deadline(server), self._client.connection() as one:
            one.keep = False  # a server without ids gets a new one for rows
            answer = self._client.send(one, "GET", server)
        self._client.require_ok(server, answer)
        content = self._json(answer.content)
        try:
            return EXTENSION in content["extensions"]
        except (KeyError, TypeError) as error:
            raise TeacherError(
                f"The server at {server} does not say which 'extensions' of "
                "Open Inference Protocol v2 it has. Pass `binary=False`."
            ) from error


def _from_json(data, shape):
    """Reads JSON numbers, flat or nested, into their shape."""
    if not isinstance(data, np.ndarray):
        data = np.asarray(numbers_of(data, len(shape)))
    if data.size != math.prod(shape):
        raise ValueError(f"{data.size} values for the shape {shape}")
    return data.reshape(shape)


def _text(value):
    """Returns a text of a JSON answer; an empty one says nothing."""
    return value if isinstance(value, str) and value else None

"""`teacher_at`: the protocol by the URL, or detected."""

import json

import numpy as np
import pytest

from keras_cascade.runtime import (
    EdgeCascade,
    RestTeacher,
    TeacherError,
    V2HttpTeacher,
    teacher_at,
)
from keras_cascade.runtime.teachers.detected_teacher import DetectedTeacher
from keras_cascade.runtime.teachers.grpc_teacher import GrpcTeacher
from tests.helpers.socket_servers import http_server


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://h:1/v1/models/teacher", RestTeacher),
        ("https://h/proxy/v1/models/teacher/versions/3", RestTeacher),
        ("http://h:1/v2/models/teacher", V2HttpTeacher),
        ("grpc://h:1/teacher", GrpcTeacher),
        ("grpcs://[::1]:1/teacher", GrpcTeacher),
        ("http://h:1", DetectedTeacher),
        ("https://h/", DetectedTeacher),
    ],
)
def test_the_url_names_the_protocol(url, kind):
    teacher = teacher_at(url, 4, timeout=3.0)
    assert type(teacher) is kind
    teacher.close()


@pytest.mark.parametrize(
    "url",
    [
        "", "teacher", "ftp://h/v1/models/t", "http://h/other", "http://",
        "http://h/v1/models/", "grpc://h/teacher", "grpc://h:1",
        "grpc://h:1/a/b", "grpc://h:x/a",
    ],
)  # fmt: skip
def test_urls_without_a_protocol(url):
    with pytest.raises(ValueError, match=r"Expected a.* URL such as"):
        teacher_at(url, 4)


def test_options_need_a_url(bundle_path):
    with pytest.raises(ValueError, match=r"URL to go with \['token'\]"):
        EdgeCascade.load(bundle_path, token="secret")


def speaking(*paths):
    """A server of some paths that adds up instances or tensors."""

    def answer(method, path, headers, body):
        if not path.startswith(paths):
            return 404, b"unknown path"
        if method == "GET":
            return 200, {"extensions": []}
        got = json.loads(body)
        if "instances" in got:
            rows = got["instances"]
            return 200, {"predictions": [[sum(r), 0.0] for r in rows]}
        shape = got["inputs"][0]["shape"]
        sums = np.reshape(got["inputs"][0]["data"], shape).sum(axis=1)
        data = np.stack([sums, 0 * sums], axis=1).ravel().tolist()
        tensor = {"name": "logits", "shape": [shape[0], 2], "datatype": "FP32"}
        return 200, {"outputs": [{**tensor, "data": data}]}

    return http_server(answer)


@pytest.mark.parametrize(
    ("paths", "path"),
    [
        (("/v1", "/v2"), "/v2/models/teacher/infer"),
        (("/v2",), "/v2/models/teacher/infer"),
        (("/v1",), "/v1/models/teacher:predict"),
    ],
)
def test_the_protocol_is_detected_once(paths, path):
    x = {"input": np.ones((2, 3), "float32")}
    with speaking(*paths) as server:
        teacher = teacher_at(server.url, 2)
        for _ in range(2):
            np.testing.assert_array_equal(teacher.logits(x), [[3, 0], [3, 0]])
        asked = [path for path, _ in server.requests]
        assert asked[-2:] == [path, path]
        assert asked.count("/v2/health/ready") == 1
        teacher.check()
        teacher.close()


def test_a_server_that_speaks_neither():
    with speaking("/nothing") as server:
        teacher = teacher_at(server.url, 2)
        with pytest.raises(TeacherError, match="speaks neither") as caught:
            teacher.check()
        assert caught.value.refused
        teacher.close()


def test_a_server_that_is_not_there_yet_is_asked_again():
    ready = []

    def answer(method, path, headers, body):
        return (200, {}) if ready else (503, b"starting")

    with http_server(answer) as server:
        teacher = teacher_at(server.url, 2)
        with pytest.raises(TeacherError, match="503") as caught:
            teacher.check()
        assert caught.value.retryable
        ready.append(True)
        teacher.check()
        teacher.close()


@pytest.mark.parametrize("where", ["127.0.0.1:8501", "loacl"])
def test_neither_a_url_nor_a_folder(bundle_path, where):
    with pytest.raises(TeacherError, match=rf"'http://'.*Received: '{where}'"):
        EdgeCascade.load(bundle_path, teacher=where)

"""Answers that are not the request's own: surplus, late, reordered."""

import threading

import numpy as np
import pytest

from benchmarks.faults import answers
from keras_cascade.runtime import RestTeacher, TeacherError, V2HttpTeacher
from keras_cascade.runtime.teachers.http_teacher import HttpClient
from tests.helpers.socket_servers import http_server, raw_server, request_of


def rows(number, count=1):
    return {"input": np.full((count, 2), number, "float32")}


@pytest.mark.parametrize("kind", answers.KINDS)
def test_no_row_gets_the_logits_of_another(kind):
    found = answers.measure_kind(kind, 60)
    assert found["answers"] >= 60
    assert found["mislabelled_answers"] == 0
    assert sum(found["faults"].values())


@pytest.mark.parametrize("fault", ["surplus", "reordered"])
@pytest.mark.parametrize("kind", ["v1", "v1_with_ids", "v2", "v2_without_ids"])
def test_one_thread_and_every_answer_with_a_fault(kind, fault):
    ids = kind in ("v1_with_ids", "v2")
    server = answers.FaultyAnswers(ids, (fault,), share=1.0)
    with server:
        url = f"http://127.0.0.1:{server.port}/{kind[:2]}/models/teacher"
        teacher = (
            RestTeacher(url, 3)
            if kind.startswith("v1")
            else V2HttpTeacher(url, 3, binary=False)
        )
        for number in range(1, 10):
            try:
                found = teacher.logits(rows(number))
            except TeacherError as error:
                assert error.retryable
                continue
            np.testing.assert_array_equal(
                found, answers.logits_of(rows(number)["input"])
            )
        teacher.close()


def test_a_connection_with_bytes_left_over_is_dropped():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    connections = []

    def talk(connection):
        connections.append(connection)
        while True:
            request_of(connection)
            connection.sendall(raw + b"ok" + raw + b"no")

    with raw_server(talk) as url:
        client = HttpClient(url, 30.0, 1000, None, None)
        for _ in range(3):
            assert client.request("POST", url, b"x")[1] == b"ok"
        client.close()
    assert len(connections) == 3


def test_an_idle_connection_that_has_something_to_read_is_dropped():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    connections, answered, sent = [], threading.Event(), threading.Event()

    def talk(connection):
        connections.append(connection)
        while True:
            request_of(connection)
            connection.sendall(raw + b"ok")
            answered.wait()
            connection.sendall(raw + b"no")
            sent.set()

    with raw_server(talk) as url:
        client = HttpClient(url, 30.0, 1000, None, None)
        assert client.request("POST", url, b"x")[1] == b"ok"
        answered.set()
        sent.wait()
        assert client.request("POST", url, b"x")[1] == b"ok"
        client.close()
    assert len(connections) == 2


@pytest.mark.parametrize("ids", [True, False])
def test_a_connection_is_kept_where_answers_state_their_request(ids):
    def answer(method, path, headers, body):
        stated = {"x-request-id": headers["x-request-id"]} if ids else {}
        return 200, {"predictions": [[1.0, 2.0]]}, stated

    with http_server(answer) as server:
        teacher = RestTeacher(f"{server.url}/v1/models/teacher", 2)
        for _ in range(4):
            teacher.logits(rows(1))
        teacher.close()
        assert server.connections == (1 if ids else 4)
        assert len(server.requests) == 4  # none was sent twice


def test_an_answer_with_another_id_on_a_new_connection():
    def answer(method, path, headers, body):
        output = {"name": "logits", "shape": [1, 2], "datatype": "FP32"}
        return 200, {"id": "other", "outputs": [{**output, "data": [1, 2]}]}

    with http_server(answer) as server:
        teacher = V2HttpTeacher(
            f"{server.url}/v2/models/teacher", 2, binary=False
        )
        with pytest.raises(TeacherError, match="another request") as caught:
            teacher.logits(rows(1))
        teacher.close()
    assert caught.value.retryable
    assert not caught.value.invalid_answer  # the row is not at fault


def test_every_request_carries_its_deadline():
    seen = []

    def answer(method, path, headers, body):
        seen.append(float(headers["x-request-timeout"]))
        return 200, {"predictions": [[1.0, 2.0]]}

    with http_server(answer) as server:
        teacher = RestTeacher(f"{server.url}/v1/models/teacher", 2, timeout=30)
        teacher.check()
        teacher.logits(rows(1))
        teacher.close()
    assert len(seen) == 2
    assert all(0 < one <= 30 for one in seen)

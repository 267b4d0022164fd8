"""Rows of a device, reported to a server once."""

import asyncio
import threading

import numpy as np
import pytest

from keras_cascade.runtime import EdgeCascade, RestTeacher, TeacherError
from keras_cascade.runtime.async_edge_cascade import AsyncEdgeCascade
from keras_cascade.runtime.teachers.remote_teacher import MAX_COUNT, RowCounter
from keras_cascade.runtime.tokenized import TokenizedTeacher
from tests.helpers.socket_servers import http_server


def test_every_row_is_reported_once():
    counter, reported = RowCounter(), []

    def work():
        for _ in range(200):
            counter.add(2)
            with counter.reported(3) as count:
                reported.append(count)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    # 4 threads, 200 times, 2 rows kept and 3 sent.
    assert sum(reported) == 4 * 200 * 5
    assert min(reported) >= 3


def test_unanswered_rows_are_reported_later():
    counter = RowCounter()
    counter.add(5)
    with pytest.raises(RuntimeError), counter.reported(2) as count:
        assert count == 7
        raise RuntimeError
    with counter.reported(1) as count:
        assert count == 6


def test_a_count_that_is_too_long_is_reported_in_parts():
    counter = RowCounter()
    counter.add(2 * MAX_COUNT)
    for expected in (MAX_COUNT, MAX_COUNT, 3 * 10):
        with counter.reported(10) as count:
            assert count == expected


@pytest.fixture
def server():
    """A server that answers zeros and records the reported counts."""
    reported = []

    def answer(method, path, headers, body):
        reported.append(headers.get("x-cascade-rows"))
        rows = body.count(b"[") - 1
        content = {"predictions": [[0.0] * 4] * rows}
        return running.status, content

    with http_server(answer) as running:
        running.reported, running.status = reported, 200
        running.url += "/v1/models/teacher"
        yield running


@pytest.fixture
def halves(blobs, students_answer):
    """9 rows that the student keeps, and 4 that it does not."""
    x, _ = blobs(200)
    delegated = students_answer(x)["delegate"]
    return x[~delegated][:9], x[delegated][:4]


def test_requests_report_kept_rows(server, bundle_path, halves):
    kept, sent = halves
    with EdgeCascade.load(
        bundle_path,
        teacher=server.url,
        retries=0,
        max_rows=3,
        teacher_identity="off",
    ) as edge:
        edge.predict(kept[:5])
        edge.predict_alone(kept)  # the gate is not asked: does not count
        edge.predict(np.concatenate([kept[5:], sent]))
        # 9 kept rows and the first 3, then the last.
        assert server.reported == ["12", "1"]
        server.status = 503
        edge.predict(sent[:2])
        server.status = 200
        edge.predict(sent[:1])
    # The two that nobody answered are reported all the same.
    assert server.reported == ["12", "1", "2", "3"]


def test_queued_rows_are_reported_when_they_are_sent(
    server, bundle_path, halves, tmp_path
):
    kept, sent = halves
    server.status = 503
    with EdgeCascade.load(
        bundle_path, teacher=server.url, retries=0, on_failure="queue",
        teacher_identity="off",
        queue=tmp_path / "queue",
    ) as edge:  # fmt: skip
        edge.predict(np.concatenate([kept, sent]))
        server.status = 200
        edge.send_queued()
    assert server.reported == ["13", "13"]


def test_a_call_that_raises_is_reported_too(server, bundle_path, halves):
    _, sent = halves
    server.status = 503
    with EdgeCascade.load(
        bundle_path,
        teacher=server.url,
        retries=0,
        on_failure="raise",
        teacher_identity="off",
    ) as edge:
        with pytest.raises(TeacherError):
            edge.predict(sent)
        server.status = 200
        edge.predict(sent)
    assert server.reported == ["4", "8"]


def test_the_same_for_an_event_loop(server, bundle_path, halves):
    kept, sent = halves

    async def run():
        async with AsyncEdgeCascade.load(
            bundle_path, teacher=server.url, teacher_identity="off"
        ) as edge:
            await edge.predict(kept)
            await edge.predict(sent)

    asyncio.run(run())
    assert server.reported == ["13"]


def test_the_teacher_behind_a_tokenizer_reports_too(
    server, bundle_path, halves
):
    """The rows are numbers here: the wrapper does not look at them."""
    _, sent = halves
    teacher = TokenizedTeacher(RestTeacher(server.url, 4), lambda x: (x, None))
    with EdgeCascade.load(bundle_path, teacher) as edge:
        edge.predict(sent)
    assert server.reported == ["4"]
    assert not hasattr(TokenizedTeacher(object(), None), "row_counter")


def test_a_teacher_without_an_edge_reports_nothing(server):
    teacher = RestTeacher(server.url, 4)
    teacher.logits({"input": np.zeros((2, 6), "float32")})
    teacher.close()
    assert server.reported == [None]

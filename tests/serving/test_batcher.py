"""Batcher: rows of several requests in one run."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.serving.batcher import Batcher
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits


class Held:
    """A teacher that records its runs and may be blocked.

    It squares its numbers. A 13 anywhere in a run makes the run fail.
    """

    def __init__(self, held=False):
        self.runs = []
        self.go = threading.Event()
        self.began = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, inputs):
        self.began.set()
        if not self.go.wait(30):
            raise RuntimeError("never let go")
        x = inputs["x"]
        self.runs.append(x.shape)
        if (x == 13).any():
            raise ArithmeticError("thirteen")
        return x.reshape(len(x), -1) ** 2


def batcher(teacher, **limits):
    return Batcher(teacher, Limits(**limits), ServerMetrics())


def rows(*numbers):
    return {"x": np.array(numbers, "float32")[:, None]}


async def queued(batcher, teacher, *requests):
    """Starts one request, then queues the rest while it is running.

    Returns the tasks; the teacher runs the first.
    """
    first = asyncio.create_task(batcher(rows(1)))
    await asyncio.to_thread(teacher.began.wait, 30)
    tasks = [asyncio.create_task(batcher(one)) for one in requests]
    await asyncio.sleep(0)  # each runs until it waits
    return first, *tasks


def test_waiting_requests_share_the_next_run():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher)
        tasks = await queued(batch, teacher, rows(2), rows(3, 4), rows(5))
        teacher.go.set()
        return teacher, await asyncio.gather(*tasks)

    teacher, answers = asyncio.run(run())
    assert teacher.runs == [(1, 1), (4, 1)]
    assert [a.ravel().tolist() for a in answers] == [[1], [4], [9, 16], [25]]


def test_no_run_has_more_than_max_batch_rows():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher, max_batch=3)
        tasks = await queued(
            batch, teacher, rows(2, 3), rows(4, 5), rows(6), rows(7)
        )
        teacher.go.set()
        return teacher, await asyncio.gather(*tasks)

    teacher, answers = asyncio.run(run())
    # The oldest, and what still fits beside it: {2, 3} and {6}, {4, 5}
    # and {7}.
    assert teacher.runs == [(1, 1), (3, 1), (3, 1)]
    assert [a.ravel().tolist() for a in answers] == [
        [1], [4, 9], [16, 25], [36], [49],
    ]  # fmt: skip


def test_other_shapes_never_share_a_run():
    wide = {"x": np.ones((1, 2), "float32")}

    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher)
        tasks = await queued(batch, teacher, rows(2), wide, rows(3))
        teacher.go.set()
        return teacher, await asyncio.gather(*tasks)

    teacher, answers = asyncio.run(run())
    assert teacher.runs == [(1, 1), (2, 1), (1, 2)]
    assert answers[3].tolist() == [[9.0]]


def test_a_request_that_fails_fails_alone():
    async def run():
        teacher = Held(held=True)
        tasks = await queued(
            batcher(teacher), teacher, rows(2), rows(13), rows(3)
        )
        teacher.go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    _, two, thirteen, three = asyncio.run(run())
    assert (two.item(), three.item()) == (4, 9)
    assert isinstance(thirteen, ArithmeticError)


def test_a_full_queue_rejects_at_once():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher, max_batch=2, max_queued_rows=3)
        tasks = await queued(batch, teacher, rows(2, 3), rows(4))
        with pytest.raises(RequestError) as raised:
            await batch(rows(5))
        teacher.go.set()
        await asyncio.gather(*tasks)
        return raised.value, await batch(rows(5))  # there is room again

    error, after = asyncio.run(run())
    assert error.status == 429
    assert error.headers == {"retry-after": "1"}
    assert after.item() == 25


def test_a_cancelled_request_leaves_the_queue():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher, max_batch=2, max_queued_rows=2)
        first, gone = await queued(batch, teacher, rows(2, 3))
        gone.cancel()
        await asyncio.wait([gone])
        stays = asyncio.create_task(batch(rows(4, 5)))
        await asyncio.sleep(0)
        teacher.go.set()
        await asyncio.gather(first, stays)
        return teacher

    assert asyncio.run(run()).runs == [(1, 1), (2, 1)]


def test_a_request_cancelled_in_its_run_affects_no_other():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher)
        gone, stays = await queued(batch, teacher, rows(2))
        gone.cancel()
        await asyncio.wait([gone])
        teacher.go.set()
        return await stays

    assert asyncio.run(run()).item() == 4


def test_closing_answers_waiting_requests():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher)
        tasks = await queued(batch, teacher, rows(2), rows(3))
        closing = asyncio.create_task(batch.close())
        await asyncio.sleep(0)
        teacher.go.set()
        await closing
        return [task.result().item() for task in tasks]

    assert asyncio.run(run()) == [1, 4, 9]


def test_a_full_batch_does_not_wait():
    """With a delay of a minute, the test would not end otherwise."""

    async def run():
        teacher = Held()
        batch = batcher(teacher, max_batch=3, max_delay=60.0)
        answers = await asyncio.gather(batch(rows(1)), batch(rows(2, 3)))
        return teacher.runs, answers

    runs, answers = asyncio.run(run())
    assert runs == [(3, 1)]
    assert [a.ravel().tolist() for a in answers] == [[1], [4, 9]]


def test_a_wrong_number_of_rows_is_an_error():
    async def run():
        await batcher(lambda inputs: inputs["x"][1:])(rows(1, 2))

    with pytest.raises(RuntimeError, match="Expected 2 rows"):
        asyncio.run(run())


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-99, 99), min_size=1, max_size=5),
        min_size=1,
        max_size=30,
    ),
    st.integers(5, 12),
)
def test_every_request_gets_its_own_rows(requests, max_batch):
    async def run():
        teacher = Held()
        batch = batcher(teacher, max_batch=max_batch)
        answers = await asyncio.gather(
            *(batch(rows(*one)) for one in requests), return_exceptions=True
        )
        await batch.close()
        return teacher.runs, answers

    runs, answers = asyncio.run(run())
    for one, answer in zip(requests, answers, strict=True):
        if 13 in one:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer.ravel().tolist() == [n * n for n in one]
    assert max(shape[0] for shape in runs) <= max_batch

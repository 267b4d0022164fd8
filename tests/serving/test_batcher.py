"""Batcher: rows of several requests in one run."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.serving import batcher as module
from keras_cascade.serving.batcher import Batcher
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits


class Held:
    """A teacher that records its runs and may be blocked.

    It squares its numbers. A 13 anywhere in a run makes the run fail.
    """

    def __init__(self, held=False, clock=None):
        self.runs = []
        self.clock = clock
        self.go = threading.Event()
        self.began = threading.Event()
        if not held:
            self.go.set()

    def __call__(self, inputs):
        self.began.set()
        if not self.go.wait(30):
            raise RuntimeError("never let go")
        x = inputs["x"]
        if self.clock is not None:
            self.clock.now += self.clock.seconds_per_row * len(x)
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


class Clock:
    """`time.monotonic` that only the teacher's runs advance."""

    def __init__(self):
        self.now = 1000.0
        self.seconds_per_row = 0.5


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    fake = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr(module, "time", fake)
    return clock


async def saturated(batch, teacher, deadline=None):
    """Queues requests of one row until one is refused; returns the tasks."""
    await batch(rows(1))  # measured: 0.5 s a row
    teacher.go.clear()
    teacher.began.clear()
    tasks = await queued(batch, teacher)
    for _ in range(100):
        task = asyncio.create_task(batch(rows(2), deadline))
        await asyncio.sleep(0)
        if task.done():
            return tasks, task.exception()
        tasks = (*tasks, task)
    raise AssertionError("the queue has no bound")


def test_the_queue_is_bounded_by_the_time_that_runs_take(clock):
    """Runs of up to 2 rows take 1 s; a request may wait for 4 s of them."""

    async def run():
        teacher = Held(clock=clock)
        batch = batcher(teacher, max_batch=2, max_wait=4.0)
        await batch(rows(3, 4))  # measured: 1 s for two rows
        tasks, error = await saturated(batch, teacher)
        with pytest.raises(RequestError):
            batch.check_room()  # before the body is read
        teacher.go.set()
        await asyncio.gather(*tasks)
        batch.check_room()
        return len(tasks), error

    admitted, error = asyncio.run(run())
    # One runs, 0.5 s. A request is answered 0.5 + 1 * (rows in full runs) / 2
    # later, which may be 4 s and its own run of 0.5 s: 8 rows wait.
    assert admitted == 1 + 8
    assert error.status == 429
    assert error.retry_after >= 1


def test_a_request_that_would_miss_its_deadline_is_refused(clock):
    async def run():
        teacher = Held(clock=clock)
        batch = batcher(teacher, max_batch=1)
        tasks, error = await saturated(batch, teacher, clock.now + 0.5 + 4.0)
        # Others have more time.
        patient = asyncio.create_task(batch(rows(3), clock.now + 100))
        await asyncio.sleep(0)
        assert not patient.done()
        teacher.go.set()
        await asyncio.gather(*tasks, patient)
        return len(tasks), error

    admitted, error = asyncio.run(run())
    # Of 4 s, half is for runs of 0.5 s: 4, the current one among them.
    assert admitted == 4
    assert error.status == 429


def test_an_idle_teacher_takes_every_request(clock):
    """A wrong estimate, as of a slow first run, is corrected."""

    async def run():
        batch = batcher(Held(clock=clock), max_batch=1)
        clock.seconds_per_row = 60.0
        await batch(rows(1))
        clock.seconds_per_row = 0.5
        for _ in range(3):
            await batch(rows(1), clock.now + 1.0)
        return batch._run_times.estimate(1)

    assert asyncio.run(run()) == 0.5


def test_requests_whose_time_is_over_are_not_run(clock):
    async def scenario():
        teacher = Held(held=True, clock=clock)
        batch = batcher(teacher, max_batch=1)
        (first,) = await queued(batch, teacher)
        late = asyncio.create_task(batch(rows(2), clock.now + 0.1))
        stays = asyncio.create_task(batch(rows(3), clock.now + 100))
        await asyncio.sleep(0)
        teacher.go.set()  # the first run takes 0.5 s
        with pytest.raises(RequestError) as raised:
            await late
        with pytest.raises(RequestError) as over:
            await batch(rows(4), clock.now)
        return await first, await stays, teacher.runs, raised, over

    first, stays, runs, raised, over = asyncio.run(scenario())
    assert (first.item(), stays.item()) == (1, 9)
    assert len(runs) == 2
    assert raised.value.status == over.value.status == 429


def test_requests_that_would_end_too_late_leave_the_run_to_others(clock):
    """The first run takes longer than its estimate of 0.5 s."""

    async def scenario():
        teacher = Held(clock=clock)
        batch = batcher(teacher, max_batch=1)
        await batch(rows(1))
        teacher.go.clear()
        teacher.began.clear()
        (first,) = await queued(batch, teacher)
        late = asyncio.create_task(batch(rows(2), clock.now + 2.2))
        stays = asyncio.create_task(batch(rows(3), clock.now + 100))
        await asyncio.sleep(0)
        clock.now += 1.4  # and 0.5 s more in the run: 0.3 s are left
        teacher.go.set()
        with pytest.raises(RequestError):
            await late
        await asyncio.gather(first, stays)
        teacher.go.clear()
        teacher.began.clear()
        (first,) = await queued(batch, teacher)
        last = asyncio.create_task(batch(rows(2), clock.now + 2.2))
        await asyncio.sleep(0)
        clock.now += 1.4
        teacher.go.set()
        await first
        return await last  # nothing else to run

    assert asyncio.run(scenario()).item() == 4


def test_requests_of_clients_that_have_gone_are_not_run():
    async def run():
        teacher = Held(held=True)
        batch = batcher(teacher, max_batch=1, max_queued_rows=1)
        (first,) = await queued(batch, teacher)
        gone = asyncio.get_running_loop().create_future()
        left = asyncio.create_task(batch(rows(2), gone=gone))
        await asyncio.sleep(0)
        gone.set_result(None)
        with pytest.raises(RequestError) as raised:
            await left
        stays = asyncio.create_task(batch(rows(3)))  # in the room it left
        await asyncio.sleep(0)
        teacher.go.set()
        await asyncio.gather(first, stays)
        return raised.value.status, teacher.runs

    assert asyncio.run(run()) == (499, [(1, 1), (1, 1)])


def test_run_times_are_estimated_by_rows():
    times = module._RunTimes()
    assert times.estimate(7) == 0.0
    for seconds in (9.0, 0.4, 0.4, 0.5):  # the first is an exception
        times.add(8, seconds)
    assert times.estimate(8) == times.estimate(5) == 0.45
    assert times.estimate(1) == 0.45  # no more than of eight
    assert times.estimate(32) == 4 * 0.45  # as far as is known


def test_a_failing_request_is_found_in_halves():
    """Of 32 requests: 1 + 2 * 5 runs, not 33."""

    async def run():
        teacher = Held(held=True)
        numbers = [13 if n == 21 else n % 13 for n in range(32)]
        tasks = await queued(
            batcher(teacher), teacher, *(rows(n) for n in numbers)
        )
        teacher.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        return numbers, answers[1:], teacher.runs[1:]

    numbers, answers, runs = asyncio.run(run())
    for number, answer in zip(numbers, answers, strict=True):
        if number == 13:
            assert isinstance(answer, ArithmeticError)
        else:
            assert answer.item() == number**2
    assert len(runs) == 1 + 2 * 5


def test_a_request_that_failed_runs_alone_from_then_on():
    async def run():
        teacher = Held()
        batch = batcher(teacher)
        with pytest.raises(ArithmeticError):
            await batch(rows(13))
        teacher.runs.clear()
        answers = await asyncio.gather(
            *(batch(rows(n)) for n in (1, 13, 2, 3)), return_exceptions=True
        )
        return answers, teacher.runs

    answers, runs = asyncio.run(run())
    assert isinstance(answers[1], ArithmeticError)
    assert [a.item() for a in (answers[0], *answers[2:])] == [1, 4, 9]
    assert sorted(runs) == [(1, 1), (3, 1)]


def test_clients_of_failing_requests_share_runs_with_themselves():
    """New values each time: by their hash they are not known."""

    async def run():
        teacher = Held()
        batch = batcher(teacher)
        with pytest.raises(ArithmeticError):
            await batch(rows(13, 0), client="bad")
        teacher.runs.clear()
        await asyncio.gather(
            *(batch(rows(n), client="good") for n in (1, 2)),
            *(batch(rows(n), client="bad") for n in (3, 4, 5)),
        )
        apart = list(teacher.runs)
        for n in range(module.TRUSTED_AFTER - 3):
            await batch(rows(n % 13), client="bad")
        teacher.runs.clear()
        await asyncio.gather(
            batch(rows(1), client="good"), batch(rows(2), client="bad")
        )
        return apart, teacher.runs

    apart, together = asyncio.run(run())
    assert apart == [(2, 1), (3, 1)]
    assert together == [(2, 1)]


def test_what_is_remembered_of_failures_is_bounded():
    remembered = module._Remembered()
    for n in range(2 * module.MAX_REMEMBERED):
        remembered.add(n)
    assert len(remembered) == module.MAX_REMEMBERED
    assert 2 * module.MAX_REMEMBERED - 1 in remembered
    assert 0 not in remembered


def test_texts_have_hashes_of_their_own():
    one, other = (
        {"t": np.array(texts, object)} for texts in (["a", "bc"], ["ab", "c"])
    )
    assert module._digest(one) != module._digest(other)
    assert module._digest(one) == module._digest(dict(one))


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

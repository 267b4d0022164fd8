"""`AsyncEdgeCascade` gives the answers of `EdgeCascade`."""

import asyncio
import threading

import numpy as np
import pytest

from keras_cascade.runtime import AsyncEdgeCascade, EdgeCascade, TeacherError
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable


@pytest.fixture
def load(bundle_path, tmp_path):
    def make(*script, **options):
        teacher = ScriptedTeacher(*script)
        return AsyncEdgeCascade.load(
            bundle_path, teacher=teacher, retries=0, **options
        )

    return make


@pytest.fixture
def queueing(load, tmp_path):
    def make(*script):
        return load(*script, on_failure="queue", queue=tmp_path / "queue")

    return make


@pytest.fixture(autouse=True)
def no_thread_stays():
    """Checks that the threads of every test have ended."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join()


def run(work):
    return asyncio.run(asyncio.wait_for(work, 120))


@pytest.mark.parametrize("policy", ["answer", "abstain"])
@pytest.mark.parametrize("step", [sums, unavailable()])
def test_the_same_as_without_await(load, bundle_path, blobs, policy, step):
    x, _ = blobs(60)

    async def ask():
        async with load(step, on_failure=policy) as edge:
            return await edge.predict(x), await edge.predict_alone(x[0])

    found, alone = run(ask())
    teacher = ScriptedTeacher(step)
    with EdgeCascade.load(
        bundle_path, teacher, on_failure=policy, retries=0
    ) as edge:
        for one, expected in (
            (found, edge.predict(x)),
            (alone, edge.predict_alone(x[0])),
        ):
            for name in ("labels", "probabilities", "score", "source"):
                np.testing.assert_array_equal(
                    getattr(one, name), getattr(expected, name)
                )
            assert one.teacher_error == expected.teacher_error
            assert one.operating_point == expected.operating_point


def test_the_error_is_raised(load, blobs):
    async def ask():
        async with load(unavailable(), on_failure="raise") as edge:
            await edge.predict(blobs(60)[0])

    with pytest.raises(TeacherError, match="gone"):
        run(ask())


def test_calls_wait_for_the_teacher_together(load, blobs):
    """Eight calls are inside the teacher at once."""
    x, _ = blobs(60)
    meeting = threading.Barrier(8, timeout=60)

    def meet(inputs):
        meeting.wait()
        return sums(inputs)

    async def ask():
        async with load(meet) as edge:
            return await asyncio.gather(*(edge.predict(x) for _ in range(8)))

    for found in run(ask()):
        assert set(found.source) == {"edge", "cloud"}


def test_operating_points(with_points, blobs):
    async def ask():
        async with AsyncEdgeCascade.load(with_points(none=-1e300)) as edge:
            edge.use("none")
            assert edge.operating_points == ["default", "none"]
            assert edge.operating_point["name"] == "none"
            return await edge.predict(blobs(60)[0])

    assert set(run(ask()).source) == {"edge"}


def test_a_cancelled_call_ends_at_once_and_leaves_nothing(load, blobs):
    x, _ = blobs(60)
    entered, release = threading.Event(), threading.Event()

    def stuck(inputs):
        entered.set()
        release.wait()
        return sums(inputs)

    async def ask():
        async with load(stuck) as edge:
            call = asyncio.ensure_future(edge.predict(x))
            await asyncio.to_thread(entered.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            # The loop goes on while the thread still waits.
            assert not release.is_set()
            release.set()
            edge.edge.teacher.script = [sums]
            return await edge.predict(x)

    assert set(run(ask()).source) == {"edge", "cloud"}


def test_queued_and_answered(queueing, blobs):
    x, _ = blobs(60)

    async def ask():
        async with queueing(unavailable()) as edge:
            found = await edge.predict(x)
            edge.edge.teacher.script = [sums]
            sent = await edge.send_queued()
            async with edge.queued_answers() as answers:
                assert len(answers) == sent
            async with edge.queued_answers() as none:
                assert len(none) == 0
            return found, answers

    found, answers = run(ask())
    assert answers.ids == [name for name in found.ids if name]


def test_answers_come_again_after_an_error_or_a_cancellation(queueing, blobs):
    async def hold(edge, entered):
        async with edge.queued_answers() as answers:
            entered.set_result(answers.ids)
            await asyncio.Event().wait()

    async def ask():
        async with queueing(unavailable()) as edge:
            await edge.predict(blobs(60)[0])
            edge.edge.teacher.script = [sums]
            await edge.send_queued()
            entered = asyncio.get_running_loop().create_future()
            holding = asyncio.ensure_future(hold(edge, entered))
            ids = await entered
            holding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await holding
            with pytest.raises(ZeroDivisionError):
                async with edge.queued_answers() as answers:
                    assert answers.ids == ids
                    raise ZeroDivisionError
            async with edge.queued_answers() as answers:
                assert answers.ids == ids

    run(ask())


def cancelled_inside(queueing, blobs, name, step, before=None):
    """Cancels a call inside `edge.queue.NAME`; returns the queue."""

    async def ask():
        async with queueing(unavailable()) as edge:
            queue = edge.edge.queue
            if before is not None:
                await before(edge)
            entered, release = threading.Event(), threading.Event()
            real = getattr(queue, name)

            def slow(*args, **kwargs):
                entered.set()
                release.wait()
                return real(*args, **kwargs)

            setattr(queue, name, slow)
            call = asyncio.ensure_future(step(edge))
            await asyncio.to_thread(entered.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            setattr(queue, name, real)
            release.set()
            # Behind the call's own work in the same threads.
            edge._teachers.shutdown(wait=True)
            return len(queue), len(queue._handed_out)

    return run(ask())


def test_rows_of_a_call_that_is_cancelled_leave_the_queue(queueing, blobs):
    rows, _ = cancelled_inside(
        queueing, blobs, "put", lambda edge: edge.predict(blobs(60)[0])
    )
    assert rows == 0


def test_answers_on_their_way_to_a_cancelled_call_are_taken_back(
    queueing, blobs
):
    async def answered(edge):
        await edge.predict(blobs(60)[0])
        edge.edge.teacher.script = [sums]
        await edge.send_queued()

    async def take(edge):
        async with edge.queued_answers():
            pass

    rows, handed_out = cancelled_inside(queueing, blobs, "read", take, answered)
    assert rows > 0
    assert handed_out == 0

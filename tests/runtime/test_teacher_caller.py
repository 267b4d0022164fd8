"""`TeacherCaller`: retries, the circuit breaker and hedging."""

import threading

import circuitbreaker
import numpy as np
import pytest

from keras_cascade.runtime import TeacherError
from keras_cascade.runtime.teachers import retry_budget
from keras_cascade.runtime.teachers import teacher_caller as module
from keras_cascade.runtime.teachers.teacher_caller import TeacherCaller
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable

X = {"input": np.ones((2, 3), "float32")}


@pytest.fixture
def clock(monkeypatch):
    """The breaker's clock, set by the tests."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr(circuitbreaker, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def waits():
    return []


@pytest.fixture
def caller(waits):
    def make(teacher, **options):
        return TeacherCaller(teacher, 4, sleep=waits.append, **options)

    return make


def failures(count, caller, message):
    for _ in range(count):
        with pytest.raises(TeacherError, match=message):
            caller.logits(X)


def test_retryable_errors_are_retried(caller, waits):
    teacher = ScriptedTeacher(unavailable(), unavailable(), sums)
    np.testing.assert_array_equal(caller(teacher).logits(X), sums(X))
    assert len(teacher.asked) == 3
    # Full jitter: evenly from zero to 0.1 s, then to 0.2 s.
    assert 0 <= waits[0] <= 0.1
    assert 0 <= waits[1] <= 0.2


def test_not_without_end(caller):
    teacher = ScriptedTeacher(unavailable())
    failures(1, caller(teacher, retries=3), "gone")
    assert len(teacher.asked) == 4


@pytest.mark.parametrize(
    "error",
    [
        TeacherError("status 500"),
        TeacherError("status 401", refused=True),
        TeacherError("status 400", about_input=True),
        TeacherError("NaN", invalid_answer=True),
        # A minute of silence is longer than a caller is kept waiting.
        TeacherError("status 503", retryable=True, retry_after=60.0),
    ],
)
def test_other_errors_are_not_retried(caller, waits, error):
    teacher = ScriptedTeacher(error)
    failures(1, caller(teacher), str(error))
    assert (len(teacher.asked), waits) == (1, [])


def test_retry_after_is_the_least_wait(caller, waits):
    busy = TeacherError("status 429", retryable=True, retry_after=3.0)
    caller(ScriptedTeacher(busy, sums)).logits(X)
    assert waits == [3.0]


def test_an_invalid_answer_is_an_error(caller):
    teacher = ScriptedTeacher(lambda _: np.full((2, 4), np.nan))
    failures(1, caller(teacher), "NaN")


def test_a_teacher_that_keeps_failing_is_left_alone(caller, clock):
    teacher = ScriptedTeacher(unavailable())
    made = caller(teacher, retries=0, failures_to_open=3, seconds_open=10.0)
    failures(3, made, "^gone")
    clock.now += 9.9
    failures(5, made, "not asked for up to 1 s more, after 3 .* gone")
    assert len(teacher.asked) == 3
    # One attempt when the time is over; it fails, and the time runs again.
    clock.now += 0.2
    failures(1, made, "^gone")
    failures(1, made, "not asked for up to 10 s")
    assert len(teacher.asked) == 4
    # The next succeeds, and all is as before.
    clock.now += 10.1
    teacher.script = [sums]
    made.logits(X)
    teacher.script = [unavailable()]
    failures(2, made, "^gone")


def test_retries_count_and_end_with_the_circuit(caller):
    teacher = ScriptedTeacher(unavailable())
    made = caller(teacher, retries=9, failures_to_open=3)
    failures(1, made, "not asked")
    assert len(teacher.asked) == 3


def test_success_in_between_starts_the_count_again(caller):
    teacher = ScriptedTeacher(
        unavailable(), unavailable(), sums, unavailable(), unavailable(), sums
    )
    made = caller(teacher, retries=2, failures_to_open=3)
    made.logits(X)
    made.logits(X)


def test_a_refusal_is_no_outage(caller):
    teacher = ScriptedTeacher(TeacherError("status 400", about_input=True))
    made = caller(teacher, failures_to_open=2)
    failures(5, made, "^status 400")
    assert len(teacher.asked) == 5


def test_an_error_of_another_kind_passes_and_does_not_block(caller, clock):
    teacher = ScriptedTeacher(unavailable())
    made = caller(teacher, retries=0, failures_to_open=1)
    failures(1, made, "gone")
    clock.now += 11
    teacher.script = [ZeroDivisionError("a bug")]
    with pytest.raises(ZeroDivisionError):
        made.logits(X)
    teacher.script = [sums]
    made.logits(X)


def test_one_thread_at_a_time_tries_a_teacher_that_was_down(caller, clock):
    entered, go_on = threading.Event(), threading.Event()

    def slow(inputs):
        entered.set()
        go_on.wait(30)
        return sums(inputs)

    teacher = ScriptedTeacher(unavailable())
    made = caller(teacher, retries=0, failures_to_open=1)
    failures(1, made, "gone")
    clock.now += 11
    teacher.script = [slow]
    trial = threading.Thread(target=made.logits, args=(X,))
    trial.start()
    entered.wait(30)
    failures(3, made, "not asked")
    go_on.set()
    trial.join()
    assert len(teacher.asked) == 2
    made.logits(X)


def test_no_lock_is_held_during_a_request(caller):
    """Four calls are inside the teacher at once: no lock is held there."""
    meeting = threading.Barrier(4, timeout=30)

    def think(inputs):
        meeting.wait()
        return sums(inputs)

    made = caller(ScriptedTeacher(think))
    threads = [threading.Thread(target=made.logits, args=(X,)) for _ in "1234"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not meeting.broken


@pytest.fixture
def never_done(monkeypatch):
    """The first check of a hedged request finds it unfinished."""
    real = module.concurrent.futures.wait

    def wait(waiting, timeout=None, **kwargs):
        if timeout is not None:
            return set(), waiting
        return real(waiting, **kwargs)

    monkeypatch.setattr(module.concurrent.futures, "wait", wait)


@pytest.mark.usefixtures("never_done")
def test_the_second_request_may_win(caller):
    release = threading.Event()

    def stuck(inputs):
        release.wait(30)
        return sums(inputs) + 1

    made = caller(ScriptedTeacher(stuck, sums), hedge_after=0.5)
    np.testing.assert_array_equal(made.logits(X), sums(X))
    release.set()
    made.close()


@pytest.mark.usefixtures("never_done")
def test_a_failed_hedge_waits_for_the_other(caller):
    entered, release = threading.Event(), threading.Event()

    def slow(inputs):
        entered.set()
        release.wait(30)
        return sums(inputs)

    def fails(inputs):
        entered.wait(30)
        release.set()
        raise unavailable()

    teacher = ScriptedTeacher(slow, fails)
    made = caller(teacher, hedge_after=0.5, retries=0)
    np.testing.assert_array_equal(made.logits(X), sums(X))
    assert len(teacher.asked) == 2
    made.close()


@pytest.mark.usefixtures("never_done")
def test_a_success_counts_though_both_end_at_once(caller, monkeypatch):
    """The order of the checks does not matter."""
    look = module.concurrent.futures.wait

    def both(waiting, timeout=None, **kwargs):
        if timeout is None:
            kwargs = {"return_when": "ALL_COMPLETED"}
        return look(waiting, timeout, **kwargs)

    monkeypatch.setattr(module.concurrent.futures, "wait", both)
    for script in ([unavailable(), sums], [sums, unavailable()]):
        made = caller(ScriptedTeacher(*script), hedge_after=0.5, retries=0)
        np.testing.assert_array_equal(made.logits(X), sums(X))
        made.close()


@pytest.mark.usefixtures("never_done")
def test_two_failures_are_one(caller):
    made = caller(
        ScriptedTeacher(unavailable()),
        hedge_after=0.5,
        retries=0,
        failures_to_open=2,
    )
    failures(2, made, "^gone")
    failures(1, made, "not asked")
    made.close()


def test_a_quick_answer_needs_no_hedge(caller):
    teacher = ScriptedTeacher(sums)
    made = caller(teacher, hedge_after=60.0)
    made.logits(X)
    assert len(teacher.asked) == 1
    made.close()


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1}, {"hedge_after": 0.0}, {"failures_to_open": 0},
        {"seconds_open": 0},
    ],
)  # fmt: skip
def test_bad_options(caller, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        caller(ScriptedTeacher(sums), **options)


def test_retries_are_a_share_of_the_calls(caller):
    """20 at first, then a fifth of the calls: overload is not multiplied."""
    teacher = ScriptedTeacher(unavailable())
    made = caller(teacher, retries=2, failures_to_open=10**6)
    calls = 300
    failures(calls, made, "gone")
    # The budget is full until the first call takes from it.
    assert 20 + 0.2 * calls - 2 <= len(teacher.asked) - calls
    assert len(teacher.asked) - calls <= 20 + 0.2 * calls


def test_calls_that_succeed_fill_the_budget(caller):
    budget = retry_budget.RetryBudget()
    assert [budget.take() for _ in range(21)] == [True] * 20 + [False]
    for _ in range(10):
        budget.add()
    assert [budget.take() for _ in range(3)] == [True, True, False]
    for _ in range(1000):
        budget.add()
    assert [budget.take() for _ in range(21)] == [True] * 20 + [False]


@pytest.mark.usefixtures("never_done")
def test_hedges_take_from_the_budget_too(caller):
    teacher = ScriptedTeacher(sums)
    made = caller(teacher, hedge_after=0.5)
    calls = 100
    for _ in range(calls):
        made.logits(X)
    made.close()
    assert len(teacher.asked) - calls <= 20 + 0.2 * calls

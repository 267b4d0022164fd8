"""Calls to a teacher, with bounded retries and a circuit breaker."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable

import numpy as np
import tenacity
from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.remote_teacher import validate_logits
from keras_cascade.runtime.teachers.retry_budget import RetryBudget
from keras_cascade.utils.forks import reset_in_child

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
HEDGES = 32  # requests at a time, where hedging is on


class TeacherCaller:
    """Calls a teacher with bounded retries and a circuit breaker.

    Only what may succeed a moment later is retried: no connection, timeout,
    overload. A call does not wait for a teacher whose `retry_after` is longer
    than 5 seconds. The waits double from 0.1 s on, each drawn evenly from
    zero to that ("full jitter").

    All calls share a `RetryBudget`: further requests, whether retries or
    hedges, are at most a fifth of the calls, beyond 20. A forked child has its
    own budget, circuit and threads.

    Args:
        teacher: object with `logits(inputs)`.
        classes: int, how many logits a row must have; or a tuple of the
            sizes of a row, `None` where any is right.
        retries: int >= 0, attempts after the first. Defaults to `2`.
        failures_to_open: int >= 1, failed attempts in a row after which the
            teacher is not asked for a while. Defaults to `5`.
        seconds_open: float > 0, for how long. Defaults to `10.0`.
        hedge_after: float or `None`. A second, identical request is sent when
            the first took this many seconds; the first answer wins and the
            other is dropped when it comes. Defaults to `None`: never.
        sleep: function of seconds. Defaults to `time.sleep`.
    """

    def __init__(
        self,
        teacher,
        classes: int | tuple[int | None, ...],
        retries: int = 2,
        failures_to_open: int = 5,
        seconds_open: float = 10.0,
        hedge_after: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ):
        if retries < 0 or (hedge_after is not None and not hedge_after > 0):
            raise ValueError(
                "Expected `retries >= 0`, and `hedge_after` None or above 0. "
                f"Received: {retries} and {hedge_after}."
            )
        self._teacher = teacher
        self._classes = classes
        self._failures_to_open = failures_to_open
        self._seconds_open = seconds_open
        self._hedge_after = hedge_after
        self._budget = RetryBudget()
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(1 + retries),
            wait=_wait,
            retry=self._may_be_retried,
            sleep=sleep,
            reraise=True,
        )
        self.reset_in_child()
        reset_in_child(self)

    def reset_in_child(self) -> None:
        """Creates circuit and threads, in a forked child once more."""
        self._circuit = Circuit(self._failures_to_open, self._seconds_open)
        self._hedges = (
            concurrent.futures.ThreadPoolExecutor(HEDGES, "teacher-hedge")
            if self._hedge_after
            else None
        )

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Asks for the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`, validated.

        Raises:
            TeacherError: no validated answer.
        """
        self._budget.add()
        return self._retrying(self._attempt, inputs)

    def close(self) -> None:
        """Stops hedging; requests under way end by their own timeout."""
        if self._hedges:
            self._hedges.shutdown(wait=False, cancel_futures=True)

    def _attempt(self, inputs):
        with self._circuit.attempt():
            if self._hedges:
                return self._hedged(inputs)
            return self._ask(inputs)

    def _ask(self, inputs):
        rows = len(next(iter(inputs.values())))
        answer = self._teacher.logits(inputs)
        return validate_logits(answer, rows, self._classes)

    def _may_be_retried(self, state):
        error = state.outcome.exception()
        # The stop is asked later, and would let the last attempt take one.
        last = state.attempt_number >= self._retrying.stop.max_attempt_number
        return not last and _may_be_retried(error) and self._budget.take()

    def _hedged(self, inputs):
        waiting = {self._hedges.submit(self._ask, inputs)}
        done, _ = concurrent.futures.wait(waiting, self._hedge_after)
        if not done and self._budget.take():
            waiting.add(self._hedges.submit(self._ask, inputs))
        while True:
            done, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            answers = [call for call in done if call.exception() is None]
            if answers or not waiting:
                for call in waiting:
                    call.cancel()
                return (answers or list(done))[0].result()


class Circuit:
    """Circuit breaker that threads may share.

    After `failures` failures in a row it is open: `attempt` raises at once.
    After `seconds` it admits one attempt; when that succeeds it closes, when
    it fails it stays open as long again.

    The states and their clock are the `circuitbreaker` package's. It has no
    lock and admits every caller at once when the time is over; both are added
    here. No lock is held during a request.

    Args:
        failures: int >= 1, how many in a row open it.
        seconds: float > 0, how long it stays open.
    """

    def __init__(self, failures, seconds):
        if failures < 1 or not seconds > 0:
            raise ValueError(
                "Expected `failures_to_open >= 1` and `seconds_open > 0`. "
                f"Received: {failures} and {seconds}."
            )
        self._breaker = CircuitBreaker(
            failure_threshold=failures,
            recovery_timeout=seconds,
            expected_exception=_is_outage,
            name="teacher",
        )
        self._lock = threading.Lock()
        self._trying = False

    @contextlib.contextmanager
    def attempt(self):
        """Surrounds one request to the teacher.

        Raises:
            TeacherError: the circuit is open.
        """
        trial = self._enter()
        try:
            yield
        except TeacherError as error:
            self._leave(trial, error)
            raise
        except BaseException:
            # The caller's doing, not the teacher's: nothing is counted.
            with self._lock:
                self._trying = self._trying and not trial
            raise
        self._leave(trial, None)

    def _enter(self):
        with self._lock:
            trial = self._breaker.state == STATE_HALF_OPEN
            if self._breaker.opened or (trial and self._trying):
                raise TeacherError(
                    "The teacher is not asked for up to "
                    f"{max(self._breaker.open_remaining, 0)} s more, after "
                    f"{self._breaker.failure_count} failures in a row. The "
                    f"last one: {self._breaker.last_failure}",
                    not_asked=True,
                )
            self._trying = self._trying or trial
            return trial

    def _leave(self, trial, error):
        with self._lock:
            self._breaker.__exit__(type(error) if error else None, error, None)
            self._trying = self._trying and not trial


_backoff = tenacity.wait_random_exponential(FIRST_WAIT, LONGEST_WAIT)


def _wait(state):
    retry_after = state.outcome.exception().retry_after or 0.0
    return max(_backoff(state), retry_after)


def _may_be_retried(error):
    return (
        isinstance(error, TeacherError)
        and error.retryable
        and (error.retry_after or 0.0) <= LONGEST_WAIT
    )


def _is_outage(_, error):
    return isinstance(error, TeacherError) and not error.refused

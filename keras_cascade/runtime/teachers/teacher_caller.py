"""Asks a teacher with patience, but not without end."""

import concurrent.futures
import time

import tenacity

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.believed import believed_logits
from keras_cascade.runtime.teachers.circuit import Circuit

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
HEDGES = 32  # requests at a time, where hedging is on


class TeacherCaller:
    """Retries, a circuit breaker and hedging around any teacher.

    Only what may succeed a moment later is tried again: no connection, time
    out, overload. A teacher that asks to be left alone for longer than 5
    seconds is not asked again. The waits double from 0.1 s on, each drawn
    evenly from zero to that ("full jitter").

    Args:
        teacher: object with `logits(inputs)`.
        classes: int, how many logits a row must have.
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
        classes,
        retries=2,
        failures_to_open=5,
        seconds_open=10.0,
        hedge_after=None,
        sleep=time.sleep,
    ):
        if retries < 0 or (hedge_after is not None and not hedge_after > 0):
            raise ValueError(
                "Expected `retries >= 0`, and `hedge_after` None or above 0. "
                f"Received: {retries} and {hedge_after}."
            )
        self._teacher = teacher
        self._classes = classes
        self._circuit = Circuit(failures_to_open, seconds_open)
        self._hedge_after = hedge_after
        self._hedges = hedge_after and concurrent.futures.ThreadPoolExecutor(
            HEDGES, "teacher-hedge"
        )
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(1 + retries),
            wait=_wait,
            retry=tenacity.retry_if_exception(_may_be_retried),
            sleep=sleep,
            reraise=True,
        )

    def logits(self, inputs):
        """Asks for the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`, checked.

        Raises:
            TeacherError: no answer that can be believed.
        """
        return self._retrying(self._attempt, inputs)

    def close(self):
        """Waits for no one; what is under way ends by its own time out."""
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
        return believed_logits(answer, rows, self._classes)

    def _hedged(self, inputs):
        waiting = {self._hedges.submit(self._ask, inputs)}
        done, _ = concurrent.futures.wait(waiting, self._hedge_after)
        if not done:
            waiting.add(self._hedges.submit(self._ask, inputs))
        while True:
            done, waiting = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            good = [answer for answer in done if answer.exception() is None]
            if good or not waiting:
                for loser in waiting:
                    loser.cancel()
                return (good or list(done))[0].result()


_backoff = tenacity.wait_random_exponential(FIRST_WAIT, LONGEST_WAIT)


def _wait(state):
    asked_for = state.outcome.exception().retry_after or 0.0
    return max(_backoff(state), asked_for)


def _may_be_retried(error):
    return (
        isinstance(error, TeacherError)
        and error.retryable
        and (error.retry_after or 0.0) <= LONGEST_WAIT
    )

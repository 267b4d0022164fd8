"""A circuit breaker that threads may share."""

import contextlib
import threading

from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker

from keras_cascade.errors import TeacherError


class Circuit:
    """Stops asking a teacher that keeps failing, for a while.

    After `failures` failures in a row it is open: `attempt` raises at once.
    After `seconds` it lets one attempt through; when that succeeds it closes,
    when it fails it stays open as long again.

    The counting is the `circuitbreaker` package's, whose clock is monotonic.
    It has no lock and lets every caller try at once when the time is over;
    both are added here. No lock is held while the teacher is asked.

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
        """Surrounds one attempt to ask the teacher.

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
                    f"last one: {self._breaker.last_failure}"
                )
            self._trying = self._trying or trial
            return trial

    def _leave(self, trial, error):
        with self._lock:
            self._breaker.__exit__(type(error) if error else None, error, None)
            self._trying = self._trying and not trial


def _is_outage(_, error):
    return isinstance(error, TeacherError) and not error.refused

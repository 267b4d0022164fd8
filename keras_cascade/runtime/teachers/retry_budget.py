"""Budget of the requests that are sent in addition to the first ones."""

import threading

from keras_cascade.utils.forks import reset_in_child

SHARE = 0.2
BURST = 20


class RetryBudget:
    """Bounds retries and second, hedging requests. Thread-safe.

    Each call of the teacher adds `share` to the budget, up to `burst`; each
    further request of a call takes 1, and is not sent where less is left. So
    at an overloaded server retries add at most a fifth to the load, beyond the
    first 20, instead of multiplying it. The idea is gRPC's `retryThrottling`.

    Args:
        share: float, further requests per call. Defaults to `0.2`.
        burst: int, further requests in a row, which the budget begins with.
            Defaults to `20`.

    Example:

    >>> from keras_cascade.runtime.teachers.retry_budget import RetryBudget
    >>> budget = RetryBudget(share=0.5, burst=1)
    >>> budget.take(), budget.take()
    (True, False)
    >>> budget.add()
    >>> budget.add()
    >>> budget.take()
    True
    """

    def __init__(self, share: float = SHARE, burst: int = BURST):
        self._share = share
        self._burst = float(burst)
        self.reset_in_child()
        reset_in_child(self)

    def reset_in_child(self) -> None:
        """Starts with a full budget, and a lock that no one holds."""
        self._lock = threading.Lock()
        self._left = self._burst

    def add(self) -> None:
        """Counts a call."""
        with self._lock:
            self._left = min(self._burst, self._left + self._share)

    def take(self) -> bool:
        """Takes one further request; returns `False` where none is left."""
        with self._lock:
            # A sum of ten 0.1 is a little less than 1.
            if self._left < 1.0 - 1e-9:
                return False
            self._left -= 1.0
            return True

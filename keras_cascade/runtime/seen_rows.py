"""How many rows an edge has seen that its teacher was not told of."""

import contextlib
import threading

#: The server does not take larger counts.
MOST = 10**9 - 1


class SeenRows:
    """Counts rows until a request takes the count along. Thread-safe.

    A teacher's server sees delegated rows only. Told of the others, it can
    say what share is delegated. Each row is told of once: those of a request
    with it, the others with the next request that is answered.

    Example:

    >>> from keras_cascade.runtime.seen_rows import SeenRows
    >>> seen = SeenRows()
    >>> seen.add(7)
    >>> with seen.told(rows=3) as count:
    ...     count
    10
    >>> with seen.told(rows=2) as count:
    ...     count
    2
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._untold = 0

    def add(self, rows):
        """Counts rows that no request carries."""
        with self._lock:
            self._untold += rows

    @contextlib.contextmanager
    def told(self, rows):
        """Surrounds a request; where it raises, its count is kept for later.

        Args:
            rows: int, rows of the request.

        Yields:
            int, these and the rows that were not told of yet.
        """
        with self._lock:
            taken = min(self._untold, MOST - rows)
            self._untold -= taken
        try:
            yield rows + taken
        except BaseException:
            self.add(taken)
            raise

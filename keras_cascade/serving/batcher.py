"""Dynamic batching: rows of several requests share a run of the teacher."""

import asyncio
import collections
import dataclasses
import math
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_cascade.serving.request_error import RequestError


class Batcher:
    """Joins the rows of requests that wait at the same time into one batch.

    One run at a time, in a separate thread: meanwhile requests gather for
    the next. Requests whose shapes differ beyond the batch axis never share
    a run. When a shared run fails, each of its requests is run alone, so
    that a bad request fails no other.

    Belongs to the event loop it is first called in.

    Args:
        run: function from dict of input name to array, batch first, to an
            array with as many rows. Called in another thread.
        limits: `Limits`.
        metrics: `ServerMetrics`.

    Example:

    >>> import asyncio
    >>> import numpy as np
    >>> from keras_cascade.serving.batcher import Batcher
    >>> from keras_cascade.serving.settings import Limits
    >>> from keras_cascade.serving.server_metrics import ServerMetrics
    >>> runs = []
    >>> def double(inputs):
    ...     runs.append(len(inputs["x"]))
    ...     return 2 * inputs["x"]
    >>> async def two_requests():
    ...     batcher = Batcher(double, Limits(max_delay=1.0, max_batch=3),
    ...                       ServerMetrics())
    ...     return await asyncio.gather(
    ...         batcher({"x": np.array([[1.0]])}),
    ...         batcher({"x": np.array([[2.0], [3.0]])}))
    >>> [answer.tolist() for answer in asyncio.run(two_requests())]
    [[[2.0]], [[4.0], [6.0]]]
    >>> runs
    [3]
    """

    def __init__(self, run, limits, metrics):
        self._run = run
        self._limits = limits
        self._metrics = metrics
        self._waiting = collections.deque()
        self._queued_rows = 0
        self._last_run_seconds = 0.0
        self._changed = asyncio.Event()
        self._flushing = False
        self._closing = False
        self._worker = None
        self._thread = ThreadPoolExecutor(1, "teacher")

    async def __call__(self, inputs):
        """Runs one request's rows and returns their results.

        Args:
            inputs: dict of input name to array, batch first, with the same
                number of rows: at most `max_batch`.

        Returns:
            Array, the rows of `run`'s result that belong to this request.

        Raises:
            RequestError: the queue is full.
        """
        waiting = _Waiting(inputs)
        if self._queued_rows + waiting.rows > self._limits.max_queued_rows:
            raise RequestError(
                429,
                f"Expected room in the queue. Received {waiting.rows} rows "
                f"while {self._queued_rows} of at most "
                f"{self._limits.max_queued_rows} are waiting. Try again later.",
                self._seconds_until_room(),
            )
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        self._waiting.append(waiting)
        self._add_queued(waiting.rows)
        self._changed.set()
        try:
            return await waiting.answer
        finally:
            if not waiting.taken:  # the client has gone
                self._waiting.remove(waiting)
                self._add_queued(-waiting.rows)

    def flush(self):
        """Runs queued requests at once, and later ones without delay."""
        self._flushing = True
        self._changed.set()

    async def close(self):
        """Runs all queued requests, then ends the thread."""
        self._closing = True
        self.flush()
        if self._worker is not None:
            await self._worker
        self._thread.shutdown(wait=False)

    async def _work(self):
        while self._waiting or not self._closing:
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            await self._gather()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _gather(self):
        """Waits for more rows, at most `max_delay` after the first ones."""
        # One turn of the event loop: requests that are ready now join even
        # without a delay.
        await asyncio.sleep(0)
        while self._waiting and not self._flushing:
            seconds = (
                self._waiting[0].since
                + self._limits.max_delay
                - time.monotonic()
            )
            if seconds <= 0 or self._queued_rows >= self._limits.max_batch:
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _take(self):
        """Dequeues the oldest request and all that fit into its run."""
        batch, remaining, rows = [], [], 0
        for waiting in self._waiting:
            fits = rows + waiting.rows <= self._limits.max_batch
            if not batch or (fits and waiting.form == batch[0].form):
                batch.append(waiting)
                rows += waiting.rows
                waiting.taken = True
            else:
                remaining.append(waiting)
        self._waiting = collections.deque(remaining)
        self._add_queued(-rows)
        now = time.monotonic()
        for waiting in batch:
            self._metrics.queue_seconds.observe(now - waiting.since)
        return batch

    async def _answer(self, batch):
        rows = sum(waiting.rows for waiting in batch)
        start_time = time.monotonic()
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(
                self._thread, self._run_joined, batch, rows
            )
        except Exception as error:
            if len(batch) > 1:
                for waiting in batch:
                    await self._answer([waiting])
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(error)
            return
        self._last_run_seconds = time.monotonic() - start_time
        self._metrics.batch_rows.observe(rows)
        self._metrics.teacher_seconds.observe(self._last_run_seconds)
        start = 0
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_result(answer[start : start + waiting.rows])
            start += waiting.rows

    def _run_joined(self, batch, rows):
        inputs = batch[0].inputs
        if len(batch) > 1:
            inputs = {
                name: np.concatenate([one.inputs[name] for one in batch])
                for name in inputs
            }
        answer = self._run(inputs)
        if len(answer) != rows:
            raise RuntimeError(
                f"Expected {rows} rows from the teacher. Received: "
                f"{len(answer)}."
            )
        return answer

    def _add_queued(self, rows):
        self._queued_rows += rows
        self._metrics.queued_rows.inc(rows)

    def _seconds_until_room(self):
        runs = self._queued_rows / self._limits.max_batch
        return max(1, math.ceil(runs * self._last_run_seconds))


@dataclasses.dataclass(eq=False)
class _Waiting:
    """Queue entry: one request's rows and the future of its answer."""

    inputs: dict
    taken: bool = False

    def __post_init__(self):
        self.rows = len(next(iter(self.inputs.values())))
        self.form = {name: x.shape[1:] for name, x in self.inputs.items()}
        self.since = time.monotonic()
        self.answer = asyncio.get_running_loop().create_future()

"""Dynamic batching: rows of several requests share a run of the teacher."""

import asyncio
import collections
import dataclasses
import hashlib
import math
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_cascade.serving.request_error import CLIENT_GONE, RequestError

#: Share of a request's time that the runs before it and its own may take by
#: the estimate; the rest is for what is not estimated, such as the network and
#: other processes. A longer queue would answer no more rows, only later.
HEADROOM = 0.5
#: Requests that are remembered because they failed, and clients.
MAX_REMEMBERED = 1024
#: Without a further failure they are forgotten, as a hash takes time.
REMEMBERED_SECONDS = 600.0
#: Requests of a client in a row that must succeed before it is trusted again.
TRUSTED_AFTER = 100


class Batcher:
    """Joins the rows of requests that wait at the same time into one batch.

    One run at a time, in a separate thread: meanwhile requests gather for
    the next. Requests whose shapes differ beyond the batch axis never share
    a run.

    The queue is bounded by time. From the durations of past runs it is
    estimated when a request would be answered; one that would miss its
    deadline, or wait for more than `max_wait`, is refused at once. Only an
    idle teacher takes every request, so that a wrong estimate is corrected.
    A request whose deadline has passed, or whose client has gone, is dropped.

    When a shared run fails, its requests are run in two halves, and so on, so
    that a bad request fails no other: one in a batch of n costs about
    2 log2 n more runs. A request that failed alone is remembered by its hash
    and runs alone from then on, and its client's others share runs with each
    other only, until 100 of them in a row have succeeded.

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
        self._run_times = _RunTimes()
        self._run_until = None  # estimated end of the current run
        self._failed = _Remembered()  # hashes of requests
        self._last_failure = 0.0
        self._suspects = _Remembered()  # clients
        self._changed = asyncio.Event()
        self._flushing = False
        self._closing = False
        self._worker = None
        self._thread = ThreadPoolExecutor(1, "teacher")

    async def __call__(self, inputs, deadline=None, gone=None, client=None):
        """Runs one request's rows and returns their results.

        Args:
            inputs: dict of input name to array, batch first, with the same
                number of rows: at most `max_batch`.
            deadline: float, of `time.monotonic()`, or `None`. Defaults to
                `None`.
            gone: `asyncio.Future` or `None`, done once the client has gone.
                Defaults to `None`.
            client: str or `None`, who sent it. Defaults to `None`.

        Returns:
            Array, the rows of `run`'s result that belong to this request.

        Raises:
            RequestError: the queue is full, or the deadline passed in it.
        """
        waiting = _Waiting(inputs, deadline, client)
        if client in self._suspects:
            waiting.form = waiting.form, client
        if self._failed:
            if waiting.since - self._last_failure > REMEMBERED_SECONDS:
                self._failed.clear()
            waiting.digest = _digest(inputs)
            if waiting.digest in self._failed:
                waiting.form = object()  # equal to no other
        self.check_room(deadline, waiting.rows, waiting.form)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        self._waiting.append(waiting)
        self._add_queued(waiting.rows)
        self._changed.set()
        if gone is not None:
            gone.add_done_callback(lambda _: self._drop_gone(waiting))
        try:
            return await waiting.answer
        finally:
            if not waiting.taken:  # the client has gone
                waiting.taken = True
                self._waiting.remove(waiting)
                self._add_queued(-waiting.rows)

    def check_room(self, deadline=None, rows=1, form=None):
        """Raises for a request that would wait too long.

        Args:
            deadline: float, of `time.monotonic()`, or `None`. Defaults to
                `None`.
            rows: int. Defaults to `1`.
            form: what requests that share a run have in common, or `None`
                where it is not known yet. Defaults to `None`.

        Raises:
            RequestError: 429, with the seconds until there is room.
        """
        now = time.monotonic()
        if deadline is not None and deadline <= now:
            raise _expired()
        if not self._waiting and self._run_until is None:
            return
        seconds = self._seconds_until_answer(now, rows, form)
        allowed = self._limits.max_wait + self._run_times.estimate(rows)
        if deadline is not None:
            allowed = min(allowed, HEADROOM * (deadline - now))
        if seconds > allowed:
            raise RequestError(
                429,
                f"Expected an answer within {allowed:.3g} s. Received a "
                f"request that would take about {seconds:.3g} s, as "
                f"{self._queued_rows} rows are waiting. Try again later.",
                max(1, math.ceil(seconds - allowed)),
            )
        if self._queued_rows + rows > self._limits.max_queued_rows:
            raise RequestError(
                429,
                f"Expected room in the queue. Received {rows} rows "
                f"while {self._queued_rows} of at most "
                f"{self._limits.max_queued_rows} are waiting. Try again later.",
                max(1, math.ceil(seconds)),
            )

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
        self._drop_expired()
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

    def _drop_expired(self):
        """Drops requests that are over, or will be once they have run.

        The latter by the estimate only, so not if it leaves nothing to run.
        """
        now = time.monotonic()
        late = [
            waiting
            for waiting in self._waiting
            if waiting.deadline is not None
            and waiting.deadline <= now + self._run_times.estimate(waiting.rows)
        ]
        keep_late = len(late) == len(self._waiting)
        for waiting in late:
            if waiting.deadline <= now or not keep_late:
                self._drop(waiting, _expired())

    def _drop_gone(self, waiting):
        if not waiting.taken:
            error = RequestError(CLIENT_GONE, "The client has gone.")
            self._drop(waiting, error)

    def _drop(self, waiting, error):
        waiting.taken = True
        self._waiting.remove(waiting)
        self._add_queued(-waiting.rows)
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    async def _answer(self, batch):
        rows = sum(waiting.rows for waiting in batch)
        start_time = time.monotonic()
        self._run_until = start_time + self._run_times.estimate(rows)
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(
                self._thread, self._run_joined, batch, rows
            )
        except Exception as error:
            if len(batch) > 1:
                half = len(batch) // 2
                await self._answer(batch[:half])
                await self._answer(batch[half:])
            else:
                self._fail(*batch, error)
            return
        finally:
            self._run_until = None
        seconds = time.monotonic() - start_time
        self._run_times.add(rows, seconds)
        self._metrics.batch_rows.observe(rows)
        self._metrics.teacher_seconds.observe(seconds)
        start = 0
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_result(answer[start : start + waiting.rows])
            start += waiting.rows
            self._trust(waiting)

    def _fail(self, waiting, error):
        self._failed.add(waiting.digest or _digest(waiting.inputs))
        self._last_failure = time.monotonic()
        if waiting.client is not None:
            self._suspects.add(waiting.client, TRUSTED_AFTER)
        if not waiting.answer.done():
            waiting.answer.set_exception(error)

    def _trust(self, waiting):
        """Forgets what failed once and has succeeded since."""
        if waiting.digest is not None:
            self._failed.discard(waiting.digest)
        if waiting.client in self._suspects:
            self._suspects.count_down(waiting.client)

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

    def _seconds_until_answer(self, now, rows, form):
        """Estimates the end of the run of a request that would wait now."""
        seconds = max(0.0, (self._run_until or now) - now)
        waiting = collections.Counter({form: rows})
        for one in self._waiting:
            # A form that is not known yet shares a run with the last one.
            waiting[one.form] += one.rows
        if form is None and len(waiting) > 1:
            waiting[self._waiting[-1].form] += waiting.pop(None)
        for count in waiting.values():
            runs, last = divmod(count, self._limits.max_batch)
            if runs:
                full = self._run_times.estimate(self._limits.max_batch)
                seconds += runs * full
            if last:
                seconds += self._run_times.estimate(last)
        return seconds


@dataclasses.dataclass(eq=False)
class _Waiting:
    """Queue entry: one request's rows and the future of its answer."""

    inputs: dict
    deadline: float | None = None
    client: str | None = None
    digest: bytes | None = None
    taken: bool = False

    def __post_init__(self):
        self.rows = len(next(iter(self.inputs.values())))
        self.form = tuple((k, x.shape[1:]) for k, x in self.inputs.items())
        self.since = time.monotonic()
        self.answer = asyncio.get_running_loop().create_future()


class _RunTimes:
    """Estimates the duration of a run by the last ones of about as many rows.

    The median of the last nine, for each power of two of rows: one slow run,
    such as the first, says nothing about the next.
    """

    def __init__(self):
        self._recent = {}
        self._medians = {}

    def add(self, rows, seconds):
        """Adds a measured run."""
        size = (rows - 1).bit_length()
        recent = self._recent.setdefault(size, collections.deque(maxlen=9))
        recent.append(seconds)
        self._medians[size] = statistics.median(recent)

    def estimate(self, rows):
        """Returns seconds; 0 before the first run."""
        size = (rows - 1).bit_length()
        if size in self._medians:
            return self._medians[size]
        larger = [n for n in self._medians if n > size]
        if larger:
            return self._medians[min(larger)]
        if not self._medians:
            return 0.0
        largest = max(self._medians)
        return self._medians[largest] * 2 ** (size - largest)


class _Remembered:
    """Bounded set; beyond `MAX_REMEMBERED` the oldest are forgotten."""

    def __init__(self):
        self._left = {}

    def __len__(self):
        return len(self._left)

    def __contains__(self, key):
        return key in self._left

    def add(self, key, count=1):
        """Adds a key, to be forgotten after `count` of `count_down`."""
        self._left.pop(key, None)
        self._left[key] = count
        if len(self._left) > MAX_REMEMBERED:
            del self._left[next(iter(self._left))]

    def count_down(self, key):
        """Counts one success of a key."""
        self._left[key] -= 1
        if not self._left[key]:
            del self._left[key]

    def clear(self):
        """Removes every key."""
        self._left.clear()

    def discard(self, key):
        """Removes a key, if it is there."""
        self._left.pop(key, None)


def _digest(inputs):
    """Returns a hash of a request's values."""
    content = hashlib.blake2b(digest_size=16)
    for name, array in inputs.items():
        is_text = array.dtype.kind == "O"
        content.update(f"{name} {array.dtype} {array.shape}".encode())
        content.update(
            repr(array.tolist()).encode() if is_text else array.tobytes()
        )
    return content.digest()


def _expired():
    return RequestError(
        429,
        "Expected a request that can be answered before its timeout. Received "
        "one whose time was over while it waited. Try again later.",
        1,
    )

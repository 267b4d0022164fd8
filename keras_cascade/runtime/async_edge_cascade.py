"""The cascade on the device, for an event loop."""

import asyncio
import concurrent.futures
import contextlib
import os

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.edge_cascade import EdgeCascade

IN_FLIGHT = 32
_CANCELLED = (asyncio.CancelledError, asyncio.CancelledError(), None)


class AsyncEdgeCascade:
    """`EdgeCascade` with `await`: the same answers, the same policies.

    The student runs in a few threads, the teacher is asked in others, so that
    slow answers from the cloud hold up neither the loop nor other students.
    More calls than threads wait in line.

    A call that is cancelled returns at once. What was asked on its behalf
    ends by itself within its time out and its answer is dropped; rows that it
    had queued are taken out of the queue again, as nobody was told their ids.

    Use `AsyncEdgeCascade.load(...)`, an async context manager.

    Args:
        edge: `EdgeCascade`. It is closed with this object.
        in_flight: int, calls that may wait for the teacher at a time.
            Defaults to `32`.

    Example:

    ```python
    async with AsyncEdgeCascade.load("my_bundle", teacher=url) as edge:
        prediction = await edge.predict(x)
    ```
    """

    def __init__(self, edge, in_flight=IN_FLIGHT):
        self.edge = edge
        self._students = concurrent.futures.ThreadPoolExecutor(
            os.cpu_count(), "student"
        )
        self._teachers = concurrent.futures.ThreadPoolExecutor(
            in_flight, "teacher"
        )

    @classmethod
    def load(cls, path, *args, in_flight=IN_FLIGHT, **kwargs):
        """Opens a bundle; arguments as in `EdgeCascade.load`."""
        return cls(EdgeCascade.load(path, *args, **kwargs), in_flight)

    @property
    def operating_point(self):
        """The operating point in use, as the manifest's dict."""
        return self.edge.operating_point

    @property
    def operating_points(self):
        """Names of the bundle's operating points."""
        return self.edge.operating_points

    def use(self, name):
        """As `EdgeCascade.use`."""
        self.edge.use(name)

    async def predict(self, x):
        """As `EdgeCascade.predict`.

        Args:
            x: array, or dict of input name to array. It must not be written
                to before the answer is there.

        Returns:
            `EdgePrediction`.
        """
        draft = await self._in(self._students, self.edge._counted_draft, x)
        if not len(draft.rows):
            return draft.prediction()
        questions = draft.questions()
        try:
            logits = await self._in(self._teachers, self.edge.logits, questions)
        except TeacherError as error:
            await self._settle(draft, questions, error)
        else:
            draft.answer(logits)
        return draft.prediction()

    async def predict_alone(self, x):
        """As `EdgeCascade.predict_alone`."""
        return await self._in(self._students, self.edge.predict_alone, x)

    async def logits(self, inputs):
        """As `EdgeCascade.logits`."""
        return await self._in(self._teachers, self.edge.logits, inputs)

    async def send_queued(self):
        """As `EdgeCascade.send_queued`."""
        return await self._in(self._teachers, self.edge.send_queued)

    def send_queued_every(self, seconds):
        """As `EdgeCascade.send_queued_every`."""
        self.edge.send_queued_every(seconds)

    @contextlib.asynccontextmanager
    async def queued_answers(self, limit=None):
        """As `EdgeCascade.queued_answers`, for `async with`."""
        handed_out = self.edge.queued_answers(limit)

        def take_back(_):
            with contextlib.suppress(asyncio.CancelledError):
                handed_out.__exit__(*_CANCELLED)

        found = await self._whole(take_back, handed_out.__enter__)
        try:
            yield found
        except BaseException as error:
            # Not to be awaited: this task may be cancelled.
            handed_out.__exit__(type(error), error, error.__traceback__)
            raise
        await self._whole(None, handed_out.__exit__, None, None, None)

    async def close(self):
        """Closes the connections and the queue, once what runs has ended."""
        await asyncio.to_thread(self._close)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    def _close(self):
        for threads in (self._students, self._teachers):
            threads.shutdown(wait=True, cancel_futures=True)
        self.edge.close()

    async def _settle(self, draft, questions, error):
        if self.edge.on_failure != "queue":
            self.edge._settle(draft, questions, error)
            return

        def withdraw(work):
            if work.exception() is None:
                self.edge.queue.remove(draft.queued_ids())

        await self._whole(withdraw, self.edge._settle, draft, questions, error)

    async def _in(self, threads, function, *args):
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, function, *args)

    async def _whole(self, undo, function, *args):
        """Runs to its end even when the caller is cancelled meanwhile.

        Then `undo(future)`, if any, follows in the same thread.
        """
        work = self._teachers.submit(function, *args)
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except asyncio.CancelledError:
            if undo is not None:
                work.add_done_callback(undo)
            raise

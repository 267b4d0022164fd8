"""The cascade on the device, for an event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.edge_cascade import EdgeCascade, closed_error
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.utils.forks import reset_in_child

if TYPE_CHECKING:
    from keras_cascade.runtime.inputs import Inputs
    from keras_cascade.runtime.queueing.dead_letter import DeadLetter
    from keras_cascade.runtime.queueing.queue_status import QueueStatus

IN_FLIGHT = 32
_CANCELLED = (asyncio.CancelledError, asyncio.CancelledError(), None)


class AsyncEdgeCascade:
    """`EdgeCascade` with `await`: the same answers, the same policies.

    The student runs in a few threads and requests to the teacher in others,
    so that slow answers from the cloud block neither the event loop nor other
    students. Calls beyond the number of threads are queued.

    A cancelled call returns at once. Its request to the teacher ends within
    the timeout and its answer is dropped; rows that it had queued are removed
    from the queue, as their ids were never returned.

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

    def __init__(self, edge: EdgeCascade, in_flight: int = IN_FLIGHT):
        self.edge = edge
        self._is_closed = False
        self._in_flight = in_flight
        self.reset_in_child()
        reset_in_child(self)

    def reset_in_child(self) -> None:
        """Creates the threads, in a forked child once more."""
        self._students = concurrent.futures.ThreadPoolExecutor(
            os.cpu_count(), "student"
        )
        self._teachers = concurrent.futures.ThreadPoolExecutor(
            self._in_flight, "teacher"
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        teacher: Any = None,
        on_failure: str = "answer",
        timeout: float = 10.0,
        num_threads: int = 1,
        *,
        in_flight: int = IN_FLIGHT,
        operating_point: str | None = None,
        queue: str | os.PathLike | dict | None = None,
        log: str | os.PathLike | dict | None = None,
        retries: int = 2,
        failures_to_open: int = 5,
        seconds_open: float = 10.0,
        hedge_after: float | None = None,
        sha256: str | None = None,
        public_key: str | os.PathLike | bytes | None = None,
        token: str | None = None,
        ca_file: str | os.PathLike | None = None,
        output: str | None = None,
        max_rows: int | None = None,
        max_request_bytes: int | None = None,
        max_response_bytes: int | None = None,
        binary: bool | None = None,
        client_cert: str | os.PathLike | None = None,
        client_key: str | os.PathLike | None = None,
        teacher_identity: str = "probe",
        teacher_top_k: int | None = None,
        runtime: str = "interpreter",
        accelerator: str = "cpu",
    ) -> AsyncEdgeCascade:
        """Opens a bundle, after checking every file against its manifest.

        Args:
            in_flight: as in `AsyncEdgeCascade`.

        All other arguments as in `EdgeCascade.load`.

        Returns:
            `AsyncEdgeCascade`.
        """
        edge = EdgeCascade.load(
            path,
            teacher,
            on_failure,
            timeout,
            num_threads,
            operating_point=operating_point,
            queue=queue,
            log=log,
            retries=retries,
            failures_to_open=failures_to_open,
            seconds_open=seconds_open,
            hedge_after=hedge_after,
            sha256=sha256,
            public_key=public_key,
            token=token,
            ca_file=ca_file,
            output=output,
            max_rows=max_rows,
            max_request_bytes=max_request_bytes,
            max_response_bytes=max_response_bytes,
            binary=binary,
            client_cert=client_cert,
            client_key=client_key,
            teacher_identity=teacher_identity,
            teacher_top_k=teacher_top_k,
            runtime=runtime,
            accelerator=accelerator,
        )
        return cls(edge, in_flight)

    @property
    def operating_point(self) -> dict:
        """The operating point in use, as the manifest's dict."""
        return self.edge.operating_point

    @property
    def operating_points(self) -> list[str]:
        """Names of the bundle's operating points."""
        return self.edge.operating_points

    def use(self, name: str) -> None:
        """Switches the operating point, as `EdgeCascade.use`."""
        self.edge.use(name)

    async def predict(self, x: Inputs) -> EdgePrediction:
        """Predicts one example or a batch, as `EdgeCascade.predict`.

        Args:
            x: array, or dict of input name to array. It must not be modified
                until the call returns.

        Returns:
            `EdgePrediction`.
        """
        pending = await self._in(self._students, self.edge._run_student, x)
        if not len(pending.rows):
            return pending.prediction()
        pending.start_teacher_clock()
        try:
            logits = await self._in(
                self._teachers, self.edge.logits, pending.delegated_inputs
            )
            pending.resolve(logits)
        except TeacherError as error:
            await self._fall_back(pending, error)
        return pending.prediction()

    async def predict_alone(self, x: Inputs) -> EdgePrediction:
        """Predicts with the student, as `EdgeCascade.predict_alone`."""
        return await self._in(self._students, self.edge.predict_alone, x)

    async def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Asks the teacher for logits, as `EdgeCascade.logits`."""
        return await self._in(self._teachers, self.edge.logits, inputs)

    async def send_queued(self) -> int:
        """Asks the teacher about queued rows: `EdgeCascade.send_queued`."""
        return await self._in(self._teachers, self.edge.send_queued)

    def send_queued_every(self, seconds: float) -> None:
        """Starts the background thread of `EdgeCascade.send_queued_every`."""
        self.edge.send_queued_every(seconds)

    @contextlib.asynccontextmanager
    async def queued_answers(
        self, limit: int | None = None
    ) -> AsyncIterator[EdgePrediction]:
        """Hands out late answers: `EdgeCascade.queued_answers`, `async`."""
        handed_out = self.edge.queued_answers(limit)

        def take_back(_):
            with contextlib.suppress(asyncio.CancelledError):
                handed_out.__exit__(*_CANCELLED)

        answers = await self._to_its_end(take_back, handed_out.__enter__)
        try:
            yield answers
        except BaseException as error:
            # Not to be awaited: this task may be cancelled.
            handed_out.__exit__(type(error), error, error.__traceback__)
            raise
        await self._to_its_end(None, handed_out.__exit__, None, None, None)

    async def queue_status(self) -> QueueStatus:
        """Returns the queue's state, as `EdgeCascade.queue_status`."""
        return await self._in(self._teachers, self.edge.queue_status)

    async def dead_letters(self, limit: int | None = None) -> list[DeadLetter]:
        """Lists rows that were put aside, as `EdgeCascade.dead_letters`."""
        return await self._in(self._teachers, self.edge.dead_letters, limit)

    async def requeue(self, ids: Collection[str] | None = None) -> int:
        """Puts dead letters back into the queue, as `EdgeCascade.requeue`."""
        return await self._in(self._teachers, self.edge.requeue, ids)

    async def drop(self, ids: Collection[str]) -> int:
        """Deletes dead letters, as `EdgeCascade.drop`."""
        return await self._in(self._teachers, self.edge.drop, ids)

    async def close(self, timeout: float | None = 10.0) -> None:
        """Closes the connections and the queue, after the running calls.

        Args:
            timeout: as in `EdgeCascade.close`. A running `send_queued` ends
                after its current batch.
        """
        await asyncio.to_thread(self._close, timeout)

    async def __aenter__(self) -> AsyncEdgeCascade:
        return self

    async def __aexit__(self, *_) -> None:
        await self.close()

    def _close(self, timeout):
        self._is_closed = True
        self.edge._stop_sending()
        for threads in (self._students, self._teachers):
            threads.shutdown(wait=True, cancel_futures=True)
        self.edge.close(timeout)

    async def _fall_back(self, pending, error):
        if self.edge.on_failure != "queue":
            self.edge._fall_back(pending, error)
            return

        def withdraw(work):
            if work.exception() is None:
                self.edge.queue.remove(pending.queued_ids)

        await self._to_its_end(withdraw, self.edge._fall_back, pending, error)

    async def _in(self, threads, function, *args):
        if self._is_closed:
            raise closed_error("AsyncEdgeCascade")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, function, *args)

    async def _to_its_end(self, undo, function, *args):
        """Runs a function to its end even when the caller is cancelled.

        Then `undo(future)`, if any, follows in the same thread.
        """
        if self._is_closed:
            raise closed_error("AsyncEdgeCascade")
        work = self._teachers.submit(function, *args)
        try:
            return await asyncio.shield(asyncio.wrap_future(work))
        except asyncio.CancelledError:
            if undo is not None:
                work.add_done_callback(undo)
            raise

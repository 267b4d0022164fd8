"""The cascade on the device: student and gate here, teacher elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.runtime.inputs import InputValidator
from keras_cascade.runtime.integer_inputs import IntegerInputs
from keras_cascade.runtime.operating_points import (
    default_name,
    delegation_rules,
)
from keras_cascade.runtime.pending_prediction import (
    PendingPrediction,
    late_prediction,
)
from keras_cascade.runtime.student_runtimes import open_runtime
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.runtime.tokenized import without_tokenizer

if TYPE_CHECKING:
    from keras_cascade.runtime.inputs import Inputs
    from keras_cascade.runtime.queueing.dead_letter import DeadLetter
    from keras_cascade.runtime.queueing.queue_status import QueueStatus

#: Policy to the `source` of rows that the teacher did not answer.
SOURCES = {
    "answer": "edge_fallback",
    "abstain": "abstained",
    "raise": None,
    "queue": "queued",
}


class EdgeCascade:
    """Runs a bundle: the student on this machine, the teacher anywhere.

    Use `EdgeCascade.load(path, teacher=...)`. It is thread-safe, and a
    context manager.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        teacher: object with `logits(inputs)`, or `None`.
        on_failure: str, the policy for delegated rows when the teacher cannot
            answer: `"answer"` (the student's answer, marked
            `"edge_fallback"`), `"abstain"` (label -1), `"raise"`, or
            `"queue"` (label -1 and an id; kept in `queue` for
            `send_queued`). Defaults to `"answer"`.
        num_threads: int, threads inside one interpreter. Defaults to `1`.
        operating_point: str, the name of one of the bundle's. Defaults to
            `"default"`, or to the bundle's first where there is none.
        queue: path of a file for queued rows, or `None`. Further arguments
            of `TeacherQueue` go with a dict: `{"path": ..., "max_rows": ...}`.
            Defaults to `None`.
        log: path of a file, or `None`. Delegated inputs are kept there with
            the teacher's answers, to train the student on: see `TeacherLog`.
            Further arguments of it go with a dict: `{"path": ..., "redact":
            ...}`. Defaults to `None`.
        retries: int, attempts after the first, where another may succeed (no
            connection, timeout, overload). Defaults to `2`.
        failures_to_open: int, failed attempts in a row after which the
            teacher is not asked for a while. Defaults to `5`.
        seconds_open: float, for how long. Defaults to `10.0`.
        hedge_after: float or `None`, seconds after which a second, identical
            request is sent. The first answer wins. Defaults to `None`:
            never.
        runtime: str, what runs the student: `"interpreter"` (LiteRT's
            `Interpreter`) or `"compiled"` (its `CompiledModel`, row by row,
            for files of one row). Defaults to `"interpreter"`.
        accelerator: str, with `runtime="compiled"`: `"cpu"`, `"gpu"` or
            `"npu"`. Where LiteRT has none here, or its answers to probe rows
            are not those that the manifest states, a warning says so and the
            student runs on the CPU. Defaults to `"cpu"`.

    Attributes:
        runtime: str.
        accelerator: str, that which runs the student.

    Example:

    ```python
    url = "grpc://127.0.0.1:8001/teacher"
    with keras_cascade.runtime.EdgeCascade.load(
        "my_bundle", teacher=url, on_failure="queue", queue="waiting"
    ) as edge:
        edge.use("frugal")
        prediction = edge.predict(x)
        print(prediction.names, prediction.source, prediction.latency.total)
    ```
    """

    def __init__(
        self,
        bundle: Bundle,
        teacher: Any,
        on_failure: str = "answer",
        num_threads: int = 1,
        *,
        operating_point: str | None = None,
        queue: str | os.PathLike | dict | None = None,
        log: str | os.PathLike | dict | None = None,
        retries: int = 2,
        failures_to_open: int = 5,
        seconds_open: float = 10.0,
        hedge_after: float | None = None,
        runtime: str = "interpreter",
        accelerator: str = "cpu",
    ):
        if on_failure not in SOURCES:
            raise ValueError(
                f"Expected `on_failure` out of {list(SOURCES)}. "
                f"Received: {on_failure!r}."
            )
        if on_failure == "queue" and queue is None:
            raise ValueError(
                "Expected `queue`, the path of a file to keep rows in, with "
                "`on_failure='queue'`. Received: None."
            )
        if teacher is not None and not hasattr(teacher, "logits"):
            raise ValueError(
                "Expected `teacher` to be a URL, 'local', a path, an object "
                f"with `logits(inputs)` or None. Received: {teacher!r}."
            )
        self.bundle = bundle
        self.teacher = teacher
        self.on_failure = on_failure
        self.queue = self.log = None
        self._is_closed = False
        self._classes, self._form = bundle.classes, bundle.answer_form
        self._validate: Callable = InputValidator(
            bundle.inputs, IntegerInputs.of(bundle.student_inputs)
        )
        self.runtime = runtime
        self._student, self.accelerator = open_runtime(
            bundle, num_threads, runtime, accelerator
        )
        self._rules = delegation_rules(bundle)
        self.use(operating_point or default_name(self._rules))
        # Imported where they are used: a student alone needs neither HTTP,
        # nor retries, nor SQLite.
        self._caller: Any = None
        self._sender: Any = None
        self._row_counter = None
        if teacher is not None:
            from keras_cascade.runtime.teachers.teacher_caller import (
                TeacherCaller,
            )

            self._row_counter = _row_counter(without_tokenizer(teacher))
            self._caller = TeacherCaller(
                teacher,
                self._form.sizes,
                retries,
                failures_to_open,
                seconds_open,
                hedge_after,
            )
        if queue is not None:
            _check_fixed(self._form)
            from keras_cascade.runtime.queueing.queue_sender import QueueSender
            from keras_cascade.runtime.queueing.teacher_queue import (
                TeacherQueue,
            )

            self.queue = _open_file(TeacherQueue, queue, bundle)
            # Control rows go past the log: they are in it already.
            self._sender = QueueSender(
                self.queue,
                self,
                self._caller,
                in_process=not _is_remote(teacher),
            )
        if log is not None:
            from keras_cascade.runtime.queueing.teacher_log import TeacherLog

            self.log = _open_file(TeacherLog, log, bundle)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        teacher: Any = None,
        on_failure: str = "answer",
        timeout: float = 10.0,
        num_threads: int = 1,
        *,
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
    ) -> EdgeCascade:
        """Opens a bundle, after checking every file against its manifest.

        Args:
            path: folder of the bundle.
            teacher: where the teacher is. A URL:
                `http(s)://HOST/v1/models/NAME` (TensorFlow Serving's REST
                form), `http(s)://HOST/v2/models/NAME` (Open Inference
                Protocol v2), `grpc(s)://HOST:PORT/NAME` (the same over
                gRPC), or `http(s)://HOST:PORT`, whose protocol is detected.
                Or `"local"` for the bundle's own SavedModel in this process;
                the path of another SavedModel; an object with
                `logits(inputs)`; `None`. Defaults to `None`.
            on_failure: `"answer"`, `"abstain"`, `"raise"` or `"queue"`.
                Defaults to `"answer"`.
            timeout: float, seconds for one whole request to a URL. Defaults
                to `10.0`.
            num_threads: as in `EdgeCascade`.
            operating_point: as in `EdgeCascade`.
            queue: as in `EdgeCascade`.
            log: as in `EdgeCascade`.
            retries: as in `EdgeCascade`.
            failures_to_open: as in `EdgeCascade`.
            seconds_open: as in `EdgeCascade`.
            hedge_after: as in `EdgeCascade`.
            sha256: str, pins one bundle, as in `Bundle.load`. Defaults to
                `None`.
            public_key: path or bytes of the key that the bundle must be
                signed with, as in `Bundle.load`. Defaults to `None`.
            token: str, sent as `Authorization: Bearer`. This and all
                further arguments go with a URL, and default to `None`:
                `RemoteTeacher`'s own default.
            ca_file: path of PEM certificates to trust.
            output: str, the model's output name; by default the manifest's.
            max_rows: int, rows in one request.
            max_request_bytes: int.
            max_response_bytes: int, longer answers are not read.
            binary: bool, tensors as bytes or as JSON numbers; with `/v2/`.
            client_cert: path of this client's PEM certificate (mutual TLS).
            client_key: path of its key.
            teacher_identity: str, how the teacher, but for an object, must
                show that it is the bundle's own. `"required"`: its server
                states the identity, as `keras-cascade serve` does.
                `"probe"`: a stated identity must be the bundle's; of a server
                that states none, the logits of the manifest's probe rows must
                be, on each new connection. `"off"`: any teacher is asked.
                The answers of another one are no answers: `on_failure`
                applies. Defaults to `"probe"`.
            teacher_top_k: int, asks the server for the k largest logits of a
                row alone: with thousands of classes a hundredth of the bytes.
                The label, and the probabilities of these k classes, are then
                the teacher's; the other classes share the remaining
                probability evenly. `keras-cascade serve` knows how; other
                servers answer with all logits.
            runtime: as in `EdgeCascade`.
            accelerator: as in `EdgeCascade`.

        Returns:
            `EdgeCascade`.

        Raises:
            BundleError: a file is missing or altered, it is not the bundle
                that was pinned or signed, there is no such operating point,
                or the runtime cannot run the student.
            TeacherError: a local teacher cannot be loaded, or the queue's
                file cannot be used.
        """
        bundle = Bundle.load(path, sha256=sha256, public_key=public_key)
        teacher = open_teacher(
            teacher,
            bundle,
            timeout,
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
            top_k=teacher_top_k,
        )
        return cls(
            bundle,
            teacher,
            on_failure,
            num_threads,
            operating_point=operating_point,
            queue=queue,
            log=log,
            retries=retries,
            failures_to_open=failures_to_open,
            seconds_open=seconds_open,
            hedge_after=hedge_after,
            runtime=runtime,
            accelerator=accelerator,
        )

    @property
    def operating_point(self) -> dict:
        """The operating point in use, as the manifest's dict."""
        return self.bundle.operating_point(self._rule.name)

    @property
    def operating_points(self) -> list[str]:
        """Names of the bundle's operating points."""
        return list(self._rules)

    def use(self, name: str) -> None:
        """Switches to another operating point, from the next call on.

        Args:
            name: str, one of `operating_points`.

        Raises:
            BundleError: there is no such operating point.
        """
        if name not in self._rules:
            raise BundleError(
                f"Expected an operating point out of {self.operating_points}. "
                f"Received: {name!r}."
            )
        self._rule = self._rules[name]
        self._warn_of_another_runtime(name)

    def predict(self, x: Inputs) -> EdgePrediction:
        """Predicts one example or a batch.

        Args:
            x: array, or dict of input name to array, with the shapes of the
                manifest; the batch axis may be left out for one example. For
                texts a string, or a list of strings. Where the student's file
                takes integers by a stated scale, arrays of its own type are
                taken as such.

        Returns:
            `EdgePrediction`.

        Raises:
            ValueError: the inputs do not fit the manifest.
            TeacherError: with `on_failure="raise"`.
            QueueError: with `on_failure="queue"` when the queue is full. None
                of the call's rows is then queued.
        """
        pending = self._run_student(x)
        if len(pending.rows):
            pending.start_teacher_clock()
            try:
                pending.resolve(self.logits(pending.delegated_inputs))
            except TeacherError as error:
                self._fall_back(pending, error)
        return pending.prediction()

    def predict_alone(self, x: Inputs) -> EdgePrediction:
        """Predicts every row with the student, whatever the gate decides.

        Args:
            x: as in `predict`.

        Returns:
            `EdgePrediction` with every `source` `"edge"`.
        """
        return self._pending(x).prediction()

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Asks the teacher for logits, whatever the gate decides.

        Retries and the circuit breaker apply. As an object with `logits`, a
        cascade can be the teacher of another cascade.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: no validated answer.
        """
        if self._caller is None:
            raise TeacherError(
                "This cascade was loaded without a teacher.", not_asked=True
            )
        logits = self._caller.logits(inputs)
        if self.log is not None:
            self.log.add(inputs, logits)
        return logits

    def send_queued(self) -> int:
        """Asks the teacher about every queued row once.

        A batch that fails is sent again in halves, so that a row on which the
        teacher fails keeps no other waiting. Such a row's tries are counted;
        after five it becomes a dead letter. See docs/queue.md.

        Returns:
            int, how many rows were answered. `queued_answers` hands them out.

        Raises:
            TeacherError: the teacher does not answer; what it has answered is
                kept, the rest waits.
        """
        return self._with_queue()._sender.send()

    def send_queued_every(self, seconds: float) -> None:
        """Calls `send_queued` in a background thread, until `close`.

        A round that ends with an error is logged by
        `keras_cascade.runtime.queueing.queue_sender` and shown in
        `queue_status`; the thread goes on. Where it has ended nevertheless,
        another call starts it again.

        Args:
            seconds: float, between two rounds.
        """
        self._with_queue()._sender.start(seconds)

    @contextlib.contextmanager
    def queued_answers(
        self, limit: int | None = None
    ) -> Iterator[EdgePrediction]:
        """Hands out the teacher's answers to queued rows, each once.

        When the block ends, its rows leave the queue. When it raises, or the
        process dies in it, they are handed out again.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Yields:
            `EdgePrediction` of zero or more rows in the order in which they
            were queued, with their `ids`; `source` is `"cloud"`, or
            `"refused"` (label -1) of a row that became a dead letter. It is
            handed out once, and kept for `dead_letters`.

        Example:

        ```python
        edge.send_queued()
        with edge.queued_answers() as answers:
            for row_id, label in zip(answers.ids, answers.labels):
                store(row_id, label)
        ```
        """
        with self._with_queue().queue.answers(limit) as rows:
            yield late_prediction(rows, self._classes, self._form)

    def queue_status(self) -> QueueStatus:
        """Returns the numbers of queued rows, and the state of sending."""
        from keras_cascade.runtime.queueing.queue_status import QueueStatus

        counts = self._with_queue().queue.counts()
        return QueueStatus(
            waiting=counts["waiting"],
            answered=counts["answered"],
            dead_letters=counts["dead"],
            sending=self._sender.is_running,
            error=self._sender.error,
        )

    def dead_letters(self, limit: int | None = None) -> list[DeadLetter]:
        """Lists queued rows that were put aside, with their inputs.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Returns:
            List of `DeadLetter`, the oldest first.
        """
        return self._with_queue().queue.dead_letters(limit)

    def requeue(self, ids: Collection[str] | None = None) -> int:
        """Puts dead letters back into the queue, to be sent again.

        Args:
            ids: ids of dead letters. Defaults to `None`: all.

        Returns:
            int, how many were put back. One whose inputs are damaged stays a
            dead letter.
        """
        return self._with_queue().queue.requeue(ids)

    def drop(self, ids: Collection[str]) -> int:
        """Deletes dead letters for good.

        Args:
            ids: ids of dead letters. Other rows are left as they are.

        Returns:
            int, how many were deleted.
        """
        return self._with_queue().queue.drop(ids)

    def close(self, timeout: float | None = 10.0) -> None:
        """Closes the teacher's connections, the queue and the log.

        Also releases all per-thread interpreters. A closed cascade does not
        predict any more.

        Args:
            timeout: float or `None`, seconds to wait for the batch that
                `send_queued_every` is sending. It stays queued if it is not
                answered by then. Defaults to `10.0`.
        """
        if self._is_closed:
            return
        self._is_closed = True
        # In the way of every call, so that no call has to check.
        closed = _Closed()
        self._validate = closed.validate
        with contextlib.ExitStack() as last_first:  # whichever of them fails
            last_first.callback(setattr, self, "_caller", closed)
            last_first.callback(self._student.close)
            for part in (self.log, self.queue, self.teacher, self._caller):
                close = getattr(part, "close", None)
                if close is not None:
                    last_first.callback(close)
            if self._sender is not None:
                last_first.callback(self._sender.close, timeout)

    def __enter__(self) -> EdgeCascade:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _pending(self, x):
        started = time.perf_counter()
        inputs = self._validate(x)
        return PendingPrediction(
            inputs,
            self._student.run(inputs),
            self._rule,
            self._classes,
            started,
            self._form,
        )

    def _run_student(self, x):
        """Runs the student, and counts kept rows for the teacher's server."""
        pending = self._pending(x)
        if self._row_counter is not None:
            self._row_counter.add(len(pending) - len(pending.rows))
        return pending

    def _warn_of_another_runtime(self, name):
        """Warns of an operating point that is about other scores."""
        point = self.operating_point
        own = (self.runtime, self.accelerator)
        fitted = (point.get("runtime"), point.get("accelerator", "cpu"))
        if fitted[0] is not None and fitted != own:
            warnings.warn(
                f"The operating point '{name}' was fitted on the scores of "
                f"the runtime {fitted}, and its guarantees are about those. "
                f"This cascade has {own}.",
                stacklevel=3,
            )

    def _fall_back(self, pending, error):
        """Applies `on_failure` to rows that the teacher did not answer."""
        if self.on_failure == "queue":
            ids = self.queue.put(
                pending.delegated_inputs, *pending.student_result
            )
            pending.fall_back(error, SOURCES[self.on_failure], ids)
            return
        if self._row_counter is not None:  # no request will report them
            self._row_counter.add(len(pending.rows))
        if self.on_failure == "raise":
            raise error
        pending.fall_back(error, SOURCES[self.on_failure])

    def _stop_sending(self):
        """Ends the sending of queued rows after the batch under way."""
        if self._sender is not None:
            self._sender.stop()

    def _with_queue(self):
        if self._is_closed:
            raise closed_error()
        if self.queue is None:
            raise ValueError(
                "Expected a cascade that was loaded with `queue=`, the path "
                "of a file. This one has none."
            )
        return self


class _Closed:
    """Takes the positions of validator and teacher in a closed cascade."""

    def validate(self, x):
        raise closed_error()

    def logits(self, inputs):
        raise closed_error()


def closed_error(name: str = "EdgeCascade") -> RuntimeError:
    """Returns the error of a call to a closed cascade."""
    return RuntimeError(
        f"This cascade is closed: load it again with `{name}.load`."
    )


def _check_fixed(form):
    """Raises where late answers could not be handed out together."""
    if None in form.sizes:
        raise ValueError(
            "Expected a bundle whose answers have one size, with `queue`. "
            f"Received: answers of sizes {list(form.sizes)}, of which None is "
            "free. Export it with `input_shape`, or choose another "
            "`on_failure`."
        )


def _is_remote(teacher):
    """Returns `True` of a teacher whose answers come over a network."""
    teacher = without_tokenizer(teacher)
    if isinstance(teacher, EdgeCascade):
        return _is_remote(teacher.teacher)
    return hasattr(teacher, "row_counter")


def _row_counter(teacher):
    """Returns a remote teacher's `RowCounter`, or `None` of any other."""
    if not hasattr(teacher, "row_counter"):
        return None
    from keras_cascade.runtime.teachers.remote_teacher import RowCounter

    # Cascades that share a teacher share its count.
    teacher.row_counter = teacher.row_counter or RowCounter()
    return teacher.row_counter


def _open_file(kind, path, bundle):
    """Opens a queue or a log at a path, or with a dict of its arguments."""
    options = path if isinstance(path, dict) else {"path": path}
    return kind(
        inputs=bundle.inputs,
        classes=bundle.classes,
        form=bundle.answer_form,
        **options,
    )

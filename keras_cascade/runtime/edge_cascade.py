"""The cascade on the device."""

import contextlib
import time

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.draft import Draft
from keras_cascade.runtime.input_form import InputForm
from keras_cascade.runtime.operating_points import decisions, usual
from keras_cascade.runtime.queueing.late_prediction import late_prediction
from keras_cascade.runtime.seen_rows import SeenRows
from keras_cascade.runtime.teachers.teacher_from import teacher_from
from keras_cascade.runtime.teachers.text_teacher import behind_tokenizer
from keras_cascade.runtime.text_student import open_student

#: Policy to the `source` of rows that the teacher did not answer.
SOURCES = {
    "answer": "edge_fallback",
    "abstain": "abstained",
    "raise": None,
    "queue": "queued",
}


class EdgeCascade:
    """A bundle at work: the student here, the teacher where it lives.

    Use `EdgeCascade.load(path, teacher=...)`. Safe to call from several
    threads; a context manager.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        teacher: object with `logits(inputs)`, or `None`.
        on_failure: what becomes of delegated rows when the teacher cannot
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
            connection, time out, overload). Defaults to `2`.
        failures_to_open: int, failed attempts in a row after which the
            teacher is not asked for a while. Defaults to `5`.
        seconds_open: float, for how long. Defaults to `10.0`.
        hedge_after: float or `None`, seconds after which a second, identical
            request is sent. The first answer wins. Defaults to `None`:
            never.

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
        bundle,
        teacher,
        on_failure="answer",
        num_threads=1,
        *,
        operating_point=None,
        queue=None,
        log=None,
        retries=2,
        failures_to_open=5,
        seconds_open=10.0,
        hedge_after=None,
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
        self._classes = bundle.classes
        self._form = InputForm(bundle.inputs)
        self._student = open_student(bundle, num_threads)
        self._decisions = decisions(bundle)
        self._decision = None
        self.use(operating_point or usual(self._decisions))
        self._caller = self._sender = self._seen = None
        asked = behind_tokenizer(teacher)
        if hasattr(asked, "seen_rows"):
            self._seen = asked.seen_rows = asked.seen_rows or SeenRows()
        if teacher is not None:
            # Not before: a student alone needs none of its imports.
            from keras_cascade.runtime.teachers.teacher_caller import (
                TeacherCaller,
            )

            self._caller = TeacherCaller(
                teacher,
                len(bundle.classes),
                retries,
                failures_to_open,
                seconds_open,
                hedge_after,
            )
        if queue is not None:
            from keras_cascade.runtime.queueing.queue_sender import QueueSender
            from keras_cascade.runtime.queueing.teacher_queue import (
                TeacherQueue,
            )

            self.queue = _file(TeacherQueue, queue, bundle)
            self._sender = QueueSender(self.queue, self)
        if log is not None:
            from keras_cascade.runtime.queueing.teacher_log import TeacherLog

            self.log = _file(TeacherLog, log, bundle)

    @classmethod
    def load(
        cls, path, teacher=None, on_failure="answer", timeout=10.0,
        num_threads=1, *, operating_point=None, queue=None, log=None,
        retries=2, failures_to_open=5, seconds_open=10.0, hedge_after=None,
        **teacher_options,
    ):  # fmt: skip
        """Opens a bundle, after checking every file against its manifest.

        Args:
            path: folder of the bundle.
            teacher: where the teacher is. A URL:
                `http(s)://HOST/v1/models/NAME` (TensorFlow Serving's REST
                form), `http(s)://HOST/v2/models/NAME` (Open Inference
                Protocol v2), `grpc(s)://HOST:PORT/NAME` (the same over
                gRPC), or `http(s)://HOST:PORT`, which is asked what it
                speaks. Or `"local"` for the bundle's own SavedModel in this
                process; the path of another SavedModel; an object with
                `logits(inputs)`; `None`. Defaults to `None`.
            on_failure: `"answer"`, `"abstain"`, `"raise"` or `"queue"`.
                Defaults to `"answer"`.
            timeout: float, seconds for one whole request to a URL. Defaults
                to `10.0`.
            **teacher_options: for a URL, `token`, `ca_file`, `max_rows`,
                `max_request_bytes`, `max_response_bytes` (see
                `RemoteTeacher`) and, for `/v2/`, `binary`.

        Further arguments as in `EdgeCascade`.

        Raises:
            BundleError: a file is missing or altered, or there is no such
                operating point.
            TeacherError: a local teacher cannot be loaded, or the queue's
                file cannot be used.
        """
        bundle = Bundle.load(path)
        return cls(
            bundle,
            teacher_from(teacher, bundle, timeout, teacher_options),
            on_failure,
            num_threads,
            operating_point=operating_point,
            queue=queue,
            log=log,
            retries=retries,
            failures_to_open=failures_to_open,
            seconds_open=seconds_open,
            hedge_after=hedge_after,
        )

    @property
    def operating_point(self):
        """The operating point in use, as the manifest's dict."""
        return self.bundle.operating_point(self._decision.name)

    @property
    def operating_points(self):
        """Names of the bundle's operating points."""
        return list(self._decisions)

    def use(self, name):
        """Switches to another operating point, from the next call on.

        Args:
            name: str, one of `operating_points`.

        Raises:
            BundleError: there is no such operating point.
        """
        if name not in self._decisions:
            raise BundleError(
                f"Expected an operating point out of {self.operating_points}. "
                f"Received: {name!r}."
            )
        self._decision = self._decisions[name]

    def predict(self, x):
        """Answers one example or a batch.

        Args:
            x: array, or dict of input name to array, with the shapes of the
                manifest; the batch axis may be left out for one example. For
                texts a string, or a list of strings.

        Returns:
            `EdgePrediction`.

        Raises:
            ValueError: the inputs do not fit the manifest.
            TeacherError: with `on_failure="raise"`.
            QueueError: with `on_failure="queue"` when the queue is full. None
                of the call's rows is then queued.
        """
        draft = self._counted_draft(x)
        if len(draft.rows):
            questions = draft.questions()
            try:
                draft.answer(self.logits(questions))
            except TeacherError as error:
                self._settle(draft, questions, error)
        return draft.prediction()

    def predict_alone(self, x):
        """The student's answers on every row, whatever the gate says.

        Args:
            x: as in `predict`.

        Returns:
            `EdgePrediction` with every `source` `"edge"`.
        """
        return self._draft(x).prediction()

    def logits(self, inputs):
        """The teacher's logits, whatever the gate says.

        Retries and the circuit breaker apply. Being an object with `logits`,
        a cascade's teacher may be another cascade's.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.

        Raises:
            TeacherError: no answer that can be believed.
        """
        if self._caller is None:
            raise TeacherError("This cascade was loaded without a teacher.")
        logits = self._caller.logits(inputs)
        if self.log is not None:
            self.log.add(inputs, logits)
        return logits

    def send_queued(self):
        """Asks the teacher about every queued row once.

        Returns:
            int, how many rows were answered. `queued_answers` hands them out.

        Raises:
            TeacherError: the teacher does not answer; what it has answered is
                kept, the rest waits.
        """
        return self._with_queue()._sender.send()

    def send_queued_every(self, seconds):
        """Calls `send_queued` in a thread of its own, until `close`.

        A round in which the teacher does not answer is logged as a warning
        of `keras_cascade.runtime.queueing.queue_sender`.

        Args:
            seconds: float, between two rounds.
        """
        self._with_queue()._sender.start(seconds)

    @contextlib.contextmanager
    def queued_answers(self, limit=None):
        """Hands out the teacher's answers to queued rows, each once.

        When the block ends, its rows leave the queue. When it raises, or the
        process dies in it, they are handed out again.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Yields:
            `EdgePrediction` of zero or more rows in the order in which they
            were queued, with their `ids`; `source` is `"cloud"`, or
            `"refused"` (label -1) where the teacher does not take the inputs.

        Example:

        ```python
        edge.send_queued()
        with edge.queued_answers() as answers:
            for name, label in zip(answers.ids, answers.labels):
                store(name, label)
        ```
        """
        with self._with_queue().queue.answers(limit) as rows:
            yield late_prediction(rows, self._classes)

    def close(self):
        """Closes the teacher's connections, the queue and the log.

        Also lets go of every thread's interpreter.
        """
        if self._sender is not None:
            self._sender.close()
        if self._caller is not None:
            self._caller.close()
        if hasattr(self.teacher, "close"):
            self.teacher.close()
        for file in (self.queue, self.log):
            if file is not None:
                file.close()
        self._student.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _draft(self, x):
        started = time.perf_counter()
        inputs = self._form(x)
        return Draft(
            inputs,
            self._student.run(inputs),
            self._decision,
            self._classes,
            started,
        )

    def _counted_draft(self, x):
        """A draft whose kept rows the teacher will be told of."""
        draft = self._draft(x)
        if self._seen is not None:
            self._seen.add(len(draft) - len(draft.rows))
        return draft

    def _settle(self, draft, questions, error):
        """What the policy says about rows that the teacher did not answer."""
        if self.on_failure == "queue":
            ids = self.queue.put(questions, *draft.of_the_student())
            draft.fail(error, SOURCES[self.on_failure], ids)
            return
        if self._seen is not None:  # no request will carry them
            self._seen.add(len(draft.rows))
        if self.on_failure == "raise":
            raise error
        draft.fail(error, SOURCES[self.on_failure])

    def _with_queue(self):
        if self.queue is None:
            raise ValueError(
                "Expected a cascade that was loaded with `queue=`, the path "
                "of a file. This one has none."
            )
        return self


def _file(kind, given, bundle):
    """A queue or a log: from its path, or from a dict with more arguments."""
    options = given if isinstance(given, dict) else {"path": given}
    return kind(inputs=bundle.inputs, classes=bundle.classes, **options)

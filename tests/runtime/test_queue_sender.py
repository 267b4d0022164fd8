"""`QueueSender`: whose fault a failure is, and the thread that sends."""

import contextlib
import logging
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_cascade.errors import QueueError, TeacherError
from keras_cascade.runtime import AsyncEdgeCascade, EdgeCascade, TeacherQueue
from keras_cascade.runtime.queueing.queue_sender import (
    BATCH,
    TRIES,
    QueueSender,
)
from tests.helpers.scripted_teacher import ScriptedTeacher, sums, unavailable

SPECS = [{"name": "input", "shape": [None, 6], "dtype": "float32"}]
CLASSES = ["a", "b", "c", "d"]
BROKEN = TeacherError("status 500")
#: Failures that name no row, of a server that fails on everything.
PORTALS = [
    BROKEN,
    TeacherError("status 302"),
    TeacherError("not JSON", invalid_answer=True),
    TeacherError("status 400", about_input=True),
    TeacherError("status 404", refused=True),
    TeacherError("another teacher", stranger=True),
    TeacherError("another teacher's 400", stranger=True, about_input=True),
    TeacherError("gone", retryable=True),
]


@pytest.fixture
def queue(tmp_path):
    opened = TeacherQueue(tmp_path / "queue", SPECS, CLASSES)
    yield opened
    opened.close()


def put(queue, rows, start=0):
    """Puts rows whose values are their numbers; returns their ids."""
    x = np.arange(start, start + rows, dtype="float32")
    x = np.repeat(x[:, None], 6, axis=1)
    flat = np.full((rows, 4), 0.25, "float32")
    return queue.put({"input": x}, np.zeros(rows), flat, "default")


class Server:
    """Fails on rows with these values; counts requests and rows."""

    def __init__(self, failure, poison):
        self.failure = failure
        self.poison = set(poison)
        self.requests = 0
        self.failures_in_a_row = self.most_in_a_row = 0

    def logits(self, inputs):
        self.requests += 1
        if self.poison & set(inputs["input"][:, 0].tolist()):
            self.failures_in_a_row += 1
            self.most_in_a_row = max(self.most_in_a_row, self.failures_in_a_row)
            raise self.failure
        self.failures_in_a_row = 0
        return sums(inputs)


def remote(queue, teacher):
    return QueueSender(queue, teacher, in_process=False)


def nothing_counted(queue, ids):
    rows = queue.read(ids)
    return sorted(queue.waiting()) == sorted(ids) and not any(
        row.tries for row in rows
    )


def test_one_poison_row_keeps_no_other_waiting(queue):
    ids = put(queue, 595)
    server = Server(BROKEN, [100])
    sender = remote(queue, server)
    assert sender.send() == 594
    assert queue.waiting() == [ids[100]]
    # Ten batches, two halves at each of six sizes, and a control row now and
    # then: after the row itself, and after two failures in a row.
    assert server.requests <= 10 + 12 + 7
    # Fewer in a row than open the circuit.
    assert server.most_in_a_row < 5
    for tries in range(1, TRIES):
        (row,) = queue.read([ids[100]])
        assert row.tries == tries
        assert sender.send() == 0
    (letter,) = queue.dead_letters()
    assert (letter.id, letter.reason) == (ids[100], "failed")
    assert letter.error_message == "status 500"
    assert letter.inputs["input"][0] == 100
    assert sender.send() == 0


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    poison=st.sets(st.integers(0, 149), max_size=20),
    failure=st.sampled_from(
        [BROKEN, TeacherError("NaN", invalid_answer=True), ValueError("bug")]
    ),
)
def test_any_poison_rows(tmp_path_factory, poison, failure):
    """Every other row is answered, and every poison row put aside."""
    file = tmp_path_factory.mktemp("poison") / "queue"
    queue = TeacherQueue(file, SPECS, CLASSES)
    ids = put(queue, 150)
    sender = remote(queue, Server(failure, poison))
    rounds = 0
    while queue.waiting():
        rounds += 1
        assert rounds < 60
        try:
            sender.send()
        except type(failure):
            assert poison
    letters = queue.dead_letters()
    assert [one.id for one in letters] == [ids[i] for i in sorted(poison)]
    assert {one.reason for one in letters} <= {"failed"}
    queue.close()


@pytest.mark.parametrize("error", PORTALS, ids=str)
@pytest.mark.parametrize("answered_before", [False, True])
def test_an_outage_is_no_rows_fault(queue, error, answered_before):
    """Whatever fails on everything: no try is counted, few requests made."""
    sender = remote(queue, ScriptedTeacher(sums))
    if answered_before:
        put(queue, 1)
        sender.send()
    ids = put(queue, 150, start=1)
    sender._caller.script = [error]
    sender._control = sender._caller
    for _ in range(2 * TRIES):
        before = len(sender._caller.asked)
        with pytest.raises(TeacherError, match=str(error)):
            sender.send()
        assert len(sender._caller.asked) - before <= 4
        assert sender.error is error
    assert nothing_counted(queue, ids)
    assert queue.dead_letters() == []
    sender._caller.script = [sums]
    while queue.waiting():
        sender.send()
    assert sender.error is None
    with queue.answers() as answers:
        assert all(row.logits is not None for row in answers)
        assert len(answers) == 150 + answered_before


@pytest.mark.parametrize("error", PORTALS, ids=str)
def test_one_row_in_an_outage(queue, error):
    """It fails alone, and still nobody knows whose fault it is."""
    ids = put(queue, 1)
    sender = remote(queue, ScriptedTeacher(error))
    for _ in range(2 * TRIES):
        with pytest.raises(TeacherError):
            sender.send()
    assert nothing_counted(queue, ids)


def test_a_teacher_that_dies_after_a_failure(queue):
    """A row fails alone, but then the control row fails as well."""
    put(queue, 1)
    sender = remote(queue, ScriptedTeacher(sums))
    sender.send()
    ids = put(queue, 1, start=1)
    sender._caller.script = [BROKEN, unavailable()] * (2 * TRIES)
    for _ in range(2 * TRIES - 1):
        with pytest.raises(TeacherError, match="status 500"):
            sender.send()
    assert nothing_counted(queue, ids)


@pytest.mark.parametrize("in_process", [False, True])
@pytest.mark.parametrize("identified", [False, True])
def test_only_a_proven_teacher_gives_a_row_up(queue, identified, in_process):
    ids = put(queue, 100)
    error = TeacherError("no", about_input=True, identified=identified)
    server = Server(error, [7])
    sender = QueueSender(queue, server, in_process=in_process)
    assert sender.send() == 99
    for _ in range(3 * TRIES):
        sender.send()
    if identified or in_process:
        (letter,) = queue.dead_letters()
        assert (letter.id, letter.reason) == (ids[7], "refused")
        assert letter.inputs["input"][0] == 7
        return
    assert queue.waiting() == [ids[7]]
    assert queue.read([ids[7]])[0].tries == 1 + 3 * TRIES
    # The right teacher comes back.
    server.poison = set()
    assert sender.send() == 1


def test_many_rows_that_an_unproven_teacher_rejects(queue):
    """They do not multiply the requests of every round for ever."""
    put(queue, 2 * BATCH)
    error = TeacherError("no", about_input=True)
    server = Server(error, range(1, 2 * BATCH))
    sender = remote(queue, server)
    while len(queue.waiting()) == 2 * BATCH:  # until one has been answered
        with contextlib.suppress(TeacherError):
            sender.send()
    queue.postpone(queue.waiting() * TRIES)
    server.requests = 0
    sender.send()
    assert server.requests <= 2 * BATCH  # each with its control row
    assert queue.dead_letters() == []


def test_a_row_that_breaks_the_connection_stays_alone_in_the_end(queue):
    """It looks like an outage: never counted, but sent after all others."""
    ids = put(queue, 4 * BATCH)
    sender = remote(queue, Server(unavailable(), [10]))
    for _ in range(12):
        with pytest.raises(TeacherError, match="gone"):
            sender.send()
    assert queue.waiting() == [ids[10]]
    assert nothing_counted(queue, [ids[10]])


def test_an_exception_of_a_teacher_in_this_process(queue, caplog):
    ids = put(queue, 100)
    sender = QueueSender(queue, Server(ValueError("bug"), [5]))
    assert sender.send() == 99
    assert "ValueError: bug" in caplog.text
    for _ in range(TRIES - 1):
        sender.send()
    (letter,) = queue.dead_letters()
    assert letter.id == ids[5]
    assert letter.error_message == "ValueError: bug"


def test_the_circuit_stays_closed(bundle_path, blobs, tmp_path):
    """With the defaults of a cascade, and rows that come meanwhile."""
    x, _ = blobs(60)
    with EdgeCascade.load(
        bundle_path,
        ScriptedTeacher(unavailable()),
        on_failure="queue",
        queue=tmp_path / "queue",
        retries=0,
        log=tmp_path / "log",
    ) as edge:
        ids = [row_id for row_id in edge.predict(x).ids if row_id]
        worst = edge.queue.read(ids[:1])[0].inputs["input"][0]
        edge.teacher.script = [
            Server(BROKEN, [float(worst)]).logits
        ]  # fmt: skip
        assert edge.send_queued() == len(ids) - 1
        for _ in range(TRIES - 1):
            edge.send_queued()
        assert [one.reason for one in edge.dead_letters()] == ["failed"]
        # Control rows are not logged again.
        assert len(edge.log) == len(ids) - 1


def test_an_open_circuit_is_no_rows_fault(bundle_path, tmp_path):
    with EdgeCascade.load(
        bundle_path,
        ScriptedTeacher(sums),
        on_failure="queue",
        queue=tmp_path / "queue",
        failures_to_open=1,
        seconds_open=1e6,
    ) as edge:
        put(edge.queue, 1)
        assert edge.send_queued() == 1
        ids = put(edge.queue, 3, start=1)
        edge.teacher.script = [BROKEN]
        for _ in range(2 * TRIES):
            with pytest.raises(TeacherError):
                edge.send_queued()
        assert edge.queue_status().error.not_asked
        assert nothing_counted(edge.queue, ids)
        # The first request of all opened the circuit.
        assert len(edge.teacher.asked) == 2


# The thread.


class Clock:
    """In the position of the sender's event: the test is the clock."""

    def __init__(self):
        self._rounds = threading.Semaphore(0)
        self._ended = threading.Semaphore(0)
        self._set = False

    def wait(self, seconds):
        self._ended.release()
        self._rounds.acquire()
        return self._set

    def set(self):
        self._set = True
        self._rounds.release()

    def begin(self):
        """Waits until the thread waits for the first time."""
        self._ended.acquire()

    def round(self):
        """Lets one round happen."""
        self._rounds.release()
        self._ended.acquire()


@pytest.fixture
def running(queue):
    """A sender whose thread runs, and its clock."""
    sender = QueueSender(queue, ScriptedTeacher(sums))
    sender._stop = Clock()
    sender.start(60.0)
    sender._stop.begin()
    yield sender
    sender._caller.script = [sums]
    sender.close()
    assert not [t for t in threading.enumerate() if t.name == "queue"]


@pytest.mark.parametrize(
    "error", [ValueError("bug"), MemoryError(), unavailable(), OSError("disk")]
)
def test_the_thread_survives_and_shows_the_error(running, queue, caplog, error):
    put(queue, 3)
    running._caller.script = [error]
    with caplog.at_level(logging.WARNING):
        running._stop.round()
    assert running.is_running
    assert running.error is error
    assert "Queued rows wait on" in caplog.text
    running._caller.script = [sums]
    running._stop.round()
    assert running.error is None
    assert queue.waiting() == []


def test_a_broken_queue_does_not_end_the_thread(running, queue, monkeypatch):
    def broken():
        raise QueueError("disk full")

    monkeypatch.setattr(queue, "waiting", broken)
    running._stop.round()
    assert str(running.error) == "disk full"
    assert running.is_running


@pytest.mark.filterwarnings("ignore:Exception in thread queue")
def test_a_thread_that_has_ended_is_started_again(queue, monkeypatch):
    """`SystemExit` ends a thread without a word."""
    ended = threading.Event()

    def leave(inputs):
        ended.set()
        raise SystemExit

    put(queue, 3)
    sender = QueueSender(queue, ScriptedTeacher(leave))
    sender._stop = Clock()
    sender.start(60.0)
    sender._stop.begin()
    first = sender._thread
    sender._stop._rounds.release()
    first.join()
    assert ended.is_set()
    assert not sender.is_running
    sender._caller.script = [sums]
    sender.start(60.0)
    sender._stop.begin()
    assert sender.is_running
    sender._stop.round()
    assert queue.waiting() == []
    sender.close()


class Stuck:
    """A teacher that answers when it is let go."""

    def __init__(self):
        self.entered, self.release = threading.Event(), threading.Event()
        self.asked = 0

    def logits(self, inputs):
        self.asked += 1
        self.entered.set()
        self.release.wait()
        return sums(inputs)


def test_close_abandons_the_batch_under_way(bundle_path, tmp_path):
    """Its rows stay queued, and its late answer is not stored."""
    stuck = Stuck()
    options = {"on_failure": "queue", "queue": tmp_path / "queue"}
    edge = EdgeCascade.load(bundle_path, stuck, **options)
    ids = put(edge.queue, 3 * BATCH)
    edge.send_queued_every(1e-6)
    stuck.entered.wait()
    thread = edge._sender._thread
    edge.close(timeout=0.0)
    assert thread.is_alive()
    again = EdgeCascade.load(bundle_path, ScriptedTeacher(sums), **options)
    assert again.queue.waiting() == ids
    stuck.release.set()
    thread.join()
    assert stuck.asked == 1
    assert again.queue.waiting() == ids
    assert again.send_queued() == len(ids)
    with again.queued_answers() as answers:
        assert answers.ids == ids
    again.close()


def test_close_waits_for_the_batch_under_way_alone(bundle_path, tmp_path):
    """1,234 rows are 20 batches: the round ends after the first."""
    stuck = Stuck()
    edge = EdgeCascade.load(
        bundle_path, stuck, on_failure="queue", queue=tmp_path / "queue"
    )
    put(edge.queue, 1234)
    edge.send_queued_every(1e-6)
    stuck.entered.wait()
    stopped = threading.Event()
    stop = edge._sender.stop

    def stop_and_tell():
        stop()
        stopped.set()

    edge._sender.stop = stop_and_tell
    closing = threading.Thread(target=edge.close, args=(None,))
    closing.start()
    stopped.wait()
    stuck.release.set()
    closing.join()
    assert stuck.asked == 1


def test_closing_ends_a_running_send_queued(bundle_path, tmp_path):
    import asyncio

    stuck = Stuck()

    async def work():
        edge = AsyncEdgeCascade.load(
            bundle_path, stuck, on_failure="queue", queue=tmp_path / "queue"
        )
        put(edge.edge.queue, 1234)
        sending = asyncio.ensure_future(edge.send_queued())
        await asyncio.to_thread(stuck.entered.wait)
        closing = asyncio.ensure_future(edge.close())
        while not edge.edge._sender._closed:
            await asyncio.sleep(0)
        stuck.release.set()
        await closing
        return await sending

    # The answer of the batch under way came after `close`.
    assert asyncio.run(work()) == 0
    assert stuck.asked == 1


# Closed cascades.

CLOSED = r"^This cascade is closed: load it again with `{}\.load`\.$"


def test_a_closed_cascade_refuses(bundle_path, blobs, tmp_path):
    x, _ = blobs(60)
    edge = EdgeCascade.load(
        bundle_path, ScriptedTeacher(sums), queue=tmp_path / "queue"
    )
    edge.predict(x)
    edge.close()
    edge.close()
    for call in (
        lambda: edge.predict(x),
        lambda: edge.predict_alone(x),
        lambda: edge.logits({"input": x}),
        edge.send_queued,
        lambda: edge.send_queued_every(1.0),
        lambda: edge.queued_answers().__enter__(),
        edge.dead_letters,
        edge.requeue,
        edge.queue_status,
        lambda: edge.drop([]),
    ):
        with pytest.raises(RuntimeError, match=CLOSED.format("EdgeCascade")):
            call()


def test_a_closed_cascade_refuses_with_await(bundle_path, blobs, tmp_path):
    import asyncio

    x, _ = blobs(60)

    async def work():
        edge = AsyncEdgeCascade.load(
            bundle_path, ScriptedTeacher(sums), queue=tmp_path / "queue"
        )
        await edge.predict(x)
        await edge.close()
        await edge.close()
        for call in (
            lambda: edge.predict(x),
            lambda: edge.predict_alone(x),
            lambda: edge.logits({"input": x}),
            edge.send_queued,
            lambda: edge.queued_answers().__aenter__(),
            edge.dead_letters,
        ):
            with pytest.raises(
                RuntimeError, match=CLOSED.format("AsyncEdgeCascade")
            ):
                await call()
        with pytest.raises(RuntimeError, match=CLOSED.format("EdgeCascade")):
            edge.send_queued_every(1.0)

    asyncio.run(work())

"""Delegated examples kept on disk until the teacher answers."""

import contextlib
import os
import threading
import uuid

from keras_cascade.errors import QueueError
from keras_cascade.runtime.queueing.packing import packed, unpacked
from keras_cascade.runtime.queueing.queued_row import QueuedRow
from keras_cascade.runtime.queueing.sqlite_file import SqliteFile, fits

MEBIBYTE = 1024 * 1024
_WAITING = "logits IS NULL AND refusal IS NULL"
_ANSWERED = "logits IS NOT NULL OR refusal IS NOT NULL"
_TABLES = (
    """CREATE TABLE IF NOT EXISTS rows (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        bytes INTEGER NOT NULL,
        inputs BLOB NOT NULL,
        score REAL,
        probabilities BLOB NOT NULL,
        operating_point TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        logits BLOB,
        refusal TEXT
    )""",
    f"""CREATE INDEX IF NOT EXISTS waiting ON rows (tries, seq, id)
        WHERE {_WAITING}""",
    f"CREATE INDEX IF NOT EXISTS answered ON rows (seq, id) WHERE {_ANSWERED}",
    # Kept by the database itself: counting would read every input again.
    "CREATE TABLE IF NOT EXISTS totals (rows INTEGER, bytes INTEGER)",
    """INSERT INTO totals SELECT 0, 0
        WHERE NOT EXISTS (SELECT * FROM totals)""",
    """CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON rows BEGIN
        UPDATE totals SET rows = rows + 1, bytes = bytes + NEW.bytes;
    END""",
    """CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON rows BEGIN
        UPDATE totals SET rows = rows - 1, bytes = bytes - OLD.bytes;
    END""",
)


class TeacherQueue:
    """An SQLite file of delegated examples and the teacher's late answers.

    What `put` has returned for is on disk: a process that is killed, or a
    machine that loses power, loses none of it. Every row has an id; an answer
    is stored once for an id and handed out once. The file belongs to one
    process at a time, and only its user may read it.

    The queue is bounded. A `put` that would exceed `max_rows` or `max_bytes`
    keeps none of its rows and raises a `QueueError`; rows that are there are
    never dropped to make room. Answers that nobody has taken count too.

    Args:
        path: path of the file; made where there is none.
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.
        max_rows: int. Defaults to `10_000`.
        max_bytes: int, of inputs. Defaults to 256 MiB.
    """

    def __init__(
        self, path, inputs, classes, max_rows=10_000, max_bytes=256 * MEBIBYTE
    ):
        self.path = os.fspath(path)
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._names = [spec["name"] for spec in inputs]
        self._lock = threading.Lock()
        self._handed_out = set()
        self._file = SqliteFile(path, "queue", _TABLES, fits(inputs, classes))

    def __len__(self):
        with self._file.transaction() as db:
            return self._totals(db)[0]

    def put(self, inputs, scores, probabilities, operating_point):
        """Keeps rows, all of them or none.

        Args:
            inputs: dict of input name to array, batch first.
            scores: float array `(rows,)`, the gate's.
            probabilities: float array `(rows, classes)`, the student's.
            operating_point: str.

        Returns:
            List of str, the rows' ids.

        Raises:
            QueueError: full, or the file cannot be written.
        """
        blobs = [
            packed([inputs[name][row] for name in self._names])
            for row in range(len(scores))
        ]
        ids = [uuid.uuid4().hex for _ in blobs]
        size = sum(map(len, blobs))
        with self._file.transaction() as db:
            rows, held = self._totals(db)
            if (
                rows + len(blobs) > self.max_rows
                or held + size > self.max_bytes
            ):
                raise QueueError(
                    f"The queue '{self.path}' is full: {rows} of "
                    f"{self.max_rows} rows, {held} of "
                    f"{self.max_bytes} bytes, and {len(blobs)} more rows of "
                    f"{size} bytes. None of them was kept. Send what waits "
                    "with `send_queued()`, take what was answered with "
                    "`queued_answers()`, or allow a larger queue."
                )
            db.executemany(
                "INSERT INTO rows (id, inputs, bytes, score, probabilities, "
                "operating_point) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (name, blob, len(blob), float(score), packed([p]), point)
                    for name, blob, score, p, point in zip(
                        ids,
                        blobs,
                        scores,
                        probabilities,
                        [operating_point] * len(ids),
                        strict=True,
                    )
                ],
            )
            return ids

    def waiting(self):
        """Ids of the rows without an answer, the least tried first."""
        return self._ids(f"WHERE {_WAITING} ORDER BY tries, seq")

    def read(self, ids):
        """The rows of these ids that are still there.

        Returns:
            List of `QueuedRow`.
        """
        found = []
        with self._file.transaction() as db:
            for name in ids:
                found += db.execute(
                    "SELECT id, inputs, score, probabilities, "
                    "operating_point, tries, logits, refusal FROM rows "
                    "WHERE id = ?",
                    (name,),
                ).fetchall()
        return [self._row(*one) for one in found]

    def store(self, ids, logits):
        """Stores the teacher's answers; an id's second answer is dropped.

        Args:
            ids: list of str.
            logits: float32 array `(rows, classes)`.

        Returns:
            int, how many were stored.
        """
        with self._file.transaction() as db:
            return sum(
                db.execute(
                    f"UPDATE rows SET logits = ? WHERE id = ? AND {_WAITING}",
                    (packed([one]), name),
                ).rowcount
                for name, one in zip(ids, logits, strict=True)
            )

    def refuse(self, name, why):
        """Ends a row's wait: the teacher does not take its inputs."""
        with self._file.transaction() as db:
            db.execute(
                f"UPDATE rows SET refusal = ? WHERE id = ? AND {_WAITING}",
                (why, name),
            )

    def postpone(self, ids):
        """Counts an answer that could not be believed."""
        with self._file.transaction() as db:
            db.executemany(
                "UPDATE rows SET tries = tries + 1 WHERE id = ?",
                [(name,) for name in ids],
            )

    def remove(self, ids):
        """Forgets rows."""
        with self._file.transaction() as db:
            db.executemany(
                "DELETE FROM rows WHERE id = ?", [(name,) for name in ids]
            )

    @contextlib.contextmanager
    def answers(self, limit=None):
        """Hands out rows with an answer, in the order they were put in.

        No other thread is given them meanwhile. When the block ends they are
        removed; when it raises, or the process dies in it, they are handed
        out again.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Yields:
            List of `QueuedRow`.
        """
        with self._lock:
            ids = [
                name
                for name in self._ids(f"WHERE {_ANSWERED} ORDER BY seq")
                if name not in self._handed_out
            ][:limit]
            self._handed_out.update(ids)
        try:
            yield self.read(ids)
            self.remove(ids)
        finally:
            with self._lock:
                self._handed_out.difference_update(ids)

    def close(self):
        """Closes the file, so that another process may open it."""
        self._file.close()

    def _totals(self, db):
        """Rows and bytes that are held."""
        return db.execute("SELECT rows, bytes FROM totals").fetchone()

    def _ids(self, where):
        with self._file.transaction() as db:
            found = db.execute(f"SELECT id FROM rows {where}").fetchall()
        return [name for (name,) in found]

    def _row(self, name, raw, score, probabilities, point, tries, logits, no):
        return QueuedRow(
            id=name,
            inputs=dict(
                zip(self._names, unpacked(raw, len(self._names)), strict=True)
            ),
            score=float("nan") if score is None else score,
            probabilities=unpacked(probabilities, 1)[0],
            operating_point=point,
            tries=tries,
            logits=None if logits is None else unpacked(logits, 1)[0],
            refusal=no,
        )

"""Queue on disk of delegated examples that wait for the teacher."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import uuid
from collections.abc import Iterator

import numpy as np

from keras_cascade.errors import QueueError
from keras_cascade.runtime.queueing.packed_arrays import (
    pack_arrays,
    unpack_arrays,
)
from keras_cascade.runtime.queueing.sqlite_file import (
    SqliteFile,
    content_format,
)

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
    """SQLite file of delegated examples and the teacher's late answers.

    When `put` returns its rows are on disk: a process that is killed, or a
    machine that loses power, loses none of them. Every row has an id; an
    answer is stored once per id and handed out once. The file is open in one
    process at a time, and only its user may read it.

    The queue is bounded. A `put` that would exceed `max_rows` or `max_bytes`
    keeps none of its rows and raises a `QueueError`; earlier rows are never
    dropped to make room. Answers that nobody has taken count too.

    Args:
        path: path of the file; created where there is none.
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.
        max_rows: int. Defaults to `10_000`.
        max_bytes: int, of inputs. Defaults to 256 MiB.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        inputs: list[dict],
        classes: list[str],
        max_rows: int = 10_000,
        max_bytes: int = 256 * MEBIBYTE,
    ):
        self.path = os.fspath(path)
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._names = [spec["name"] for spec in inputs]
        self._lock = threading.Lock()
        self._handed_out: set[str] = set()
        self._file = SqliteFile(
            path, "queue", _TABLES, content_format(inputs, classes)
        )

    def __len__(self) -> int:
        with self._file.transaction() as db:
            return self._totals(db)[0]

    def put(
        self,
        inputs: dict[str, np.ndarray],
        scores: np.ndarray,
        probabilities: np.ndarray,
        operating_point: str,
    ) -> list[str]:
        """Stores rows, all of them or none.

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
            pack_arrays([inputs[name][row] for name in self._names])
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
                    (
                        row_id,
                        blob,
                        len(blob),
                        float(score),
                        pack_arrays([p]),
                        operating_point,
                    )
                    for row_id, blob, score, p in zip(
                        ids,
                        blobs,
                        scores,
                        probabilities,
                        strict=True,
                    )
                ],
            )
            return ids

    def waiting(self) -> list[str]:
        """Returns the ids of unanswered rows, the least tried first."""
        return self._ids(f"WHERE {_WAITING} ORDER BY tries, seq")

    def read(self, ids: list[str]) -> list[QueuedRow]:
        """Reads the rows of these ids that are still stored.

        Returns:
            List of `QueuedRow`.
        """
        records = []
        with self._file.transaction() as db:
            for row_id in ids:
                records += db.execute(
                    "SELECT id, inputs, score, probabilities, "
                    "operating_point, tries, logits, refusal FROM rows "
                    "WHERE id = ?",
                    (row_id,),
                ).fetchall()
        return [self._row(*record) for record in records]

    def store(self, ids: list[str], logits: np.ndarray) -> int:
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
                    (pack_arrays([answer]), row_id),
                ).rowcount
                for row_id, answer in zip(ids, logits, strict=True)
            )

    def reject(self, row_id: str, error_message: str) -> None:
        """Ends a row's wait: the teacher does not take its inputs."""
        with self._file.transaction() as db:
            db.execute(
                f"UPDATE rows SET refusal = ? WHERE id = ? AND {_WAITING}",
                (error_message, row_id),
            )

    def postpone(self, ids: list[str]) -> None:
        """Counts an answer that failed validation."""
        with self._file.transaction() as db:
            db.executemany(
                "UPDATE rows SET tries = tries + 1 WHERE id = ?",
                [(row_id,) for row_id in ids],
            )

    def remove(self, ids: list[str]) -> None:
        """Deletes rows."""
        with self._file.transaction() as db:
            db.executemany(
                "DELETE FROM rows WHERE id = ?", [(row_id,) for row_id in ids]
            )

    @contextlib.contextmanager
    def answers(self, limit: int | None = None) -> Iterator[list[QueuedRow]]:
        """Hands out answered rows, in the order in which they were queued.

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
                row_id
                for row_id in self._ids(f"WHERE {_ANSWERED} ORDER BY seq")
                if row_id not in self._handed_out
            ][:limit]
            self._handed_out.update(ids)
        try:
            yield self.read(ids)
            self.remove(ids)
        finally:
            with self._lock:
                self._handed_out.difference_update(ids)

    def close(self) -> None:
        """Closes the file, so that another process may open it."""
        self._file.close()

    def _totals(self, db):
        """Returns the numbers of stored rows and bytes."""
        return db.execute("SELECT rows, bytes FROM totals").fetchone()

    def _ids(self, where):
        with self._file.transaction() as db:
            records = db.execute(f"SELECT id FROM rows {where}").fetchall()
        return [row_id for (row_id,) in records]

    def _row(
        self, row_id, raw, score, probabilities, point, tries, logits, message
    ):
        return QueuedRow(
            id=row_id,
            inputs=dict(
                zip(
                    self._names,
                    unpack_arrays(raw, len(self._names)),
                    strict=True,
                )
            ),
            score=float("nan") if score is None else score,
            probabilities=unpack_arrays(probabilities, 1)[0],
            operating_point=point,
            tries=tries,
            logits=None if logits is None else unpack_arrays(logits, 1)[0],
            error_message=message,
        )


@dataclasses.dataclass(frozen=True, eq=False)
class QueuedRow:
    """A delegated example of the queue, with its answer where there is one.

    Attributes:
        id: str, the row's name in predictions.
        inputs: dict of input name to array, without a batch axis. Text is a
            `str` in an array of dtype `object`.
        score: float, the gate's.
        probabilities: float32 array `(classes,)`, the student's.
        operating_point: str.
        tries: int, answers so far that failed validation.
        logits: float32 array `(classes,)`, the teacher's, or `None`.
        error_message: str or `None`, why the teacher does not take these
            inputs.
    """

    id: str
    inputs: dict[str, np.ndarray]
    score: float
    probabilities: np.ndarray
    operating_point: str
    tries: int = 0
    logits: np.ndarray | None = None
    error_message: str | None = None

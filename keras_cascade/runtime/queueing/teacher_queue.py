"""Queue on disk of delegated examples that wait for the teacher."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import uuid
from collections.abc import Collection, Iterator

import numpy as np

from keras_cascade.errors import QueueError
from keras_cascade.runtime.queueing.dead_letter import (
    DAMAGED,
    REFUSED,
    DeadLetter,
)
from keras_cascade.runtime.queueing.packed_arrays import pack_arrays
from keras_cascade.runtime.queueing.queue_tables import (
    COLUMNS,
    DEAD,
    HANDED_OUT,
    PUT_ASIDE,
    PUT_BACK,
    TABLES,
    WAITING,
    upgrade_queue,
)
from keras_cascade.runtime.queueing.queued_row import (
    QueuedRow,
    StoredRow,
    checksum,
)
from keras_cascade.runtime.queueing.sqlite_file import (
    SqliteFile,
    content_format,
)
from keras_cascade.utils.answer_form import AnswerForm

MEBIBYTE = 1024 * 1024

_logger = logging.getLogger(__name__)


class TeacherQueue:
    """SQLite file of delegated examples and the teacher's late answers.

    When `put` returns its rows are on disk: a process that is killed, or a
    machine that loses power, loses none of them. Every row has an id; an
    answer is stored once per id and handed out once. The file is open in one
    process at a time, and only its user may read it. A child that is forked
    from the process cannot use it.

    Every row has checksums: one that was altered on the disk is neither sent
    nor handed out with an answer, and becomes a dead letter, as does a row
    that the teacher refuses. Dead letters are kept until they are put back or
    dropped.

    The queue is bounded. A `put` that would exceed `max_rows` or `max_bytes`
    keeps none of its rows and raises a `QueueError`; earlier rows are never
    dropped to make room. Dead letters, and answers that
    nobody has taken, count too.

    Args:
        path: path of the file; created where there is none.
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.
        max_rows: int. Defaults to `10_000`.
        max_bytes: int, of inputs. Defaults to 256 MiB.
        form: `AnswerForm` of the answers. Defaults to `None`: that of a
            classifier.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        inputs: list[dict],
        classes: list[str],
        max_rows: int = 10_000,
        max_bytes: int = 256 * MEBIBYTE,
        form: AnswerForm | None = None,
    ):
        self.path = os.fspath(path)
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._names = [spec["name"] for spec in inputs]
        self._lock = threading.Lock()
        self._handed_out: set[str] = set()
        self._file = SqliteFile(
            path,
            "queue",
            TABLES,
            content_format(inputs, classes, form),
            upgrade_queue,
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
                    "`queued_answers()`, drop dead letters, or allow a larger "
                    "queue."
                )
            db.executemany(
                "INSERT INTO rows (id, inputs, bytes, score, probabilities, "
                "operating_point, checksum) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    _columns(row_id, blob, score, p, operating_point)
                    for row_id, blob, score, p in zip(
                        ids, blobs, scores, probabilities, strict=True
                    )
                ],
            )
            return ids

    def waiting(self) -> list[str]:
        """Returns the ids of unanswered rows, the least tried first."""
        return self._ids(f"WHERE {WAITING} ORDER BY tries, seq")

    def read(self, ids: list[str]) -> list[QueuedRow]:
        """Reads the rows of these ids that are still stored.

        Damaged rows become dead letters and are left out.

        Returns:
            List of `QueuedRow`.
        """
        rows = []
        with self._file.transaction() as db:
            for row_id in ids:
                for record in db.execute(
                    f"SELECT {COLUMNS} FROM rows WHERE id = ?", (row_id,)
                ).fetchall():
                    stored = StoredRow(record, self._names)
                    if stored.reason == DAMAGED:
                        continue
                    row = stored.row()
                    if row is None:
                        self._put_aside_damaged(db, stored)
                        continue
                    rows.append(row)
        return rows

    def store(self, ids: list[str], logits: np.ndarray) -> int:
        """Stores the teacher's answers; an id's second answer is dropped.

        Args:
            ids: list of str.
            logits: float32 array `(rows, classes)`.

        Returns:
            int, how many were stored.
        """
        stored = 0
        with self._file.transaction() as db:
            for row_id, answer in zip(ids, logits, strict=True):
                raw = pack_arrays([answer])
                stored += db.execute(
                    "UPDATE rows SET logits = ?, answer_checksum = ? "
                    f"WHERE id = ? AND {WAITING}",
                    (raw, checksum(row_id, raw), row_id),
                ).rowcount
        return stored

    def reject(
        self, row_id: str, error_message: str, reason: str = REFUSED
    ) -> None:
        """Ends a row's wait: it becomes a dead letter, its inputs are kept.

        Args:
            row_id: str.
            error_message: str.
            reason: str, as of `DeadLetter`. Defaults to `"refused"`.
        """
        with self._file.transaction() as db:
            db.execute(
                f"{PUT_ASIDE} WHERE id = ? AND {WAITING}",
                (reason, error_message, row_id),
            )

    def postpone(self, ids: list[str]) -> None:
        """Counts a failure of the teacher on each of these rows alone."""
        with self._file.transaction() as db:
            db.executemany(
                "UPDATE rows SET tries = tries + 1 WHERE id = ?",
                [(row_id,) for row_id in ids],
            )

    def remove(self, ids: list[str]) -> None:
        """Deletes rows; their inputs are overwritten."""
        with self._file.transaction(erase=True) as db:
            db.executemany(
                "DELETE FROM rows WHERE id = ?", [(row_id,) for row_id in ids]
            )

    def dead_letters(self, limit: int | None = None) -> list[DeadLetter]:
        """Lists the rows that were put aside, the oldest first.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Returns:
            List of `DeadLetter`.
        """
        with self._file.transaction() as db:
            records = db.execute(
                f"SELECT {COLUMNS} FROM rows WHERE {DEAD} ORDER BY seq LIMIT ?",
                (-1 if limit is None else limit,),
            ).fetchall()
        return [
            StoredRow(record, self._names).dead_letter() for record in records
        ]

    def requeue(self, ids: Collection[str] | None = None) -> int:
        """Puts dead letters back into the queue, with their tries at zero.

        A dead letter whose inputs are damaged stays one.

        Args:
            ids: ids of dead letters. Defaults to `None`: all.

        Returns:
            int, how many were put back.
        """
        put_back = 0
        with self._file.transaction() as db:
            for seq in self._dead(db, ids):
                record = db.execute(
                    f"SELECT {COLUMNS} FROM rows WHERE seq = ?", (seq,)
                ).fetchone()
                if StoredRow(record, self._names).inputs is not None:
                    db.execute(f"{PUT_BACK} WHERE seq = ?", (seq,))
                    put_back += 1
        return put_back

    def drop(self, ids: Collection[str]) -> int:
        """Deletes dead letters for good; their inputs are overwritten.

        Args:
            ids: ids of dead letters. Other rows are left as they are.

        Returns:
            int, how many were deleted.
        """
        with self._file.transaction(erase=True) as db:
            numbers = self._dead(db, ids)
            db.executemany(
                "DELETE FROM rows WHERE seq = ?", [(seq,) for seq in numbers]
            )
        return len(numbers)

    def counts(self) -> dict[str, int]:
        """Counts rows: `waiting`, `answered` (not taken yet), `dead`."""
        conditions = {
            "waiting": WAITING,
            "answered": "logits IS NOT NULL AND dead IS NULL",
            "dead": DEAD,
        }
        with self._file.transaction() as db:
            return {
                name: db.execute(
                    f"SELECT COUNT(*) FROM rows WHERE {condition}"
                ).fetchone()[0]
                for name, condition in conditions.items()
            }

    def check(self) -> None:
        """Raises a `QueueError` unless this process can use the file."""
        self._file.check()

    @contextlib.contextmanager
    def answers(self, limit: int | None = None) -> Iterator[list[QueuedRow]]:
        """Hands out answered rows, in the order in which they were queued.

        Rows that became dead letters are handed out once as well, without
        logits, so that nobody waits for them.

        No other thread is given these rows meanwhile. When the block ends,
        answered rows are removed; when it raises, or the process dies in it,
        all are handed out again.

        Args:
            limit: int or `None`, rows at most. Defaults to `None`: all.

        Yields:
            List of `QueuedRow`.
        """
        self.check()  # before the lock, which a fork may have left locked
        with self._lock:
            ids = [
                row_id
                for row_id in self._ids(f"WHERE {HANDED_OUT} ORDER BY seq")
                if row_id not in self._handed_out
            ][:limit]
            self._handed_out.update(ids)
        try:
            rows = self._answers(ids)
            yield rows
            if rows:
                self._take(rows)
        finally:
            # In a forked child this lock may stay locked for ever.
            if not self._file.inherited:
                with self._lock:
                    self._handed_out.difference_update(ids)

    def close(self) -> None:
        """Closes the file, so that another process may open it."""
        self._file.close()

    def _answers(self, ids):
        """Returns the rows of these ids, whole or as dead letters."""
        rows = self.read(ids)
        sound = {row.id for row in rows}
        with self._file.transaction() as db:
            for row_id in ids:
                if row_id in sound:
                    continue
                for record in db.execute(
                    f"SELECT {COLUMNS} FROM rows WHERE id = ? AND {DEAD}",
                    (row_id,),
                ).fetchall():
                    stored = StoredRow(record, self._names)
                    rows.append(stored.without_answer(row_id))
        order = {row_id: index for index, row_id in enumerate(ids)}
        return sorted(rows, key=lambda row: order[row.id])

    def _take(self, rows):
        """Removes answered rows; keeps dead letters, handed out now."""
        with self._file.transaction(erase=True) as db:
            for row in rows:
                if row.error_message is None:
                    db.execute("DELETE FROM rows WHERE id = ?", (row.id,))
                else:
                    db.execute(
                        f"UPDATE rows SET reported = 1 WHERE id = ? AND {DEAD}",
                        (row.id,),
                    )

    def _put_aside_damaged(self, db, stored):
        message = (
            f"The row is damaged: its {stored.damaged_part} in '{self.path}' "
            "differs from what was stored."
        )
        _logger.warning("Row '%s' is a dead letter. %s", stored.id, message)
        db.execute(
            f"{PUT_ASIDE} WHERE seq = ? AND dead IS NULL",
            (DAMAGED, message, stored.seq),
        )

    def _dead(self, db, ids):
        """Returns the numbers of the dead letters with these ids, or all."""
        wanted = None if ids is None else set(ids)
        return [
            seq
            for seq, row_id in db.execute(
                f"SELECT seq, id FROM rows WHERE {DEAD} ORDER BY seq"
            ).fetchall()
            if wanted is None or row_id in wanted
        ]

    def _totals(self, db):
        """Returns the numbers of stored rows and bytes."""
        return db.execute("SELECT rows, bytes FROM totals").fetchone()

    def _ids(self, where):
        with self._file.transaction() as db:
            records = db.execute(f"SELECT id FROM rows {where}").fetchall()
        return [row_id for (row_id,) in records]


def _columns(row_id, blob, score, probabilities, operating_point):
    """Returns the columns of a new row, with its checksum."""
    score = float(score)
    # SQLite stores no NaN.
    score = None if score != score else score
    packed = pack_arrays([probabilities])
    content = (blob, score, packed, operating_point)
    return (
        row_id, blob, len(blob), score, packed, operating_point,
        checksum(row_id, *content),
    )  # fmt: skip

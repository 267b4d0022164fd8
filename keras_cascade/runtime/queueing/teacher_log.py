"""Log on disk of delegated inputs and the teacher's answers."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator

import numpy as np

from keras_cascade.errors import QueueError
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.queueing.packed_arrays import (
    as_array,
    pack_arrays,
)
from keras_cascade.runtime.queueing.queued_row import (
    checksum,
    checksum_or_none,
    unpack_or_none,
)
from keras_cascade.runtime.queueing.sqlite_file import (
    SqliteFile,
    content_format,
)
from keras_cascade.utils.answer_form import AnswerForm

MEBIBYTE = 1024 * 1024
_TABLES = (
    """CREATE TABLE IF NOT EXISTS rows (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        bytes INTEGER NOT NULL,
        inputs BLOB NOT NULL,
        logits BLOB NOT NULL,
        checksum BLOB
    )""",
    "CREATE INDEX IF NOT EXISTS sizes ON rows (seq, bytes)",
)

_logger = logging.getLogger(__name__)


class TeacherLog:
    """SQLite file of delegated inputs and the teacher's logits.

    Kept only where a user asks for it: `EdgeCascade.load(..., log=path)`. It
    is bounded: the oldest rows make room for new ones. A row that cannot be
    written is reported as a warning of this module's logger, and the
    prediction goes on. `keras_cascade.teacher_logits.cache_teacher_log`
    reads it where the student is trained.

    Args:
        path: path of the file; created where there is none.
        inputs: list of `{"name", "shape", "dtype"}`, as in the manifest.
            Defaults to `None`: those of the existing file.
        classes: list of str. Defaults to `None`: those of the file.
        max_rows: int. Defaults to `10_000`.
        max_bytes: int, of inputs; a longer row is not kept. Defaults to
            256 MiB.
        redact: function or `None`. Gets a dict of input name to array, one
            example without a batch axis (a text is a `str`), and returns the
            values to keep in the same form, or `None` to keep nothing.
            Defaults to `None`: inputs are kept as they are.
        form: `AnswerForm` of the answers. Defaults to `None`: that of a
            classifier.

    Attributes:
        classes: list of str.
        damaged_rows: int, rows that the last `read` left out because their
            bytes differ from what was stored.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        inputs: list[dict] | None = None,
        classes: list[str] | None = None,
        max_rows: int = 10_000,
        max_bytes: int = 256 * MEBIBYTE,
        redact: Callable[[dict], dict | None] | None = None,
        form: AnswerForm | None = None,
    ):
        if max_rows < 1 or max_bytes < 1:
            raise ValueError(
                "Expected `max_rows` and `max_bytes` of 1 or more. Received: "
                f"{max_rows} and {max_bytes}."
            )
        self.path = os.fspath(path)
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._redact = redact
        self._specs = inputs
        self.damaged_rows = 0
        made_for = None
        if inputs is not None:
            if classes is None:
                raise ValueError(
                    "Expected `classes` to go with `inputs`. Received: None."
                )
            made_for = content_format(inputs, classes, form)
        self._file = SqliteFile(path, "log", _TABLES, made_for, _upgrade)
        about = json.loads(self._file.made_for)
        self._names = [name for name, _ in about["inputs"]]
        self.classes = about["classes"]

    def __len__(self) -> int:
        with self._file.transaction() as db:
            return db.execute("SELECT COUNT(*) FROM rows").fetchone()[0]

    def add(self, inputs: dict[str, np.ndarray], logits: np.ndarray) -> None:
        """Stores rows with the teacher's answers.

        Args:
            inputs: dict of input name to array, batch first.
            logits: float32 array `(rows, classes)`, the teacher's.

        Raises:
            ValueError: `redact` returned values that do not fit the manifest.
        """
        rows = []
        for index, answer in enumerate(logits):
            row = {name: inputs[name][index] for name in self._names}
            if self._redact is not None:
                row = self._redacted(row)
            if row is not None:
                blob = pack_arrays(row[name] for name in self._names)
                raw = pack_arrays([answer])
                rows.append((blob, len(blob), raw, checksum(blob, raw)))
        kept = [row for row in rows if row[1] <= self._max_bytes]
        if len(kept) < len(rows):
            _logger.warning(
                "%d rows are longer than the whole log '%s' may be.",
                len(rows) - len(kept),
                self.path,
            )
        try:
            self._write(kept)
        except QueueError as error:
            _logger.warning("%d rows were not logged: %s", len(kept), error)

    def read(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Reads all rows, the oldest first.

        Damaged rows are left out, counted in `damaged_rows` and reported as a
        warning of this module's logger.

        Returns:
            `(inputs, logits)`: dict of input name to array, batch first, and
            float32 array `(rows, classes)`.

        Raises:
            ValueError: no rows, or rows of different sizes.
        """
        parts = list(self.read_batches())
        inputs = {
            name: _joined(name, [part[name] for part, _ in parts])
            for name in self._names
        }
        return inputs, np.concatenate([logits for _, logits in parts])

    def read_batches(
        self, rows: int = 256
    ) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        """Reads all rows in batches, the oldest first.

        No more than a batch is in memory. Rows that are added meanwhile are
        read too. Damaged rows are treated as by `read`.

        Args:
            rows: int, the number of rows in a batch. Defaults to `256`.

        Yields:
            `(inputs, logits)`, as `read` returns them.

        Raises:
            ValueError: no rows, or rows of different sizes in a batch.
        """
        last, records, damaged = -1, 0, 0
        while batch := self._records(last, rows):
            last = batch[-1][0]
            unpacked = [self._unpacked(record[1:]) for record in batch]
            kept = [row for row in unpacked if row is not None]
            records += len(batch)
            damaged += len(batch) - len(kept)
            if kept:
                columns = zip(*(arrays for arrays, _ in kept), strict=True)
                inputs = {
                    name: _stacked(name, column)
                    for name, column in zip(self._names, columns, strict=True)
                }
                yield inputs, np.stack([logits for _, logits in kept])
        self.damaged_rows = damaged
        if damaged:
            _logger.warning(
                "%d of %d rows of the log '%s' are damaged and left out.",
                damaged,
                records,
                self.path,
            )
        if damaged == records:
            raise ValueError(
                f"Expected rows in the log '{self.path}'. There are none"
                f"{' that are not damaged' if records else ''}."
            )

    def clear(self) -> None:
        """Deletes all rows; their inputs are overwritten."""
        with self._file.transaction(erase=True) as db:
            db.execute("DELETE FROM rows")

    def close(self) -> None:
        """Closes the file, so that another process may open it."""
        self._file.close()

    def _records(self, last, rows):
        with self._file.transaction() as db:
            return db.execute(
                "SELECT seq, inputs, logits, checksum FROM rows "
                "WHERE seq > ? ORDER BY seq LIMIT ?",
                (last, rows),
            ).fetchall()

    def _redacted(self, row):
        row = self._redact({name: _copied(v) for name, v in row.items()})
        if row is None:
            return None
        batch = {name: as_array(value)[None] for name, value in row.items()}
        checked = prepare_inputs(batch, self._specs, allow_single=False)
        return {name: value[0] for name, value in checked.items()}

    def _unpacked(self, record):
        """Returns inputs and logits of a row; `None` of a damaged one."""
        raw, raw_logits, stored = record
        if stored is None or stored != checksum_or_none(raw, raw_logits):
            return None
        arrays = unpack_or_none(raw, len(self._names))
        logits = unpack_or_none(raw_logits, 1)
        if arrays is None or logits is None:
            return None
        return arrays, logits[0]

    def _write(self, rows):
        if self._add(rows):
            self._file.erase_deleted()

    def _add(self, rows):
        """Adds rows, and removes the oldest; returns how many of them."""
        with self._file.transaction() as db:
            db.executemany(
                "INSERT INTO rows (inputs, bytes, logits, checksum) "
                "VALUES (?, ?, ?, ?)",
                rows,
            )
            # Counted from the newest row back: older rows beyond a limit go.
            removed = db.execute(
                "DELETE FROM rows WHERE seq <= (SELECT seq FROM rows "
                "ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (self._max_rows,),
            ).rowcount
            removed += db.execute(
                "DELETE FROM rows WHERE seq <= (SELECT MAX(seq) FROM (SELECT "
                "seq, SUM(bytes) OVER (ORDER BY seq DESC) AS held FROM rows) "
                "WHERE held > ?)",
                (self._max_bytes,),
            ).rowcount
        return removed


def _upgrade(db):
    """Gives the rows of version 1 the checksums of what they hold."""
    db.execute("ALTER TABLE rows ADD COLUMN checksum BLOB")
    for (seq,) in db.execute("SELECT seq FROM rows").fetchall():
        columns = db.execute(
            "SELECT inputs, logits FROM rows WHERE seq = ?", (seq,)
        ).fetchone()
        db.execute(
            "UPDATE rows SET checksum = ? WHERE seq = ?",
            (checksum_or_none(*columns), seq),
        )


def _copied(value):
    # Text stays as it is: `np.copy` would make it one of NumPy's own.
    return value if isinstance(value, str) else np.copy(value)


def _stacked(name, values):
    try:
        return np.stack(values)
    except ValueError:
        raise _differ(name, values) from None


def _joined(name, parts):
    try:
        return np.concatenate(parts)
    except ValueError:
        raise _differ(name, [part[0] for part in parts]) from None


def _differ(name, values):
    return ValueError(
        f"Expected rows of one size in input '{name}'. Received: "
        f"{sorted({value.shape for value in values})[:5]}."
    )

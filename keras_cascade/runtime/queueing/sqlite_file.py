"""SQLite files with durable transactions, open in one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator

from keras_cascade.errors import QueueError

VERSION = 1


class SqliteFile:
    """SQLite file with atomic, durable transactions. Thread-safe.

    After a transaction its content is on the disk: neither a kill nor a loss
    of power undoes it. One process has the file open at a time, and only its
    user may read it.

    Args:
        path: path of the file; created where there is none.
        kind: str, the file's name in error messages.
        tables: iterable of SQL statements that may run again.
        made_for: str, the content's format, as of `content_format`; a file
            that was created for another is rejected. `None` for an existing
            file.

    Attributes:
        made_for: str, the content's format.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        kind: str,
        tables: Iterable[str],
        made_for: str | None,
    ):
        # Absolute, so that ":memory:" is a file like any other.
        self.path = os.path.abspath(path)
        self._kind = kind
        self._lock = threading.RLock()
        with self._clear_errors():
            if made_for is not None:
                _make_private(self.path)
            elif not os.path.exists(self.path):
                raise QueueError(
                    f"Expected a {kind} at '{self.path}'. There is none."
                )
            self._db = sqlite3.connect(
                self.path,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._open(tables, made_for)
            except BaseException:
                self._db.close()
                raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Surrounds statements that all take effect, or none.

        Yields:
            `sqlite3.Connection`.

        Raises:
            QueueError: the file cannot be read or written.
        """
        with self._lock, self._clear_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Closes the file, so that another process may open it."""
        with self._lock:
            self._db.close()

    def _open(self, tables, made_for):
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self.transaction() as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise QueueError(
                    f"The {self._kind} '{self.path}' has version {version}; "
                    f"this keras_cascade reads version {VERSION}. Upgrade it."
                )
            db.execute(
                "CREATE TABLE IF NOT EXISTS about (made_for TEXT NOT NULL)"
            )
            for statement in tables:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
            row = db.execute("SELECT made_for FROM about").fetchone()
            if row is None and made_for is None:
                raise QueueError(f"'{self.path}' is not a {self._kind}.")
            if row is None:
                db.execute("INSERT INTO about VALUES (?)", (made_for,))
                row = (made_for,)
            self.made_for = row[0]
            if made_for not in (None, self.made_for):
                raise QueueError(
                    f"The {self._kind} '{self.path}' belongs to a bundle with "
                    "other inputs or classes. Pass another path, or use it "
                    "with the bundle that it was made for."
                )

    @contextlib.contextmanager
    def _clear_errors(self):
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            advice = (
                "Another process has it; give each its own file."
                if "locked" in str(error)
                else f"Is there room on the disk, and is it a {self._kind}?"
            )
            raise QueueError(
                f"The {self._kind} '{self.path}' cannot be used: {error}. "
                f"{advice}"
            ) from error


def content_format(inputs: list[dict], classes: list[str]) -> str:
    """Describes the inputs and classes of a file, for `SqliteFile`.

    Args:
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.

    Returns:
        str, as it stands in the file.
    """
    return json.dumps(
        {
            "inputs": [[spec["name"], spec["dtype"]] for spec in inputs],
            "classes": list(classes),
        }
    )


def _make_private(path):
    """Creates the file, before SQLite makes it readable for everyone."""
    # An existing file is not opened: closing it would drop the locks that
    # this process may already hold on it.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

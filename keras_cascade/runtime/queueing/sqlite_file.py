"""An SQLite file that belongs to one process, and survives its end."""

import contextlib
import json
import os
import sqlite3
import threading

from keras_cascade.errors import QueueError

VERSION = 1


class SqliteFile:
    """Opens or makes a file; its transactions are whole or not there.

    After a transaction its content is on the disk: neither a kill nor a loss
    of power undoes it. One process has the file at a time, and only its user
    may read it. Threads share it.

    Args:
        path: path of the file; made where there is none.
        what: str, what the file is called in messages.
        tables: iterable of SQL statements that may run again.
        made_for: str, what the content fits, see `fits`; a file that was made
            for something else is refused. `None` for a file that is there.

    Attributes:
        made_for: str, what the content fits.
    """

    def __init__(self, path, what, tables, made_for):
        # Whole, so that ":memory:" is a file like any other.
        self.path = os.path.abspath(path)
        self._what = what
        self._lock = threading.RLock()
        with self._understood():
            if made_for is not None:
                _make_private(self.path)
            elif not os.path.exists(self.path):
                raise QueueError(
                    f"Expected a {what} at '{self.path}'. There is none."
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
    def transaction(self):
        """A block whose statements all take effect, or none.

        Yields:
            `sqlite3.Connection`.

        Raises:
            QueueError: the file cannot be read or written.
        """
        with self._lock, self._understood():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def close(self):
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
                    f"The {self._what} '{self.path}' has version {version}; "
                    f"this keras_cascade reads version {VERSION}. Upgrade it."
                )
            db.execute(
                "CREATE TABLE IF NOT EXISTS about (made_for TEXT NOT NULL)"
            )
            for statement in tables:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")
            found = db.execute("SELECT made_for FROM about").fetchone()
            if found is None and made_for is None:
                raise QueueError(f"'{self.path}' is not a {self._what}.")
            if found is None:
                db.execute("INSERT INTO about VALUES (?)", (made_for,))
                found = (made_for,)
            self.made_for = found[0]
            if made_for not in (None, self.made_for):
                raise QueueError(
                    f"The {self._what} '{self.path}' belongs to a bundle with "
                    "other inputs or classes. Pass another path, or use it "
                    "with the bundle that it was made for."
                )

    @contextlib.contextmanager
    def _understood(self):
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            advice = (
                "Another process has it; give each its own file."
                if "locked" in str(error)
                else f"Is there room on the disk, and is it a {self._what}?"
            )
            raise QueueError(
                f"The {self._what} '{self.path}' cannot be used: {error}. "
                f"{advice}"
            ) from error


def fits(inputs, classes):
    """What a file's content fits, as `SqliteFile` compares it.

    Args:
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.
    """
    return json.dumps(
        {
            "inputs": [[spec["name"], spec["dtype"]] for spec in inputs],
            "classes": list(classes),
        }
    )


def _make_private(path):
    """Makes the file, before SQLite makes it readable for everyone.

    One that is there is not opened: closing it would drop the locks that this
    process may already hold on it.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

"""SQLite files with durable transactions, open in one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator

from keras_cascade.errors import QueueError
from keras_cascade.utils.answer_form import AnswerForm
from keras_cascade.utils.forks import never_free_in_forks

VERSION = 2
PRIVATE = 0o600
#: Seconds that a fork waits for a transaction of another thread to end.
FORK_WAIT = 1.0

_open_files: weakref.WeakSet[SqliteFile] = weakref.WeakSet()
# Reentrant: a signal handler may fork while its thread opens a file.
_opening = threading.RLock()
_locked = threading.local()


class SqliteFile:
    """SQLite file with atomic, durable transactions. Thread-safe.

    After a transaction its content is on the disk: neither a kill nor a loss
    of power undoes it. One process has the file open at a time, and only its
    user may read it. Deleted content is overwritten.

    A child that is forked from the process neither uses nor closes the file,
    whatever it does: to close it would delete the parent's write-ahead log.

    Args:
        path: path of the file; created where there is none.
        kind: str, the file's name in error messages.
        tables: iterable of SQL statements that may run again.
        made_for: str, the content's format, as of `content_format`; a file
            that was created for another is rejected. `None` for an existing
            file.
        upgrade: function of a `sqlite3.Connection`. Brings the tables of
            version 1 to this version, before `tables` run.

    Attributes:
        made_for: str, the content's format.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        kind: str,
        tables: Iterable[str],
        made_for: str | None,
        upgrade: Callable[[sqlite3.Connection], None],
    ):
        # Absolute, so that ":memory:" is a file like any other.
        self.path = os.path.abspath(path)
        self._kind = kind
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        with _opening:
            _open_files.add(self)
        with self._lock, self._clear_errors():
            # Without links: the file behind one would not be private.
            file = os.path.realpath(self.path)
            if made_for is None and not os.path.exists(file):
                raise QueueError(
                    f"Expected a {kind} at '{self.path}'. There is none."
                )
            _make_private(file, create=made_for is not None)
            self._db = sqlite3.connect(
                file,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
                factory=_Connection,
            )
            never_free_in_forks(self._db)
            try:
                self._open(tables, made_for, upgrade)
            except BaseException:
                self.close()
                raise

    @property
    def inherited(self) -> bool:
        """`True` where another process opened this file, and then forked."""
        return os.getpid() != self._process

    def check(self) -> None:
        """Raises a `QueueError` where the file is closed or inherited."""
        self._usable()

    def _usable(self) -> sqlite3.Connection:
        if self.inherited:
            raise QueueError(
                f"The {self._kind} '{self.path}' belongs to process "
                f"{self._process}, which opened it; this process, "
                f"{os.getpid()}, was forked from it and must not use it. Open "
                "another file in this process."
            )
        if self._db is None:
            raise QueueError(
                f"The {self._kind} '{self.path}' is closed. Open it again."
            )
        return self._db

    @contextlib.contextmanager
    def transaction(self, erase: bool = False) -> Iterator[sqlite3.Connection]:
        """Surrounds statements that all take effect, or none.

        Args:
            erase: bool. What the statements delete is removed from the
                write-ahead log as well. Defaults to `False`.

        Yields:
            `sqlite3.Connection`.

        Raises:
            QueueError: the file cannot be read or written.
        """
        # Before the lock: an inherited one may be held for ever.
        self.check()
        with self._lock, self._clear_errors():
            db = self._usable()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                self.check()  # a signal handler may have forked
                db.execute("COMMIT")
            except BaseException as error:
                if not self.inherited and db.in_transaction:
                    db.execute("ROLLBACK")
                if _is_corruption(error):
                    # Most likely an index that differs from its table; the
                    # next transaction finds it mended.
                    with contextlib.suppress(sqlite3.Error):
                        db.execute("REINDEX")
                raise
            if erase:
                _empty_write_ahead_log(db)

    def erase_deleted(self) -> None:
        """Removes what was deleted from the write-ahead log as well."""
        self.check()
        with self._lock, self._clear_errors():
            _empty_write_ahead_log(self._usable())

    def close(self) -> None:
        """Closes the file, so that another process may open it."""
        if self.inherited:
            return
        with self._lock:
            db, self._db = self._db, None
            if db is not None:
                db.close()

    def _open(self, tables, made_for, upgrade):
        db = self._usable()
        # A damaged text is read like any other; a checksum tells.
        db.text_factory = _text
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        with self.transaction(erase=True) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise QueueError(
                    f"The {self._kind} '{self.path}' has version {version}; "
                    f"this keras_cascade reads version {VERSION}. Upgrade it."
                )
            db.execute(
                "CREATE TABLE IF NOT EXISTS about (made_for TEXT NOT NULL)"
            )
            self._check_format(db, made_for)
            if version == 1:
                upgrade(db)
            for statement in tables:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    def _check_format(self, db, made_for):
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
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            # The last: SQLite's message quotes a damaged file.
            if "locked" in str(error):
                advice = "Another process has it; give each its own file."
            elif _is_corruption(error):
                advice = (
                    "A part of it is damaged. Its index was built anew: try "
                    "again, and if this stays, use another file."
                )
            else:
                advice = f"Is there room on the disk, and is it a {self._kind}?"
            raise QueueError(
                f"The {self._kind} '{self.path}' cannot be used: {error}. "
                f"{advice}"
            ) from error


class _Connection(sqlite3.Connection):
    """Connection that can be referenced weakly."""


def content_format(
    inputs: list[dict], classes: list[str], form: AnswerForm | None = None
) -> str:
    """Describes the inputs and answers of a file, for `SqliteFile`.

    Args:
        inputs: list of `{"name", "dtype", ...}`, as in the manifest.
        classes: list of str.
        form: `AnswerForm`. Defaults to `None`: that of a classifier.

    Returns:
        str, as it stands in the file.
    """
    content: dict = {
        "inputs": [[spec["name"], spec["dtype"]] for spec in inputs],
        "classes": list(classes),
    }
    if form is not None and not form.one_class:
        content["answers"] = [form.activation, *form.sizes]
    return json.dumps(content)


def _make_private(file, create):
    """Lets only its user read the file, before SQLite opens or creates it.

    SQLite gives its write-ahead log and its journal the file's own mode.
    """
    # An existing file is not opened: closing it would drop the locks that
    # this process may already hold on it.
    if create:
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(
                file, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE
            )
            try:
                os.chmod(file, PRIVATE)  # whatever the umask left of it
            finally:
                os.close(descriptor)
            return
    for name in (file, f"{file}-wal", f"{file}-shm", f"{file}-journal"):
        with contextlib.suppress(OSError):  # none, or another user's
            if os.stat(name).st_mode & 0o077 and os.path.isfile(name):
                os.chmod(name, PRIVATE)


def _empty_write_ahead_log(db):
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise sqlite3.OperationalError(
            "the write-ahead log could not be emptied"
        )


def _text(raw):
    return raw.decode("utf-8", "replace")


def _is_corruption(error):
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_CORRUPT


def _before_fork():
    # No thread is inside SQLite during the fork: a child could never open a
    # file of its own if a lock of the library were held in it.
    _opening.acquire()
    _locked.files = [
        file
        for file in sorted(_open_files, key=id)
        if file._lock.acquire(timeout=FORK_WAIT)
    ]


def _after_fork_in_parent():
    for file in _locked.files:
        file._lock.release()
    del _locked.files
    _opening.release()


def _after_fork_in_child():
    del _locked.files
    for file in _open_files:
        file._lock = threading.RLock()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )

"""Folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from keras_cascade.bundle.manifest import FORMAT, MANIFEST
from keras_cascade.errors import BundleError

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished"
#: A folder younger than this may be one that is about to be locked.
SECONDS_TO_LOCK = 60

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux
_RENAME_SWAP = 2  # macOS
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def new_folder(
    path: str | os.PathLike,
    overwrite: bool = False,
    known_by: str = MANIFEST,
) -> Iterator[Path]:
    """Creates a temporary folder that becomes `path` if the block succeeds.

    It lies beside `path`, on the same file system, so that the last step is
    one rename, or one exchange with what is at `path`. When the block raises,
    nothing is left and what was at `path` is as it was. A process that is
    killed leaves at `path` what was there or what was to be; a hidden
    temporary folder that stays behind is removed by the next call.

    Args:
        path: str or path of the folder to create.
        overwrite: bool. Replaces an existing folder of the same kind, or an
            empty one; no other. Defaults to `False`.
        known_by: str, the file by which the kind of folder is known. Defaults
            to `"manifest.json"`, a bundle's.

    Yields:
        `Path` to write into.

    Raises:
        BundleError: `path` exists and `overwrite` is `False`, or is of
            another kind.
    """
    target = Path(os.path.realpath(path))
    current = _is_current_folder(target)
    _bring_back(target)
    if target.exists() and not overwrite:
        raise BundleError(
            f"'{path}' exists already. Expected: a path that does not. "
            "Choose another, or pass `overwrite=True`."
        )
    if target.exists() and not _may_be_replaced(target, known_by):
        kind = "bundle" if known_by == MANIFEST else f"folder with {known_by}"
        raise BundleError(
            f"'{path}' is not a {kind}, so it is not replaced. Expected: a "
            f"{kind}, an empty folder, or a path that does not exist."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}-"
    _remove_abandoned(target.parent, prefix)
    work = Path(tempfile.mkdtemp(UNFINISHED, prefix, target.parent))
    try:
        with _locked(work):
            work.chmod(0o755)
            yield work
            _publish(work, target)
            if current:  # the process would stay in the folder that is gone
                os.chdir(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextlib.contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """Creates a temporary folder that no other user can read or write.

    It is removed when the block ends; one that a killed process left behind
    is removed by the next call.

    Args:
        prefix: str, of its name.

    Yields:
        `Path` to write into.
    """
    _remove_abandoned(Path(tempfile.gettempdir()), prefix)
    work = Path(tempfile.mkdtemp(UNFINISHED, prefix))
    try:
        with _locked(work):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def replace_file(file: Path, content: bytes) -> None:
    """Writes a bundle's file whole or not at all.

    Written beside the bundle and renamed into it: a reader never finds half of
    it, nor a file that is not of a bundle.

    Args:
        file: `Path` in the bundle's folder.
        content: bytes.
    """
    descriptor, part = tempfile.mkstemp(dir=file.parent.parent)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(part, 0o644)
        os.replace(part, file)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def exchange(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Swaps two existing paths on one file system, in one step.

    A rename cannot replace a folder that holds files. Removing or moving the
    old one first leaves a moment in which a kill, or a reader, finds nothing.

    Args:
        one: path.
        other: path.

    Returns:
        bool: `False` where the system or the file system offers no such
        step; both paths are then as they were.

    Raises:
        OSError: the paths could not be swapped.
    """
    first, second = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(first, second, ctypes.c_uint(_RENAME_SWAP))
    elif libc is not None and hasattr(libc, "renameat2"):
        failed = libc.renameat2(
            _AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE)
        )
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NOT_OFFERED:
        return False
    raise OSError(number, os.strerror(number), os.fsdecode(second))


def _is_current_folder(target):
    try:
        return target.samefile(".")
    except OSError:  # one of them is not there
        return False


def _may_be_replaced(target, known_by):
    if not target.is_dir():
        return False
    if known_by != MANIFEST and (target / known_by).is_file():
        return True
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        return manifest["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return not any(target.iterdir())


def _publish(work, target):
    """Moves `work` to `target`; afterwards `work` holds the replaced folder."""
    if not target.exists():
        work.rename(target)
        return
    if exchange(work, target):
        return
    # Without exchange there is a moment with nothing at `target`. After a
    # kill in it, the next call brings back what was there.
    aside = _aside(target)
    target.rename(aside)
    try:
        work.rename(target)
    except OSError:
        aside.rename(target)
        raise
    aside.rename(work)


def _aside(target):
    return target.with_name(f".{target.name}.replaced")


def _bring_back(target):
    """Undoes a replacement that was killed in the middle."""
    aside = _aside(target)
    if not aside.exists():
        return
    if target.exists():
        shutil.rmtree(aside)
    else:
        aside.rename(target)


@contextlib.contextmanager
def _locked(folder):
    """Holds a lock on a folder, which ends with the process at the latest."""
    if fcntl is None:
        yield
        return
    with _opened(folder) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def _remove_abandoned(parent, prefix):
    """Removes temporary folders of processes that were killed."""
    if fcntl is None:
        return
    for folder in parent.glob(f"{glob.escape(prefix)}*{UNFINISHED}"):
        # What cannot be looked at is another process's, or gone already.
        with contextlib.suppress(OSError), _opened(folder) as descriptor:
            if time.time() - folder.stat().st_mtime < SECONDS_TO_LOCK:
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)


@contextlib.contextmanager
def _opened(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)

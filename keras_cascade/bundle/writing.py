"""Writing a folder whole or not at all."""

import contextlib
import glob
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from keras_cascade.bundle.exchanging import exchange
from keras_cascade.bundle.manifest import FORMAT, MANIFEST
from keras_cascade.errors import BundleError

try:
    import fcntl
except ImportError:  # not on this system
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".unfinished"
#: A folder younger than this may be one that is about to be locked.
SECONDS_TO_LOCK = 60


@contextlib.contextmanager
def new_folder(path, overwrite=False, known_by=MANIFEST):
    """A temporary folder that becomes `path` when the block succeeds.

    It lies beside `path`, on the same file system, so that the last step is
    one rename, or one exchange with what is at `path`. When the block raises,
    nothing is left and what was at `path` is as it was. A process that is
    killed leaves at `path` what was there or what was to be; a hidden
    temporary folder that stays behind is removed by the next call.

    Args:
        path: str or path of the folder to make.
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
    target = Path(path).absolute()
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
            _move_into_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


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


def _move_into_place(work, target):
    """Afterwards `work`, which the caller removes, is what was replaced."""
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

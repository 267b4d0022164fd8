"""Writing a folder whole or not at all."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from keras_cascade.bundle.manifest import BundleError


@contextlib.contextmanager
def new_folder(path, overwrite=False):
    """A temporary folder that becomes `path` when the block succeeds.

    It lies beside `path`, on the same file system, so that the last step is
    one rename. When the block raises, nothing is left and what was at `path`
    is as it was.

    Args:
        path: str or path of the folder to make.
        overwrite: bool. Replaces an existing folder. Defaults to `False`.

    Yields:
        `Path` to write into.

    Raises:
        BundleError: `path` exists and `overwrite` is `False`.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise BundleError(
            f"'{path}' exists already. Expected: a path that does not. "
            "Choose another, or pass `overwrite=True`."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work.chmod(0o755)
        yield work
        _move_into_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _move_into_place(work, target):
    if not target.exists():
        work.rename(target)
        return
    old = target.with_name(f".{target.name}-replaced")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        work.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)

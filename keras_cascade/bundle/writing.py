"""Writing a folder whole or not at all."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from keras_cascade.bundle.manifest import FORMAT, MANIFEST, BundleError


@contextlib.contextmanager
def new_folder(path, overwrite=False):
    """A temporary folder that becomes `path` when the block succeeds.

    It lies beside `path`, on the same file system, so that the last step is
    one rename. When the block raises, nothing is left and what was at `path`
    is as it was.

    Args:
        path: str or path of the folder to make.
        overwrite: bool. Replaces an existing bundle, or an empty folder; no
            other. Defaults to `False`.

    Yields:
        `Path` to write into.

    Raises:
        BundleError: `path` exists and `overwrite` is `False`, or is no
            bundle.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise BundleError(
            f"'{path}' exists already. Expected: a path that does not. "
            "Choose another, or pass `overwrite=True`."
        )
    if target.exists() and not _may_be_replaced(target):
        raise BundleError(
            f"'{path}' is not a bundle, so it is not replaced. Expected: a "
            "bundle, an empty folder, or a path that does not exist."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        work.chmod(0o755)
        yield work
        _move_into_place(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _may_be_replaced(target):
    if not target.is_dir():
        return False
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        return manifest["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return not any(target.iterdir())


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

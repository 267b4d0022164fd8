"""Paths of outputs, checked before the work that they are for."""

import os
import tempfile
from pathlib import Path


def output_path(path: str | os.PathLike) -> Path:
    """Resolves the path of an output and makes sure that it can be written.

    Symbolic links are followed, so that what they point to is replaced and
    the links stay; `.` becomes the folder's own name. Missing parent folders
    are created.

    Args:
        path: str or path of a file or folder, which need not exist.

    Returns:
        Absolute `Path`.

    Raises:
        OSError: nothing can be written there.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise OSError(
            f"Expected a path that can be written to. Received: '{path}': "
            f"'{target.parent}' cannot be written to ({error.strerror}). "
            "Choose another."
        ) from error
    return target

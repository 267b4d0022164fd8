"""A folder that lasts as long as the cache in it."""

import shutil
import tempfile
import weakref
from pathlib import Path


def in_temporary_folder(make):
    """Makes a cache in a folder that goes when the cache goes.

    Args:
        make: function from the path of a folder, which is not there yet, to
            the `TeacherLogitsCache` in it.

    Returns:
        The cache.
    """
    folder = tempfile.mkdtemp()
    try:
        cache = make(Path(folder, "cache"))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(cache, shutil.rmtree, folder, ignore_errors=True)
    return cache

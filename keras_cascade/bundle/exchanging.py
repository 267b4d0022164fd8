"""Two paths that swap what they name, in one step."""

import ctypes
import errno
import os
import sys

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2  # Linux
_RENAME_SWAP = 2  # macOS
_NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def exchange(one, other):
    """Swaps two existing paths on one file system, all at once.

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
    one, other = os.fsencode(one), os.fsencode(other)
    libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if sys.platform == "darwin" and hasattr(libc, "renamex_np"):
        failed = libc.renamex_np(one, other, ctypes.c_uint(_RENAME_SWAP))
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(
            _AT_FDCWD, one, _AT_FDCWD, other, ctypes.c_uint(_RENAME_EXCHANGE)
        )
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NOT_OFFERED:
        return False
    raise OSError(number, os.strerror(number), os.fsdecode(other))

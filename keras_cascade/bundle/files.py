"""Reading and copying of a bundle's files, with their hashes."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["copy_file", "hash_file", "open_file", "read_file"]

CHUNK = 1024 * 1024
# A pipe is opened without waiting for a writer, then refused; a link is not
# followed. Zero where the system has no such flag.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY")
)


def open_file(file: str | os.PathLike) -> io.BufferedReader:
    """Opens a regular file for reading.

    Raises:
        OSError: there is none, or it is a link, a pipe or a folder.
    """
    descriptor = os.open(file, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"'{file}' is not a file.")
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_file(
    file: str | os.PathLike, limit: int | None = None
) -> tuple[bytes, str]:
    """Reads a file once: its content, and the SHA-256 of that content.

    Args:
        file: path.
        limit: int, bytes to read at most. Defaults to `None`: all.

    Raises:
        OSError: the file cannot be read.
    """
    with open_file(file) as stream:
        content = stream.read(-1 if limit is None else limit)
    return content, hashlib.sha256(content).hexdigest()


def copy_file(source: str | os.PathLike, target: Path) -> str:
    """Copies a file, and returns the SHA-256 of what was written.

    The bytes are read once, so that the hash is the copy's, whatever happens
    to the source meanwhile.

    Args:
        source: path.
        target: `Path` of a file that does not exist; its folder is created.

    Raises:
        OSError: the file cannot be read or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open_file(source) as stream, open(target, "xb") as copy:
        for chunk in _chunks(stream):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def hash_file(file: str | os.PathLike) -> str:
    """Computes the SHA-256 of a file, as hex."""
    with open_file(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _chunks(stream: io.BufferedReader) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk

"""Memory-mapped chunks of arrays on disk, each written atomically."""

import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

INFO = "cache.json"
FORMAT = "keras_cascade.teacher_logits"
VERSION = 2


class ChunkStore:
    """Folder of numbered chunks, each a few arrays with equal rows.

    A chunk is one folder, `chunk-000012`, written under another name and
    renamed when it is complete: after a crash what is there is whole.

    Args:
        path: folder of the store.
    """

    def __init__(self, path):
        self.path = Path(path)

    def read_info(self):
        """Settings that the store was created with; `None` for a new one."""
        file = self.path / INFO
        if not file.exists():
            return None
        info = json.loads(file.read_text(encoding="utf-8"))
        if info.get("format") == FORMAT and info.get("version") == 1:
            raise ValueError(
                f"The cache of teacher logits at '{self.path}' is of "
                "keras_cascade 0.1.0, which could give an example another "
                "one's logits; delete it and run `cache_teacher_logits` again."
            )
        if info.get("format") != FORMAT or info.get("version") != VERSION:
            raise ValueError(
                f"'{self.path}' is not a cache of teacher logits that this "
                f"version reads. Expected: {FORMAT}, version {VERSION}. "
                f"Received: {info.get('format')}, {info.get('version')}."
            )
        return info

    def write_info(self, settings):
        """Writes the settings atomically."""
        self.path.mkdir(parents=True, exist_ok=True)
        info = {"format": FORMAT, "version": VERSION, **settings}
        part = self.path / f".{INFO}.part"
        part.write_text(json.dumps(info, indent=2), encoding="utf-8")
        os.replace(part, self.path / INFO)

    def chunks(self):
        """Paths of the complete chunks, in order."""
        return sorted(self.path.glob("chunk-*"))

    def append(self, arrays):
        """Appends a chunk.

        Args:
            arrays: dict of name to array.
        """
        number = len(self.chunks())
        work = self.path / f".part-{number:06d}"
        work.mkdir(exist_ok=True)
        for name, array in arrays.items():
            with open(work / f"{name}.npy", "wb") as stream:
                np.save(stream, array)
                stream.flush()
                os.fsync(stream.fileno())
        work.rename(self.path / f"chunk-{number:06d}")

    def open(self, chunk):
        """Dict of the chunk's arrays, memory-mapped."""
        return {
            file.stem: np.load(file, mmap_mode="r", allow_pickle=False)
            for file in sorted(chunk.glob("*.npy"))
        }


def in_temporary_folder(make):
    """Creates a cache in a temporary folder that is deleted with it.

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

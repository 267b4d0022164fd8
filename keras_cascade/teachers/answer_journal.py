"""Paid answers on disk, one JSON object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = "answers.jsonl"


class AnswerJournal:
    """File of answers, each on disk before it counts.

    A line is written and flushed to the disk as one answer. A last line that
    a crash or a kill cut is dropped when the file is opened again.

    Args:
        path: the file; it is made where there is none.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        self._lines = whole.decode("utf-8").splitlines()
        with open(self.path, "ab") as stream:
            if len(whole) < len(content):
                stream.truncate(len(whole))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields the answers that the file had when it was opened."""
        for number, line in enumerate(self._lines, start=1):
            try:
                answer = json.loads(line)
                answer["key"], answer["status"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"Expected a file of paid answers at '{self.path}'. "
                    f"Received: line {number} is none. Restore the file, or "
                    "choose another path: its answers are then paid again."
                ) from error
            yield answer

    def append(self, answer: dict[str, Any]) -> None:
        """Writes one answer; it is on disk when this returns."""
        with open(self.path, "ab") as stream:
            stream.write(json.dumps(answer).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

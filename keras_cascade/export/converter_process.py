"""Child process that converts SavedModels, kept from export to export."""

import atexit
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.converter_child import (
    CONTENT_FILE,
    DONE,
    ERROR_FILE,
    REPRESENTATIVE_FILE,
    REQUEST_FILE,
    RESULT_FILE,
)
from keras_cascade.export.converter_settings import ConverterSettings
from keras_cascade.utils.child_process import (
    end_child,
    how_it_ended,
    last_lines,
    start_child,
)
from keras_cascade.utils.forks import reset_in_child
from keras_cascade.utils.native_output import NOTED, SHOW

PROGRAM = Path(__file__).with_name("converter_child.py")


class ConversionError(ExportError):
    """The converter's own error, as it came from the child process."""


class ConverterProcess:
    """Runs conversions in one child process, one at a time.

    The child starts with the first request, or with `start`, and answers the
    requests of this process, whichever export they belong to. It ends with
    this process, when it is interrupted, or by itself, as
    `converter_child` states: after a while without a request, after many, or
    when it has grown. The next request starts another. Threads share it; a
    forked process has one of its own.

    Args:
        program: `Path` of the child's program. Defaults to that of
            `converter_child`.
    """

    def __init__(self, program: Path = PROGRAM):
        self._program = program
        self._process: subprocess.Popen | None = None
        self._log: IO[bytes] | None = None
        self._lock = threading.RLock()
        atexit.register(self._end)
        reset_in_child(self)

    @property
    def process_id(self) -> int | None:
        """Process id of the child, or `None` while there is none."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the child unless it runs, and does not wait for it."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self.stop()
            shown = os.environ.get(SHOW) == "1"
            self._log = tempfile.TemporaryFile()  # noqa: SIM115, until `stop`
            self._process = start_child(
                self._program,
                stdout=subprocess.PIPE,
                stderr=None if shown else self._log,
            )

    def stop(self) -> None:
        """Ends the child, whatever it does."""
        with self._lock:
            process, self._process = self._process, None
            log, self._log = self._log, None
            if process is not None:
                end_child(process)
            if log is not None:
                log.close()

    def convert(self, saved_model: str, settings: ConverterSettings) -> bytes:
        """Content of the TFLite file of a SavedModel.

        Args:
            saved_model: path of the SavedModel.
            settings: `ConverterSettings`.

        Raises:
            ConversionError: that of the converter.
            ExportError: the child did not answer.
        """
        rows = list(settings.representative)
        inputs = list(rows[0]) if rows else []
        with self._lock, _temporary_folder() as folder:
            if rows:
                arrays = {
                    f"{row}/{number}": values[name]
                    for row, values in enumerate(rows)
                    for number, name in enumerate(inputs)
                }
                with _room_on_disk(folder):
                    np.savez(folder / REPRESENTATIVE_FILE, **arrays)
            return self._result(
                folder,
                {
                    "saved_model": os.path.abspath(saved_model),
                    "quantization": settings.quantization,
                    "calibrated_only": settings.calibrated_only,
                    "representative": len(rows),
                    "inputs": inputs,
                },
            )

    def quantize(self, content: bytes, in_float: Sequence[str]) -> bytes:
        """A calibrated file with all but some operations in int8.

        Args:
            content: bytes of a file whose ranges were measured.
            in_float: names of the outputs of operations that stay in float.

        Raises:
            ConversionError: that of the converter.
            ExportError: the child did not answer.
        """
        with self._lock, _temporary_folder() as folder:
            with _room_on_disk(folder):
                (folder / CONTENT_FILE).write_bytes(content)
            return self._result(folder, {"in_float": list(in_float)})

    def reset_in_child(self):
        """Leaves the child to the process that this one was forked from."""
        process, log = self._process, self._log
        self._process = self._log = None
        self._lock = threading.RLock()
        if process is not None:
            # It ends when its last pipe closes: a copy would keep it alive.
            process.stdin.close()
            process.stdout.close()
            process.returncode = DONE  # not to be waited for from here
            log.close()

    def _result(self, folder, request):
        """Content that the child writes for a request, in the same folder."""
        with _room_on_disk(folder):
            (folder / REQUEST_FILE).write_text(json.dumps(request), "utf-8")
        remarks = self._run(folder)
        error = folder / ERROR_FILE
        if not error.exists():
            return (folder / RESULT_FILE).read_bytes()
        described = json.loads(error.read_text("utf-8"))
        if described["kind"] == "disk":
            raise _no_room(folder, described["text"])
        raised = ConversionError(described["text"])
        if remarks:
            raised.add_note(f"Native libraries wrote:\n{remarks}")
        raise raised

    def _run(self, folder):
        """Has the child answer a request; returns what libraries logged.

        A child that has just ended by itself has not read the request.
        """
        for again in (True, False):
            self.start()
            written = os.fstat(self._log.fileno()).st_size
            try:
                # It may have ended.
                with contextlib.suppress(OSError):
                    self._process.stdin.write(
                        json.dumps(str(folder)).encode() + b"\n"
                    )
                if self._process.stdout.readline():
                    return _written_since(self._log, written)
                status = self._process.wait()
            except BaseException:  # interrupted: it would answer later
                self.stop()
                raise
            words = last_lines(self._log)
            self.stop()
            if status != DONE or not again:
                break
        text = (
            "The student was not converted: the process that runs TensorFlow "
            f"Lite's converter {how_it_ended(status)}. Nothing was kept. Free "
            "memory, or export a smaller student."
        )
        raise ExportError(f"{text} Its last words:\n{words}" if words else text)

    def _end(self):
        """Ends the child at the end of this process, without any lock."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def _temporary_folder():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@contextlib.contextmanager
def _room_on_disk(folder):
    try:
        yield
    except OSError as error:
        raise _no_room(folder, str(error)) from error


def _no_room(folder, text):
    return ExportError(
        f"A conversion cannot be written to '{folder}': {text[-300:]}. Is "
        "there room on the disk? Nothing was kept."
    )


def _written_since(log, start):
    """End of what a child has logged since a position, or an empty str."""
    if not hasattr(os, "pread"):  # a seek would move the child's position
        return ""
    end = os.fstat(log.fileno()).st_size
    start = max(start, end - NOTED)
    text = os.pread(log.fileno(), end - start, start)
    return text.decode("utf-8", errors="replace").strip()


#: That of this process.
CONVERTER = ConverterProcess()

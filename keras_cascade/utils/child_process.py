"""Child processes that run a program of this package.

A child inherits nothing but its arguments and files: it is started anew, as
on Windows, and not forked. It watches its standard input: when the parent
ends, however it does, the pipe closes and the child ends.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from keras_cascade.errors import ExportError

#: Number of last lines of a child's log that an error shows.
LAST_LINES = 15
#: Imports are found where the parent finds them, wherever it was started.
_BOOT = (
    "import json, runpy, sys; "
    "sys.path[:] = json.loads(sys.argv.pop(1)); "
    "sys.argv.pop(0); "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


def start_child(
    program: Path, arguments: Sequence[str] = (), **pipes: Any
) -> subprocess.Popen:
    """Starts a child process, in which Keras runs on TensorFlow.

    Args:
        program: `Path` of a Python file; it calls `requests_of_parent`.
        arguments: sequence of str. Defaults to `()`.
        **pipes: `stdout` and `stderr` of `subprocess.Popen`.

    Returns:
        `subprocess.Popen`, with a pipe to its standard input.

    Raises:
        ExportError: no process can be started.
    """
    if not sys.executable:
        raise ExportError(
            "Export runs other Python processes. Expected: the path of the "
            "interpreter in `sys.executable`. Received none: set it."
        )
    path = [str(entry) or os.getcwd() for entry in sys.path]
    command = [
        # "-P": nothing in the current folder is in the way of `json`.
        sys.executable, "-P", "-c", _BOOT,
        json.dumps(path), str(program), *arguments,
    ]  # fmt: skip
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            bufsize=0,
            **pipes,
        )
    except OSError as error:
        raise ExportError(
            "Export runs other Python processes, and none can be started: "
            f"{error}. Free memory, or raise the limit of processes."
        ) from error


def end_child(process: subprocess.Popen) -> int:
    """Ends a child process, if it still runs; returns its exit status."""
    if process.poll() is None:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return process.wait()


def how_it_ended(status: int) -> str:
    """End of a child as part of a sentence, from its exit status."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = str(-status)
    text = f"was ended by signal {name}"
    if name == "SIGKILL":
        text += ", as the system does when memory runs out"
    return text


def last_lines(log: IO[bytes]) -> str:
    """Last lines of the log of a child that has ended.

    Args:
        log: binary file that the child wrote to.
    """
    log.seek(0)
    text = log.read().decode("utf-8", errors="replace")
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])


def requests_of_parent() -> queue.SimpleQueue:
    """Starts to read standard input, and ends this process when it closes.

    A child calls it before anything else. An interrupt from the keyboard
    reaches every process of a terminal: it is the parent that acts on it.

    Returns:
        Queue of bytes: the lines that the parent writes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lines: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    return lines


def _read(lines):
    rest = b""
    # A buffered read would hold a lock while the process ends.
    while some := os.read(sys.stdin.fileno(), 1 << 16):
        *whole, rest = (rest + some).split(b"\n")
        for line in whole:
            lines.put(line)
    os._exit(1)

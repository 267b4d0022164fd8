"""Runs the child process, and reports how it failed."""

import os
import subprocess
import sys

from keras_cascade.errors import ExportError

#: So many last lines of the child's errors are shown.
LAST_LINES = 15
REFUSED = 3
REFUSAL_FILE = "refusal.txt"


def run_child(folder):
    """Runs the optimization that a folder describes, and waits for it.

    The child watches its standard input: when this process ends, however it
    does, the pipe closes and the child stops.

    Args:
        folder: path that holds the job, and will hold the results.

    Raises:
        ExportError: what the child refused, or the last lines of its errors.
    """
    command = [sys.executable, "-m", f"{__package__}.child", str(folder)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    errors = folder / "errors.txt"
    with errors.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
        )
        try:
            status = process.wait()
        finally:
            process.stdin.close()
            if process.poll() is None:  # interrupted
                process.kill()
                process.wait()
    if status == REFUSED:
        raise ExportError((folder / REFUSAL_FILE).read_text(encoding="utf-8"))
    if status != 0:
        lines = errors.read_text(encoding="utf-8", errors="replace")
        last = "\n".join(lines.strip().splitlines()[-LAST_LINES:])
        raise ExportError(
            "Optimizing the student in a process of its own failed with exit "
            f"status {status}. Its last words:\n{last}"
        )

"""Keeps what native libraries write to standard error off the terminal."""

import os
import sys
import tempfile

SHOW = "KERAS_CASCADE_NATIVE_LOGS"


class NativeOutput:
    """Sends file descriptor 2 to a temporary file; Python keeps its own.

    TensorFlow and LiteRT greet every start with lines that nobody can act
    on. Python's `sys.stderr` still reaches the terminal. Set
    `KERAS_CASCADE_NATIVE_LOGS=1` to see everything.
    """

    def __init__(self):
        self._log = None

    def hide(self):
        """Starts hiding, once; does nothing where the user asked to see."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        if self._log is not None or os.environ.get(SHOW) == "1":
            return
        sys.stderr.flush()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, open to the end
        terminal = os.dup(2)
        os.dup2(self._log.fileno(), 2)
        sys.stderr = os.fdopen(terminal, "w", buffering=1)

    def replay(self):
        """Shows what was hidden, after a crash that it may explain."""
        if self._log is None:
            return
        self._log.seek(0)
        sys.stderr.write(self._log.read().decode(errors="replace"))

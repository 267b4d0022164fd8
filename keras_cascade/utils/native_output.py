"""Redirection of native libraries' standard error.

TensorFlow and LiteRT log at every start, and TensorFlow Lite's converter for
every model, without anything to act on. `KERAS_CASCADE_NATIVE_LOGS=1` shows all
of it.
"""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading

SHOW = "KERAS_CASCADE_NATIVE_LOGS"
#: Characters of hidden output in the note of an exception.
NOTED = 4_000

_one_at_a_time = threading.RLock()
_state = {"hidden": False}


class NativeOutput:
    """Redirects file descriptor 2 to a temporary file, without Python's stream.

    Python's `sys.stderr` still reaches the terminal.
    """

    def __init__(self):
        self._log = None
        self._terminal = None
        self._python = None
        self._said = ""
        self._watcher = None

    def hide(self):
        """Starts the redirection, unless `KERAS_CASCADE_NATIVE_LOGS=1`."""
        ask_for_less()
        if _state["hidden"] or os.environ.get(SHOW) == "1":
            return
        import tempfile

        self._python = sys.stderr
        self._terminal = os.dup(2)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, until `show`
        if _writes_to_descriptor_2(sys.stderr):
            sys.stderr.flush()
            sys.stderr = _python_stream()
        os.dup2(self._log.fileno(), 2)
        _state["hidden"] = True

    def show(self):
        """Ends the redirection; `read` still returns the hidden output."""
        if self._log is None:
            return
        os.dup2(self._terminal, 2)
        os.close(self._terminal)
        sys.stderr = self._python
        self._said = self.read()
        self._log.close()
        self._log = self._terminal = None
        _state["hidden"] = False

    def show_after_abort(self):
        """Shows the hidden output if this process dies without `ended`.

        A native `abort` leaves no chance to show anything. A small process
        waits for the end of this one; call this before threads start.
        """
        if self._log is None or not hasattr(os, "fork"):
            return
        ends, alive = os.pipe()
        process = os.fork()
        if not process:
            os.close(alive)
            try:
                _show_at_the_end(ends, self._log.fileno(), self._terminal)
            finally:
                os._exit(0)
        os.close(ends)
        self._watcher = (process, alive)

    def ended(self):
        """Ends the wait of `show_after_abort`: this process ends as usual."""
        if self._watcher is None:
            return
        process, alive = self._watcher
        self._watcher = None
        with contextlib.suppress(OSError):  # it was killed
            os.write(alive, b".")
            os.waitpid(process, 0)
        os.close(alive)

    def read(self):
        """Returns the hidden output so far, a str."""
        if self._log is None:
            return self._said
        self._log.seek(0)
        return self._log.read().decode(errors="replace")


@contextlib.contextmanager
def hidden_native_output():
    """Context manager that hides native output.

    An exception inside carries the hidden output as a note in its traceback.
    """
    with _one_at_a_time:
        output = NativeOutput()
        output.hide()
        try:
            yield
        except BaseException as error:
            if said := output.read().strip():
                error.add_note(f"Native libraries wrote:\n{said[-NOTED:]}")
            raise
        finally:
            output.show()


@contextlib.contextmanager
def without_remarks():
    """Context manager that limits TensorFlow's Python log to warnings.

    In a notebook it would log every file that it writes.
    """
    logger = logging.getLogger("tensorflow")
    level = logger.level
    if os.environ.get(SHOW) != "1":
        logger.setLevel(max(level, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(level)


def load_tensorflow():
    """Imports TensorFlow with its native output hidden.

    Returns:
        The module.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with hidden_native_output():
        import tensorflow as tf

        # The warning of a missing GPU comes when devices are first listed.
        tf.config.list_physical_devices()
    return tf


def ask_for_less():
    """Limits TensorFlow's native log to errors, unless the user set a level."""
    if os.environ.get(SHOW) != "1":
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _show_at_the_end(ends, log, terminal):
    """Copies the log to the terminal once the other process is gone.

    Args:
        ends: int, descriptor from which a byte comes if all is well.
        log: int, descriptor of the hidden output.
        terminal: int, descriptor of the terminal.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.close(0)
    os.close(1)  # who reads it waits for its end
    if os.read(ends, 1):
        return
    size = os.fstat(log).st_size
    said = os.pread(log, NOTED, max(0, size - NOTED))
    if said.strip():
        os.write(
            terminal,
            b"The process was ended from outside of Python. Native libraries "
            b"wrote:\n" + said,
        )


@functools.cache
def _python_stream():
    """Stream for Python's `sys.stderr` while native output is hidden.

    It stays open: a logger that is made meanwhile holds on to it.
    """
    return os.fdopen(os.dup(2), "w", buffering=1)


def _writes_to_descriptor_2(stream):
    # A notebook's stream, or a test's, goes elsewhere.
    try:
        return stream.fileno() == 2
    except (AttributeError, OSError, ValueError):
        return False

"""Redirection of native libraries' standard error.

TensorFlow and LiteRT log at every start, and TensorFlow Lite's converter for
every model, without anything to act on. `KERAS_CASCADE_NATIVE_LOGS=1` shows all
of it.
"""

import contextlib
import functools
import logging
import os
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

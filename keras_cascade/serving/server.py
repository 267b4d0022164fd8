"""Runs KServe's model server for a bundle's teacher."""

import os
import signal
import socket
import sys
import threading

from keras_cascade.bundle import Bundle, BundleError


def serve(
    path, host="127.0.0.1", port=8501, exit_with_stdin=False, ready_file=None
):
    """Serves a bundle's teacher until it is told to stop.

    Both protocols answer on one port: TensorFlow Serving's REST form
    (`POST /v1/models/teacher:predict`) and Open Inference Protocol v2
    (`POST /v2/models/teacher/infer`).

    Args:
        path: folder of the bundle.
        host: str, address to listen on. Defaults to `"127.0.0.1"`, which
            other machines cannot reach.
        port: int, or 0 for any free one. Defaults to `8501`.
        exit_with_stdin: bool. Stops when standard input ends, so that a
            server never outlives the process that started it. Defaults to
            `False`.
        ready_file: optional path. The teacher's URL is written there once it
            answers. Defaults to `None`.

    Raises:
        BundleError: the bundle cannot be used or holds no teacher.
        OSError: the address cannot be listened on.
    """
    bundle = Bundle.load(path)
    if bundle.teacher_folder is None:
        raise BundleError(f"The bundle '{path}' holds no teacher to serve.")
    _check_address(host, port)
    _import_kserve()
    from keras_cascade.serving.local_server import LocalServer
    from keras_cascade.serving.teacher_model import TeacherModel

    model = TeacherModel(bundle)
    model.load()
    if exit_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    LocalServer(host, port, ready_file).start([model])


def _check_address(host, port):
    """Fails in a moment what would fail after the model was loaded."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise OSError(
            f"Expected an address to listen on. Received: {host}, port "
            f"{port}, which cannot be used ({error.strerror or error}). "
            "Choose another --port or --host."
        ) from None


def _import_kserve():
    # KServe parses the process's arguments when it is imported: hide ours.
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        import kserve  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Serving needs KServe. Install it with "
            "`pip install 'keras-cascade[serve]'`."
        ) from error
    finally:
        sys.argv = arguments


def _stop_at_end_of_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

"""Runs KServe's model server for a bundle's teacher."""

import os
import signal
import sys
import threading

from keras_cascade.bundle import Bundle, BundleError


def serve(path, host="127.0.0.1", port=8501, exit_with_stdin=False):
    """Serves a bundle's teacher until it is told to stop.

    Both protocols answer on one port: TensorFlow Serving's REST form
    (`POST /v1/models/teacher:predict`) and Open Inference Protocol v2
    (`POST /v2/models/teacher/infer`).

    Args:
        path: folder of the bundle.
        host: str, address to listen on. Defaults to `"127.0.0.1"`, which
            other machines cannot reach.
        port: int. Defaults to `8501`.
        exit_with_stdin: bool. Stops when standard input ends, so that a
            server never outlives the process that started it. Defaults to
            `False`.

    Raises:
        BundleError: the bundle cannot be used or holds no teacher.
    """
    bundle = Bundle.load(path)
    if bundle.teacher_folder is None:
        raise BundleError(f"The bundle '{path}' holds no teacher to serve.")
    kserve = _import_kserve()

    class LocalServer(kserve.ModelServer):
        """KServe listens on every address; this one where it is told."""

        async def _serve(self):
            self._rest_server.config.host = host
            await super()._serve()

    from keras_cascade.serving.teacher_model import TeacherModel

    model = TeacherModel(bundle)
    model.load()
    if exit_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    LocalServer(http_port=port, enable_grpc=False, workers=1).start([model])


def _import_kserve():
    # KServe parses the process's arguments when it is imported: hide ours.
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        import kserve
    except ImportError as error:
        raise ImportError(
            "Serving needs KServe. Install it with "
            "`pip install 'keras-cascade[serve]'`."
        ) from error
    finally:
        sys.argv = arguments
    return kserve


def _stop_at_end_of_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

"""Serves a bundle's teacher over HTTP and gRPC."""

import asyncio
import os
import signal
import threading

from keras_cascade.bundle import Bundle, BundleError


def serve(
    path,
    host="127.0.0.1",
    port=8501,
    grpc_port=8001,
    workers=1,
    max_batch=256,
    max_delay_ms=0.0,
    max_request_mb=64.0,
    token_file=None,
    tls_cert=None,
    tls_key=None,
    exit_with_stdin=False,
    ready_file=None,
):
    """Serves a bundle's teacher until it is told to stop.

    TensorFlow Serving's REST form (`POST /v1/models/teacher:predict`) and
    Open Inference Protocol v2 (`POST /v2/models/teacher/infer`, tensors as
    JSON or as bytes) share one port; v2 over gRPC has its own. Requests that
    wait at the same time share a run of the teacher. A bundle that replaces
    the one at `path` takes over without a pause. SIGTERM: what has begun is
    answered, then the function returns. Metrics for Prometheus are at
    `/metrics`; the log, on standard error, is one JSON object a line.

    Args:
        path: folder of the bundle.
        host: str, address to listen on. Defaults to `"127.0.0.1"`, which
            other machines cannot reach.
        port: int, or 0 for any free one. Defaults to `8501`.
        grpc_port: int, or 0 for any free one. Defaults to `8001`.
        workers: int. Must be 1: one process holds one teacher, whose runs
            use every core. Defaults to `1`.
        max_batch: int, rows in one run of the teacher, and in one request.
            Defaults to `256`.
        max_delay_ms: float, how long a request may wait for others while
            the teacher is idle. Defaults to `0.0`: a batch is what arrived
            while the one before it ran.
        max_request_mb: float, MiB of the largest request. Defaults to `64`.
        token_file: path of a file with a token a line, one of which every
            request must carry (`authorization: Bearer TOKEN`), other than
            for health. Defaults to `None`: everyone may ask.
        tls_cert: path of the certificate with its chain, PEM. Defaults to
            `None`: without TLS.
        tls_key: path of its key, PEM. Defaults to `None`.
        exit_with_stdin: bool. Stops when standard input ends, so that a
            server never outlives the process that started it. Defaults to
            `False`.
        ready_file: optional path. The teacher's URLs are written there once
            it answers: HTTP, gRPC. Defaults to `None`.

    Raises:
        BundleError: the bundle cannot be used or holds no teacher.
        OSError: the address cannot be listened on.
        ValueError: an option that cannot be.
    """
    if workers != 1:
        raise ValueError(
            f"Expected `workers` to be 1. Received: {workers}. One process "
            "gathers requests into batches, and a run of the teacher uses "
            "every core: more would share the cores and split the batches. "
            "For more machines, start one server on each."
        )
    bundle = Bundle.load(path)
    if bundle.teacher_folder is None:
        raise BundleError(f"The bundle '{path}' holds no teacher to serve.")
    _check_installed()
    from keras_cascade.serving.address import Address
    from keras_cascade.serving.limits import MEBIBYTE, Limits
    from keras_cascade.serving.reloader import Reloader
    from keras_cascade.serving.served_teacher import ServedTeacher
    from keras_cascade.serving.server_log import log, set_up_logging
    from keras_cascade.serving.server_metrics import ServerMetrics
    from keras_cascade.serving.teacher_server import TeacherServer
    from keras_cascade.serving.teacher_service import TeacherService
    from keras_cascade.serving.tokens import Tokens

    tls = (tls_cert, tls_key) if tls_cert or tls_key else None
    address = Address(host, port, grpc_port, tls)
    tokens = Tokens.from_file(token_file)
    limits = Limits(
        max_batch=max_batch,
        max_delay=max_delay_ms / 1000,
        max_request_bytes=int(max_request_mb * MEBIBYTE),
    )
    sockets = [address.bind()]
    set_up_logging()
    if not address.local and not tokens:
        log(
            "warning",
            "open_to_everyone",
            warning=f"Whoever can reach {host} can use this teacher: there is "
            "no --token-file. Pass one, or listen on 127.0.0.1.",
        )
    log("info", "loading", bundle=str(path))
    metrics = ServerMetrics()

    def served(bundle):
        return ServedTeacher.load(bundle, limits, metrics)

    service = TeacherService(served(bundle), limits, tokens, metrics)
    if exit_with_stdin:
        threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
    reloader = Reloader(path, lambda: served(Bundle.load(path)), service)
    server = TeacherServer(service, reloader, sockets, address, ready_file)
    asyncio.run(server.run())


def _check_installed():
    try:
        import fastapi  # noqa: F401
        import grpc  # noqa: F401
        import orjson  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Serving needs the package '{error.name}'. Install it with "
            "`pip install 'keras-cascade[serve]'`."
        ) from error


def _stop_at_end_of_stdin():
    # Not through `sys.stdin`: its lock, held here, would abort the exit.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

"""Server of a bundle's teacher over HTTP and gRPC, from start to stop.

The modules with FastAPI, gRPC and Uvicorn are imported inside the functions:
`import keras_cascade.serving` needs none of them, and options are checked
before they load.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.serving.cors import ANY, checked_origins
from keras_cascade.serving.credentials import Credentials
from keras_cascade.serving.descriptors import (
    ConnectionBudget,
    descriptors_in_use,
    raise_descriptor_limit,
)
from keras_cascade.serving.server_log import log, server_logging
from keras_cascade.serving.settings import MEBIBYTE, Address, Limits
from keras_cascade.serving.tls import TlsFiles


def serve(
    path: str | os.PathLike,
    host: str = "127.0.0.1",
    port: int = 8501,
    grpc_port: int = 8001,
    workers: int = 1,
    max_batch: int = 256,
    max_delay_ms: float = 0.0,
    max_wait: float = 5.0,
    max_request_mb: float = 64.0,
    token_file: str | os.PathLike | None = None,
    tls_cert: str | os.PathLike | None = None,
    tls_key: str | os.PathLike | None = None,
    tls_client_ca: str | os.PathLike | None = None,
    max_connections_per_client: int | None = None,
    exit_with_stdin: bool = False,
    ready_file: str | os.PathLike | None = None,
    public_key: str | os.PathLike | None = None,
    allow_file_operations: bool = False,
    cors_origins: Sequence[str] | None = None,
    web: bool = False,
    teacher: Any = None,
) -> None:
    """Serves a bundle's teacher over HTTP and gRPC until SIGTERM or SIGINT.

    TensorFlow Serving's REST protocol (`POST /v1/models/teacher:predict`) and
    Open Inference Protocol v2 (`POST /v2/models/teacher/infer`, tensors as
    JSON or in binary) share one port; v2 over gRPC has its own. Requests
    that wait at the same time share a run of the teacher. A bundle that
    replaces the one at `path` takes over without downtime. After SIGTERM,
    requests in flight are answered, then the function returns. SIGHUP reads
    tokens, certificate and key anew. Metrics for Prometheus are at
    `/metrics`; the log, on standard error, is one JSON object per line.

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
        max_delay_ms: float, time that a request may wait for others while
            the teacher is idle. Defaults to `0.0`: a batch is what arrived
            while the one before it ran.
        max_wait: float, seconds that a request may wait for its run, by the
            estimate from past runs; one that would wait longer, or longer
            than the timeout it states, is refused at once with 429. Defaults
            to `5.0`.
        max_request_mb: float, MiB of the largest request. A smaller limit
            follows from the bundle's inputs, where their sizes are fixed.
            Defaults to `64`.
        token_file: path of a file with one token per line, one of which
            every request must carry (`authorization: Bearer TOKEN`), except
            for health checks. Defaults to `None`: no authorization.
        tls_cert: path of the certificate with its chain, PEM. Defaults to
            `None`: without TLS.
        tls_key: path of its key, PEM. Defaults to `None`.
        tls_client_ca: path of certificates, PEM. Only clients with a
            certificate that one of them signed are served (mutual TLS).
            Defaults to `None`.
        max_connections_per_client: int, HTTP connections of one client
            address. Defaults to `None`: seven eighths of all that the file
            descriptors allow.
        exit_with_stdin: bool. Stops when standard input ends, so that a
            server never outlives the process that started it. Defaults to
            `False`.
        ready_file: optional path. The teacher's URLs are written there once
            it answers: HTTP in the first line, gRPC in the second. Defaults
            to `None`.
        public_key: path of an Ed25519 public key (PEM) that the bundle, and
            every one that replaces it, must be signed for. Defaults to
            `None`: signatures are not looked at.
        allow_file_operations: bool. Serves a graph that opens files or
            reaches out of TensorFlow in another way, which whoever made the
            bundle can then do with the rights of this process. Defaults to
            `False`: such a graph is refused.
        cors_origins: list of str, origins of the web pages whose scripts may
            use the teacher over HTTP, such as `"https://shop.example"`, or
            `"*"` for any page. Cookies are never used. `()`: browsers stop
            all. Defaults to `None`: any page where there is no `token_file`,
            as then anyone may ask, none where there is one.
        web: bool. Serves a web page at `/web/` that runs the bundle in a
            browser and asks this server, and with it, to whoever reaches the
            server, the bundle's files for devices. Defaults to `False`.
        teacher: what `keras_cascade.teachers.get` takes, such as a PyTorch
            module or a scikit-learn pipeline: the teacher that the bundle was
            exported with and cannot hold. It is checked to be that one, and
            its answers state the identity that the manifest has. Defaults to
            `None`: the bundle's own.

    Raises:
        BundleError: the bundle cannot be used, holds no teacher, or was
            exported with another one than `teacher`.
        FileNotFoundError: the page, which is built by Node, is not installed.
        ImportError: the extra `serve` is not installed.
        OSError: the address cannot be listened on.
        ValueError: an invalid option.

    Example:

    ```python
    keras_cascade.serving.serve("saved_models/fashion_mnist", port=8501)
    ```
    """
    if workers != 1:
        raise ValueError(
            f"Expected `workers` to be 1. Received: {workers}. One process "
            "gathers requests into batches, and a run of the teacher uses "
            "every core: more would share the cores and split the batches. "
            "For more machines, start one server on each."
        )
    if cors_origins is None:
        cors_origins = () if token_file else (ANY,)
    origins = checked_origins(cors_origins)
    # Read once: the same key as long as the server runs.
    key = None if public_key is None else Path(public_key).read_bytes()

    def open_bundle():
        return Bundle.load(path, public_key=key)

    bundle = open_bundle()
    if teacher is not None:
        # Here, as it loads Keras.
        from keras_cascade.teachers import get

        teacher = get(teacher)
    elif bundle.teacher_folder is None:
        raise BundleError(
            f"{bundle.lacks_teacher()} There is none to serve: pass the object "
            "as `teacher`, on the command line its name with `--teacher "
            "MODULE:NAME`."
        )
    _check_installed()
    from keras_cascade.serving.loaded_teacher import LoadedTeacher
    from keras_cascade.serving.reloader import Reloader
    from keras_cascade.serving.server_metrics import ServerMetrics
    from keras_cascade.serving.teacher_service import TeacherService
    from keras_cascade.serving.web_page import (
        WebPage,
        check_page,
        device_files,
    )

    if web:
        check_page()
    tls = TlsFiles.from_options(tls_cert, tls_key, tls_client_ca)
    address = Address(host, port, grpc_port, tls)
    limits = Limits(
        max_batch=max_batch,
        max_delay=max_delay_ms / 1000,
        max_wait=max_wait,
        max_request_bytes=int(max_request_mb * MEBIBYTE),
        max_connections_per_client=max_connections_per_client,
    )
    credentials = Credentials(token_file, tls)
    # Bound before the teacher loads, which takes seconds: a port in use is
    # an error at once, and no other process takes it meanwhile.
    http_socket = address.bind()
    with server_logging(), _ignored_hangup():
        if not address.is_local and not credentials.tokens:
            log(
                "warning",
                "open_to_everyone",
                warning=f"Whoever can reach {host} can use this teacher: "
                "there is no --token-file. Pass one, or listen on 127.0.0.1.",
            )
        if ANY in origins and not credentials.tokens:
            log(
                "warning",
                "open_to_every_page",
                warning="Any web page that is open in a browser which reaches "
                "this server can use the teacher: there is no --token-file. "
                "Pass one, or name the pages with --cors-origin, or none.",
            )
        log("info", "loading", bundle=str(path))
        metrics = ServerMetrics()

        def load(bundle):
            loaded = LoadedTeacher.load(
                bundle, limits, metrics, allow_file_operations, teacher
            )
            if web:
                loaded.device_files = device_files(bundle)
            return loaded

        service = TeacherService(
            load(bundle), limits, credentials.tokens, metrics
        )
        del bundle  # and with it the student's bytes
        if exit_with_stdin:
            threading.Thread(target=_stop_at_end_of_stdin, daemon=True).start()
        reloader = Reloader(path, lambda: load(open_bundle()), service)
        server = _Server(
            service, reloader, credentials, http_socket, address, ready_file,
            origins, WebPage(service) if web else None,
        )  # fmt: skip
        asyncio.run(server.run())


class _Server:
    """Runs both protocols and the reloader, and drains them at the end.

    Args:
        service: `TeacherService`.
        reloader: `Reloader`.
        credentials: `Credentials`.
        http_socket: bound socket for HTTP.
        address: `Address`.
        ready_file: optional path for the teacher's URLs.
        origins: tuple of `checked_origins`.
        page: `WebPage` or `None`.
    """

    def __init__(
        self, service, reloader, credentials, http_socket, address, ready_file,
        origins, page,
    ):  # fmt: skip
        self._service = service
        self._reloader = reloader
        self._credentials = credentials
        self._http_socket = http_socket
        self._address = address
        self._ready_file = ready_file
        self._origins = origins
        self._page = page
        self._stop_task = None

    async def run(self):
        """Runs until SIGTERM or SIGINT; a second one ends it at once."""
        from keras_cascade.serving.grpc_connections import GrpcConnections
        from keras_cascade.serving.grpc_service import grpc_server
        from keras_cascade.serving.http_application import http_application
        from keras_cascade.serving.http_server import http_server

        service, address = self._service, self._address
        budget = ConnectionBudget.of(
            service.limits, raise_descriptor_limit(), descriptors_in_use()
        )
        http = http_server(
            http_application(service, self._origins, self._page),
            service,
            budget,
            self._credentials.http_context,
            self._origins,
        )
        connections = GrpcConnections(budget.grpc, lambda: len(http.table))
        grpc, grpc_port = grpc_server(
            service,
            address.host,
            address.grpc_port,
            connections,
            budget,
            self._credentials.grpc_credentials,
        )
        connections.sockets.port = grpc_port
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload_credentials, http)
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signal_number, self._stop, stop, http, grpc)
        await grpc.start()
        tasks = [
            asyncio.create_task(http.serve([self._http_socket])),
            asyncio.create_task(self._reloader.run()),
            asyncio.create_task(connections.run()),
        ]
        await self._wait_for(http.listening, tasks)
        self._announce(grpc_port)
        await self._wait_for(stop, tasks)
        http.should_exit = True
        await asyncio.gather(tasks[0], grpc.stop(service.limits.drain_seconds))
        for task in tasks[1:]:
            task.cancel()
        await service.teacher.close()
        log("info", "stopped")

    def _stop(self, stop, http, grpc):
        if stop.is_set():
            log("warning", "stopping_at_once")
            http.force_exit = True
            # Kept: the event loop itself holds only a weak reference.
            self._stop_task = asyncio.create_task(grpc.stop(0))
            return
        log("info", "draining")
        self._service.drain()
        stop.set()

    def _reload_credentials(self, http):
        try:
            self._credentials.reload()
        except (OSError, ValueError) as error:
            log("error", "credentials_refused", why=str(error))
            return
        self._service.tokens = self._credentials.tokens
        http.use_tls(self._credentials.http_context)
        log("info", "credentials_reloaded", tokens=len(self._service.tokens))

    @staticmethod
    async def _wait_for(event, tasks):
        """Waits for an event; raises if one of the tasks ends before it."""
        waiting = asyncio.create_task(event.wait())
        done, _ = await asyncio.wait(
            [waiting, *tasks], return_when=asyncio.FIRST_COMPLETED
        )
        if waiting not in done:
            waiting.cancel()
            for task in done:
                task.result()
            raise RuntimeError("The server stopped without a signal.")

    def _announce(self, grpc_port):
        port = self._http_socket.getsockname()[1]
        host, name = self._address.url_host, self._service.name
        secure = "s" if self._address.tls else ""
        urls = {
            "http": f"http{secure}://{host}:{port}/v1/models/{name}",
            "grpc": f"grpc{secure}://{host}:{grpc_port}/{name}",
        }
        page = {}
        if self._page is not None:
            page["web"] = f"http{secure}://{host}:{port}{self._page.path}"
        version = self._service.teacher.version
        log("info", "serving", **urls, **page, version=version)
        if self._ready_file is not None:
            # Renamed, so that whoever waits for the file never reads half.
            part = Path(f"{self._ready_file}.part")
            part.write_text("\n".join(urls.values()), encoding="utf-8")
            os.replace(part, self._ready_file)


@contextlib.contextmanager
def _ignored_hangup():
    """Ignores SIGHUP until its handler stands, as it would end the process."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def _check_installed():
    try:
        import fastapi  # noqa: F401
        import grpc  # noqa: F401
        import httptools  # noqa: F401
        import msgspec  # noqa: F401
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

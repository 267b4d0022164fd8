"""HTTP requests: authorization and size limits, body, JSON, errors."""

import asyncio
import contextlib

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_HEADER,
    TIMEOUT_HEADER,
    TOP_K_HEADER,
)
from keras_cascade.serving.request_error import CLIENT_GONE, RequestError
from keras_cascade.serving.server_log import EDGE_ROWS, RequestRecord

#: Paths without authorization, as a machine's health checks carry no token:
#: they say that the server answers, and nothing of what it serves.
OPEN = ("/", "/v2/health/live", "/v2/health/ready")
DISCARD_SECONDS = 5.0


class RequestMiddleware:
    """ASGI middleware: authorization, size limits, request logging.

    Args:
        app: ASGI application.
        service: `TeacherService`.
    """

    def __init__(self, app, service):
        self._app = app
        self._service = service

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        record = RequestRecord(
            _protocol(scope["path"]), headers.get("x-request-id")
        )
        record.client = (scope.get("client") or (None,))[0]
        scope.setdefault("state", {})["record"] = record
        response = _Response(send, record)
        failure = None
        try:
            self._admit(scope, headers, record)
            await self._app(scope, receive, response.send)
        except RequestError as error:
            # Its body was not read: what is left of it in the connection
            # must not be taken for the next request, so it is closed.
            if "connection" in scope["state"]:
                scope["state"]["connection"].refuse()
            await _discard(receive, self._service.max_request_bytes)
            respond = error_response(error, close=True)
            await respond(scope, receive, response.send)
        except asyncio.CancelledError:
            # Uvicorn cancels what is unfinished when the timeout for
            # draining is over.
            if response.status is None:
                stopped = RequestError(503, "The server has stopped.", 1)
                respond = error_response(stopped, close=True)
                await respond(scope, receive, response.send)
        except Exception as error:  # the server's own fault
            failure = error
            if response.status is None:
                await failure_response(record)(scope, receive, response.send)
        finally:
            self._service.release(record)
            status = response.status
            if record.rows and "connection" in scope["state"]:
                scope["state"]["connection"].know()
            record.close(
                CLIENT_GONE if status is None else status,
                self._service.metrics,
                failure,
            )

    def _admit(self, scope, headers, record):
        path = scope["path"]
        if path in OPEN:
            return
        if scope["state"].get("busy"):
            raise RequestError(
                503, "The server has too many requests. Try again later.", 1
            )
        self._service.admit(
            headers.get("authorization"), even_draining=path == "/metrics"
        )
        if path.startswith(("/v1/models/", "/v2/models/")):
            record.teacher = self._service.teacher.identity
        limit = self._service.max_request_bytes
        size = _content_length(headers)
        if size > limit:
            raise RequestError(
                413,
                f"Expected a body of at most {limit} bytes. Received "
                f"'content-length: {size}'. Send fewer rows.",
            )
        coding = headers.get("content-encoding", "identity")
        if coding != "identity":
            raise RequestError(
                415,
                "Expected a body without 'content-encoding'. Received: "
                f"{coding[:30]!r}.",
            )
        record.read_edge_rows(headers.get(EDGE_ROWS))
        record.read_top_k(headers.get(TOP_K_HEADER))
        record.read_timeout(headers.get(TIMEOUT_HEADER))


class _Response:
    """ASGI `send`: records the status, states the request's id and teacher."""

    def __init__(self, send, record):
        self._send = send
        self._record = record
        self.status = None

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self._record.id
            if self._record.teacher is not None:
                headers[IDENTITY_HEADER] = self._record.teacher
        await self._send(message)


async def read_body(request, service, record):
    """Reads a body and counts its bytes while they are held in memory.

    Args:
        request: `starlette.requests.Request`.
        service: `TeacherService`.
        record: `RequestRecord` of the request.

    Returns:
        Bytes or bytearray.

    Raises:
        RequestError: it would wait too long, is longer than the limits or
            shorter than `content-length`, or a timeout.
    """
    limits = service.limits
    body = b""
    try:
        service.check_room(record)
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                service.hold(len(part), record)
                if not body:  # the only one, mostly
                    body = part
                    continue
                # Grows in place: parts that are joined at the end would take
                # twice the size.
                if isinstance(body, bytes):
                    body = bytearray(body)
                body += part
    except TimeoutError:
        raise RequestError(
            408,
            f"Expected the whole body within {limits.body_seconds:g} s. "
            f"Received {record.bytes} bytes of it. Is 'content-length' right?",
        ) from None
    except ClientDisconnect:
        raise RequestError(
            400,
            f"Expected the whole body. Received {record.bytes} bytes of it. "
            "Is 'content-length' right?",
        ) from None
    except RequestError:
        body = b""
        await _discard(request.receive, service.max_request_bytes)
        raise
    return body


@contextlib.asynccontextmanager
async def watched_client(request):
    """Watches a client whose request was read, while it waits.

    Args:
        request: `starlette.requests.Request`.

    Yields:
        `asyncio.Task`, done once the client has gone.
    """

    async def disconnected():
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.create_task(disconnected())
    try:
        yield gone
    finally:
        gone.cancel()


def read_json(body):
    """Reads a JSON object, strictly.

    Nesting is bounded twice: the parser stops at 1024 levels, the readers of
    tensors at 64 axes.

    Args:
        body: bytes-like, of at most `json_tensors.SMALL` bytes: the objects
            take many times its size.

    Returns:
        Dict.

    Raises:
        RequestError: not JSON (NaN is none), nested too deeply, no object.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400, f"Expected JSON in the body. Received something else: {error}."
        ) from None
    if not isinstance(value, dict):
        raise RequestError(
            400,
            "Expected a JSON object in the body. Received: "
            f"{type(value).__name__}.",
        )
    return value


def write_json(value):
    """Returns JSON bytes; float32 in the fewest digits that identify it."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def error_response(error, close=False):
    """Returns the HTTP response to a `RequestError`.

    Args:
        error: `RequestError`.
        close: bool. Ends the connection after it. Defaults to `False`.
    """
    headers = error.headers
    if close:
        headers["connection"] = "close"
    return JSONResponse({"error": error.message}, error.status, headers)


def failure_response(record):
    """Returns the HTTP response to an exception of the server itself.

    Args:
        record: `RequestRecord` of the request.
    """
    return JSONResponse(
        {
            "error": "The server failed to answer. Its log says more under "
            f"the request id {record.id}."
        },
        500,
    )


async def _discard(receive, max_bytes):
    """Reads the rest of a body without keeping it.

    A connection that is closed while its client still sends is reset, and
    the response lost with it. So the client may finish, within bounds.
    """
    size = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while size <= max_bytes:
                message = await receive()
                if not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))
    except TimeoutError:
        return


def _content_length(headers):
    """Returns `content-length` as int; 0 without the header."""
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) < 19):
        raise RequestError(
            400,
            "Expected 'content-length' to be a whole number. Received: "
            f"{declared[:30]!r}.",
        )
    return int(declared)


def _protocol(path):
    if path.endswith("/infer") and path.startswith("/v2/"):
        return "v2_http"
    if path.endswith(":predict") and path.startswith("/v1/"):
        return "v1"
    return "other"

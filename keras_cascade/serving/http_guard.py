"""Stands before the HTTP application: who may ask, and what is kept of it."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from keras_cascade.serving.http_body import declared_size, discard
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.request_record import EDGE_ROWS, RequestRecord

#: Open to everyone, as a machine's health checks carry no token: they say
#: whether the server answers, and nothing of what it serves or to whom.
OPEN = ("/", "/v2/health/live", "/v2/health/ready")
CLIENT_GONE = 499


class HttpGuard:
    """ASGI middleware: token, size, draining, metrics, log.

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
        scope.setdefault("state", {})["record"] = record
        answer = _Answer(send, record.id)
        error = None
        try:
            self._admit(scope["path"], headers, record)
            await self._app(scope, receive, answer.send)
        except RequestError as refused:
            # The body was not read, and must not be taken for a request.
            await discard(receive, self._service.limits.max_request_bytes)
            await refusal(refused, close=True)(scope, receive, answer.send)
        except asyncio.CancelledError:  # the server waited long enough
            if answer.status is None:
                late = RequestError(503, "The server has stopped.", 1)
                await refusal(late, close=True)(scope, receive, answer.send)
        except Exception as caught:  # the server's own fault
            error = caught
            if answer.status is None:
                await failure(record)(scope, receive, answer.send)
        finally:
            self._service.release(record)
            status = CLIENT_GONE if answer.status is None else answer.status
            record.close(status, self._service.metrics, error)

    def _admit(self, path, headers, record):
        if path in OPEN:
            return
        self._service.admit(
            headers.get("authorization"), even_draining=path == "/metrics"
        )
        limit = self._service.limits.max_request_bytes
        size = declared_size(headers)
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


class _Answer:
    """Sees the answer's status, and adds the request's id to it."""

    def __init__(self, send, identity):
        self._send = send
        self._identity = identity
        self.status = None

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._identity
        await self._send(message)


def refusal(error, close=False):
    """The HTTP answer to a `RequestError`.

    Args:
        error: `RequestError`.
        close: bool, ends the connection with it. Defaults to `False`.
    """
    headers = error.headers
    if close:
        headers["connection"] = "close"
    return JSONResponse({"error": error.message}, error.status, headers)


def failure(record):
    """The HTTP answer when the server itself is to blame.

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


def _protocol(path):
    if path.endswith("/infer") and path.startswith("/v2/"):
        return "v2_http"
    if path.endswith(":predict") and path.startswith("/v1/"):
        return "v1"
    return "other"

"""Client of the HTTP application in this process, without a socket."""

import asyncio
import dataclasses
import json

import numpy as np

from keras_cascade.serving.http_application import http_application

WEIGHTS = np.random.default_rng(5).normal(size=(6, 4)).astype("float32")


def linear_teacher(inputs):
    """Four logits of six features, which tests compute on their own."""
    return inputs["input"] @ WEIGHTS


@dataclasses.dataclass
class Response:
    """Status, headers and body of an HTTP response."""

    status: int
    headers: dict
    body: bytes

    def json(self):
        """Body as a JSON value."""
        return json.loads(self.body)


class AsgiClient:
    """Sends requests as Uvicorn does, each time in a new event loop.

    Args:
        make_service: function that returns a `TeacherService`.
        cors_origins: tuple of `checked_origins`. Defaults to `()`.
        page: function that returns a `WebPage` of a service. Defaults to
            `None`.

    Attributes:
        service: the last `TeacherService`.
    """

    def __init__(self, make_service, cors_origins=(), page=None):
        self.make_service = make_service
        self.cors_origins = cors_origins
        self.page = page
        self.service = None

    def __call__(self, *args, **kwargs):
        (response,) = self.together([(args, kwargs)])
        return response

    def together(self, requests):
        """Sends several requests at once."""

        async def run():
            self.service = self.make_service()
            page = self.page and self.page(self.service)
            app = http_application(self.service, self.cors_origins, page)
            responses = await asyncio.gather(
                *(self.one(app, *args, **kwargs) for args, kwargs in requests)
            )
            await self.service.teacher.close()
            return responses

        return asyncio.run(run())

    @staticmethod
    async def one(
        app, method, path, body=b"", headers=(), parts=None, gone=None
    ):
        """One request; `parts` are ASGI messages instead of a whole body.

        `gone` is an `asyncio.Event`: the client leaves when it is set.
        """
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = [(k.encode(), v.encode("latin-1")) for k, v in headers]
        if parts is None:
            parts = [{"type": "http.request", "body": body}]
            headers.append((b"content-length", str(len(body)).encode()))
        unread, sent = list(parts), []
        gone = gone or asyncio.Event()
        if parts[-1].get("more_body"):  # breaks off in its body
            gone.set()

        async def receive():
            if unread:
                return unread.pop(0)
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8501),
        }  # fmt: skip
        await app(scope, receive, send)
        start, *rest = sent
        return Response(
            start["status"],
            {k.decode(): v.decode() for k, v in start["headers"]},
            b"".join(one.get("body", b"") for one in rest),
        )

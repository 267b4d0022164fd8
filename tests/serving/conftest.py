"""A server in this process, without TensorFlow, asked as Uvicorn asks it."""

import asyncio
import dataclasses
import json
import logging

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.serving import ServerProcess
from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_log import LOGGER, JsonFormatter
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService

# Programs that tests run: KServe and Triton's client, which it imports,
# cannot be imported into one process.
collect_ignore = ["foreign_client.py", "foreign_text_client.py"]
WEIGHTS = np.random.default_rng(5).normal(size=(6, 4)).astype("float32")


def linear_teacher(inputs):
    """Four logits of six features: what the tests compute on their own."""
    return inputs["input"] @ WEIGHTS


@dataclasses.dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Asked:
    """Asks an ASGI application, each time in an event loop of its own.

    Args:
        make: function that returns a `TeacherService`.
    """

    def __init__(self, make):
        self.make = make
        self.service = None

    def __call__(self, *args, **kwargs):
        (answer,) = self.together([(args, kwargs)])
        return answer

    def together(self, requests):
        """Sends several requests at once."""

        async def run():
            self.service = self.make()
            app = http_application(self.service)
            answers = await asyncio.gather(
                *(self.one(app, *args, **kwargs) for args, kwargs in requests)
            )
            await self.service.teacher.close()
            return answers

        return asyncio.run(run())

    @staticmethod
    async def one(app, method, path, body=b"", headers=(), parts=None):
        """One request; `parts` are ASGI messages instead of a whole body."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = [(k.encode(), v.encode("latin-1")) for k, v in headers]
        if parts is None:
            parts = [{"type": "http.request", "body": body}]
            headers.append((b"content-length", str(len(body)).encode()))
        left, found = list(parts), []

        async def receive():
            if left:
                return left.pop(0)
            return {"type": "http.disconnect"}

        async def send(message):
            found.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1",
            "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8501),
        }  # fmt: skip
        await app(scope, receive, send)
        start, *rest = found
        return Answer(
            start["status"],
            {k.decode(): v.decode() for k, v in start["headers"]},
            b"".join(one.get("body", b"") for one in rest),
        )


@pytest.fixture(scope="package")
def server(bundle_path, tmp_path_factory):
    """The real server, in a process of its own."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    with ServerProcess(bundle_path, log) as running:
        yield running


@pytest.fixture(scope="session")
def expected(bundle_path):
    """A function: the logits of the bundle's own SavedModel."""
    return SavedModelTeacher(bundle_path / "teacher" / "1").logits


@pytest.fixture(scope="module")
def served_bundle(bundle_path):
    return Bundle.load(bundle_path)


@pytest.fixture(scope="module")
def asked(served_bundle):
    """A function that makes an `Asked` with the given options."""

    def make(run=linear_teacher, tokens=None, draining=False, **limits):
        def service():
            chosen, metrics = Limits(**limits), ServerMetrics()
            made = TeacherService(
                LoadedTeacher(served_bundle, run, chosen, metrics),
                chosen,
                tokens,
                metrics,
            )
            made.draining = draining
            return made

        return Asked(service)

    return make


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines = []

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def server_log():
    """The server's log as a list of lines."""
    handler = _Lines()
    level = LOGGER.level
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    yield handler.lines
    LOGGER.removeHandler(handler)
    LOGGER.setLevel(level)

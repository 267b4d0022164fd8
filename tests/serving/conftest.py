"""Fixtures: servers in a separate process and in this one."""

import logging

import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.serving import ServerProcess
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_log import LOGGER, JsonFormatter
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.asgi_client import AsgiClient, linear_teacher

# Programs that tests run: KServe and Triton's client, which it imports,
# cannot be imported into one process.
collect_ignore = ["triton_client.py", "triton_text_client.py"]


@pytest.fixture(scope="package")
def server(bundle_path, tmp_path_factory):
    """A server in a separate process."""
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
def make_client(served_bundle):
    """A function that makes an `AsgiClient` with options."""

    def make(
        run=linear_teacher,
        tokens=None,
        draining=False,
        cors_origins=(),
        **limits,
    ):
        def make_service():
            settings, metrics = Limits(**limits), ServerMetrics()
            service = TeacherService(
                LoadedTeacher(served_bundle, run, settings, metrics),
                settings,
                tokens,
                metrics,
            )
            service.draining = draining
            return service

        return AsgiClient(make_service, cors_origins)

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

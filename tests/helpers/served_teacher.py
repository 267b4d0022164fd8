"""A bundle's teacher behind an HTTP server of this process."""

import contextlib

from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.http_server_thread import HttpServerThread


@contextlib.contextmanager
def served(bundle, teacher=None, origins=()):
    """Serves a bundle's own teacher, or an object in its place.

    Args:
        bundle: `Bundle`.
        teacher: `keras_cascade.teachers.Teacher`. Defaults to `None`.
        origins: tuple of origins of web pages. Defaults to `()`.

    Yields:
        URL of the first protocol.
    """

    def service():
        limits, metrics = Limits(), ServerMetrics()
        loaded = LoadedTeacher.load(bundle, limits, metrics, teacher=teacher)
        return TeacherService(loaded, limits, None, metrics)

    def app(service):
        return http_application(service, origins)

    with HttpServerThread(service, app=app, origins=origins) as server:
        yield f"http://127.0.0.1:{server.port}/v1/models/teacher"

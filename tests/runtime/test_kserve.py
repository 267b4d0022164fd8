"""Every protocol against KServe's own server."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.runtime import teacher_at
from tests.helpers.scripted_teacher import sums

SERVER = Path(__file__).with_name("kserve_server.py")
X = {"input": np.arange(18, dtype="float32").reshape(3, 6)}


def free_ports():
    with contextlib.ExitStack() as stack:
        return [
            stack.enter_context(
                socket.create_server(("127.0.0.1", 0))
            ).getsockname()[1]
            for _ in range(2)
        ]


@pytest.fixture(scope="module", params=["json", "binary"])
def ports(request, tmp_path_factory):
    ports = free_ports()
    log = tmp_path_factory.mktemp("kserve") / "log"
    with open(log, "wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(SERVER), *map(str, ports), request.param],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    ready = process.stdout.readline()
    assert ready == "ready\n", log.read_text()
    yield ports
    process.terminate()
    process.communicate()


EVERY_PROTOCOL = pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1:{}/v1/models/teacher", {}),
        ("http://127.0.0.1:{}/v2/models/teacher", {}),
        ("http://127.0.0.1:{}/v2/models/teacher", {"binary": True}),
        ("http://127.0.0.1:{}", {}),
        ("grpc://127.0.0.1:{}/teacher", {}),
    ],
)


@EVERY_PROTOCOL
def test_every_protocol(ports, url, options):
    port = ports[url.startswith("grpc")]
    teacher = teacher_at(url.format(port), 4, max_rows=2, **options)
    teacher.check()
    np.testing.assert_array_equal(teacher.logits(X), sums(X))
    teacher.close()


@EVERY_PROTOCOL
def test_texts(ports, url, options):
    texts = ["plain", "é 漢字", "nul\0 at its end\0", "👩‍👩‍👧"]
    teacher = teacher_at(
        url.format(ports[url.startswith("grpc")]), 4, **options
    )
    found = teacher.logits({"text": np.array(texts, object)})
    teacher.close()
    expected = [[sum(text.encode()), 0, 0, 0] for text in texts]
    np.testing.assert_array_equal(found, expected)

"""ServerProcess: the server in a separate process, over HTTP."""

import os
import select
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest

from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess


def post(server, body, path="/v1/models/teacher:predict"):
    return httpx.post(
        f"http://127.0.0.1:{server.port}{path}",
        timeout=30,
        **({"content": body} if isinstance(body, bytes) else {"json": body}),
    )


def test_the_edge_cascade_over_http(server, bundle_path, blobs):
    x, _ = blobs(90)
    with EdgeCascade.load(bundle_path, teacher=server.url) as over_http:
        remote = over_http.predict(x)
    local = EdgeCascade.load(bundle_path, teacher="local").predict(x)
    assert set(remote.source) == {"edge", "cloud"}
    np.testing.assert_array_equal(remote.source, local.source)
    np.testing.assert_allclose(
        remote.probabilities, local.probabilities, atol=1e-6
    )


def test_instances(server, expected, blobs):
    x, _ = blobs(5)
    answer = post(server, {"instances": x.tolist()})
    assert answer.status_code == 200
    np.testing.assert_allclose(
        answer.json()["predictions"], expected({"input": x}), atol=1e-5
    )


@pytest.mark.parametrize("named", [False, True])
def test_inputs(server, expected, blobs, named):
    x, _ = blobs(5)
    columns = {"input": x.tolist()} if named else x.tolist()
    answer = post(server, {"inputs": columns})
    assert answer.status_code == 200
    np.testing.assert_allclose(
        answer.json()["outputs"], expected({"input": x}), atol=1e-5
    )


def test_open_inference_protocol(server, expected, blobs):
    x, _ = blobs(3)
    answer = post(
        server,
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": [3, 6],
                    "datatype": "FP32",
                    "data": x.ravel().tolist(),
                }
            ]
        },
        "/v2/models/teacher/infer",
    )
    assert answer.status_code == 200
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["shape"]) == ("logits", [3, 4])
    np.testing.assert_allclose(
        np.reshape(output["data"], (3, 4)), expected({"input": x}), atol=1e-5
    )


def v2(**changes):
    tensor = {
        "name": "input",
        "shape": [1, 6],
        "datatype": "FP32",
        "data": [1.0] * 6,
    }
    return {"inputs": [{**tensor, **changes}]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"inputs": []},
        v2(name="other"),
        v2(shape=[1, 7]),
        v2(shape=[0, 6]),
        v2(shape=[-1, 6]),
        v2(shape=[2**40, 6]),
        v2(data=[1.0] * 5),
        v2(data=[]),
        v2(data=["a"] * 6),
        v2(data=[[1.0], [1.0, 2.0]]),
        v2(datatype="FP99"),
        v2(datatype="UINT8", data=[999] * 6),
        {"inputs": v2()["inputs"] * 2},
    ],
)
def test_bad_open_inference_requests(server, body):
    answer = post(server, body, "/v2/models/teacher/infer")
    assert 400 <= answer.status_code < 500, answer.text


def test_the_model_stays_whatever_is_asked(server, blobs):
    base = f"http://127.0.0.1:{server.port}/v2/repository/models/teacher"
    for verb in ("unload", "load"):
        assert httpx.post(f"{base}/{verb}").status_code == 404
    x, _ = blobs(1)
    assert post(server, {"instances": x.tolist()}).status_code == 200


def test_metadata(server):
    url = f"http://127.0.0.1:{server.port}/v2/models/teacher"
    metadata = httpx.get(url).json()
    assert metadata["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 6]}
    ]
    assert metadata["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [-1, 4]}
    ]


def test_health(server):
    base = f"http://127.0.0.1:{server.port}"
    assert httpx.get(f"{base}/v2/health/ready").status_code == 200
    assert httpx.get(f"{base}/v2/models/teacher").status_code == 200
    assert httpx.get(server.url).json()["name"] == "teacher"
    assert httpx.get(f"{base}/v1/models/other").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        {},
        {"instances": []},
        {"instances": 3},
        {"instances": [[1.0, 2.0]]},
        {"instances": [1.0] * 6},
        {"instances": [["a"] * 6]},
        {"instances": [[1.0] * 6, [1.0]]},
        {"instances": [[1.0] * 6], "inputs": [[1.0] * 6]},
        {"instances": [{"other": [1.0] * 6}]},
        {"instances": [{"input": [1.0] * 6}, [1.0] * 6]},
        {"inputs": {"other": [[1.0] * 6]}},
        {"inputs": {}},
        b'{"instances": [[1e999, 1, 1, 1, 1, 1]]}',
        b'{"instances": [[NaN, 1, 1, 1, 1, 1]]}',
        {"instances": [[None] * 6]},
    ],
)
def test_bad_requests_are_answered_as_such(server, body):
    answer = post(server, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]


def test_it_listens_on_this_machine_only(server):
    with open(f"/proc/{server.pid}/net/tcp") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    local = {
        row[1].split(":")[0]
        for row in rows
        if row[3] == "0A" and int(row[1].split(":")[1], 16) == server.port
    }
    assert local == {"0100007F"}  # 127.0.0.1, byte by byte


def test_it_stops_with_the_process_that_started_it(bundle_path, tmp_path):
    """Even `kill -9` on the parent leaves no server behind."""
    code = (
        "import sys, time\n"
        "from keras_cascade.serving import ServerProcess\n"
        f"server = ServerProcess({str(bundle_path)!r}, "
        f"{str(tmp_path / 'log')!r})\n"
        "server.__enter__()\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    watch = os.pidfd_open(child)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    ready, _, _ = select.select([watch], [], [], 30)
    os.close(watch)
    assert ready, "the server outlived its parent"


def test_another_server_at_the_port_is_not_taken_for_it(
    server, bundle_path, tmp_path
):
    with (
        pytest.raises(RuntimeError, match="cannot be used"),
        ServerProcess(bundle_path, tmp_path / "log", port=server.port),
    ):
        pass


def test_a_server_that_cannot_start_says_why(tmp_path):
    with (
        pytest.raises(RuntimeError, match=r"status 1.*There is none at"),
        ServerProcess(tmp_path / "nothing", tmp_path / "log"),
    ):
        pass

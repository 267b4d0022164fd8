"""NVIDIA's `tritonclient`, over HTTP and gRPC, against the server."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CLIENT = Path(__file__).with_name("triton_client.py")


@pytest.fixture(scope="module")
def answers(server, tmp_path_factory):
    x = np.random.default_rng(2).normal(size=(5, 6)).astype("float32")
    file = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(file, x)
    http, grpc = (url.split("/")[2] for url in (server.url, server.grpc_url))
    done = subprocess.run(
        [sys.executable, CLIENT, http, grpc, file],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return x, json.loads(done.stdout)


@pytest.mark.parametrize("way", ["http_in", "http_out", "grpc"])
def test_inference_health_and_errors(answers, expected, way):
    x, result = answers
    answer = result[way]
    for name in ("logits", "default"):
        np.testing.assert_allclose(
            answer[name], expected({"input": x}), atol=1e-5
        )
    assert answer["live"] and answer["ready"] and answer["model_ready"]
    assert answer["other_ready"] in (False, "StatusCode.NOT_FOUND")
    status = "StatusCode.INVALID_ARGUMENT" if way == "grpc" else "400"
    assert [code for code, _ in answer["errors"]] == [status] * 2
    assert all("'input'" in text for _, text in answer["errors"])


def test_metadata(answers):
    _, result = answers
    over_grpc, over_http = result["grpc_metadata"], result["http_metadata"]
    assert over_http["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": [-1, 6]}
    ]
    assert over_grpc["inputs"] == [
        {"name": "input", "datatype": "FP32", "shape": ["-1", "6"]}
    ]
    assert over_grpc["versions"] == over_http["versions"] == ["1"]
    assert result["grpc_server"] == "keras-cascade"

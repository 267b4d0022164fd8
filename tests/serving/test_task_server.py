"""Servers of teachers whose answers are not one class per row."""

import httpx
import numpy as np
import pytest

from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess
from tests.helpers.task_cascades import TASKS

#: Far more rows than fit a text that is parsed whole.
ROWS = 200


@pytest.fixture(scope="module", params=["hamming", "bound", "pixels"])
def served(request, task_bundle, tmp_path_factory):
    """Name of a task, its Keras cascade and bundle, and a server of it."""
    cascade, bundle, _ = task_bundle(request.param)
    log = tmp_path_factory.mktemp("server") / "log"
    with ServerProcess(bundle.path, log) as server:
        yield request.param, cascade, bundle, server


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("v1", {}),
        ("v2", {"binary": True}),
        ("v2", {"binary": False}),
        ("grpc", {}),
        ("detected", {}),
    ],
)
def test_devices_answer_as_keras(served, protocol, options):
    name, cascade, bundle, server = served
    x, _ = TASKS[name][1](ROWS, 51)
    expected = cascade.predict(x, verbose=0)
    url = {
        "v1": server.url,
        "v2": server.url.replace("/v1/", "/v2/"),
        "grpc": server.grpc_url,
        "detected": server.url.partition("/v1/")[0],
    }[protocol]
    with EdgeCascade.load(
        bundle.path, url, "raise", teacher_identity="required", **options
    ) as edge:
        found = edge.predict(x)
    assert ((found.source == "cloud") == expected["delegated"]).all()
    output = cascade.task.answer_name
    np.testing.assert_allclose(
        getattr(found, output), expected[output], atol=1e-5
    )


def test_logits_are_those_of_the_keras_teacher(served):
    name, cascade, _, server = served
    x, _ = TASKS[name][1](3, 52)
    logits = cascade.teacher.predict(x, verbose=0)
    answer = httpx.post(f"{server.url}:predict", json={"instances": x.tolist()})
    np.testing.assert_allclose(
        answer.json()["predictions"], logits, rtol=1e-5, atol=1e-5
    )
    metadata = httpx.get(server.url.replace("/v1/", "/v2/")).json()
    (output,) = metadata["outputs"]
    assert output["shape"] == [-1, *logits.shape[1:]]


def test_the_largest_logits_alone_are_refused(served):
    name, _, _, server = served
    x, _ = TASKS[name][1](3, 53)
    answer = httpx.post(
        f"{server.url}:predict",
        json={"instances": x.tolist()},
        headers={"x-cascade-top-k": "1"},
    )
    assert answer.status_code == 400
    assert "not one class per row, and need every logit" in answer.text


def test_a_server_of_another_task_is_not_asked(served, task_bundle):
    *_, server = served
    bundle = task_bundle("example")[1]
    x, _ = TASKS["example"][1](20, 54)
    with EdgeCascade.load(bundle.path, server.url, retries=0) as edge:
        found = edge.predict(x)
    assert (found.source != "cloud").all()
    assert "is not the bundle's" in found.teacher_error

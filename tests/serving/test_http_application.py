"""HTTP application in this process: valid and invalid requests."""

import asyncio
import json
import re
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.settings import Tokens
from tests.helpers.asgi_client import linear_teacher

PREDICT = "/v1/models/teacher:predict"
INFER = "/v2/models/teacher/infer"
LENGTH = "inference-header-content-length"
X = np.random.default_rng(1).normal(size=(3, 6)).astype("float32")
LOGITS = linear_teacher({"input": X})


AS_BYTES = {"name": "logits", "parameters": {"binary_data": True}}


def tensor(**changes):
    """A v2 tensor of one row of ones."""
    fields = {
        "name": "input", "shape": [1, 6], "datatype": "FP32",
        "data": [1.0] * 6, **changes,
    }  # fmt: skip
    return {key: value for key, value in fields.items() if value is not None}


def v2(**changes):
    return {"inputs": [tensor(**changes)]}


def binary(raw, head=None, length=None, **changes):
    """Headers and body of a binary v2 request."""
    size = changes.pop("binary_data_size", len(raw))
    head = head or {
        "inputs": [
            tensor(data=None, parameters={"binary_data_size": size}, **changes)
        ]
    }
    text = json.dumps(head).encode()
    length = str(len(text)) if length is None else length
    return {"headers": [(LENGTH, length)], "body": text + raw}


@pytest.mark.parametrize("versions", ["", "/versions/1"])
def test_v1(make_client, versions):
    client = make_client()
    path = f"/v1/models/teacher{versions}:predict"
    for body, key in (
        ({"instances": X.tolist()}, "predictions"),
        ({"instances": [{"input": row.tolist()} for row in X]}, "predictions"),
        ({"inputs": X.tolist()}, "outputs"),
        ({"inputs": {"input": X.tolist()}}, "outputs"),
    ):
        body["signature_name"] = "serving_default"
        answer = client("POST", path, body)
        assert answer.status == 200
        # Not only close: float32 survives its way through JSON.
        logits = np.array(answer.json()[key], "float32")
        np.testing.assert_array_equal(logits, LOGITS)


@pytest.mark.parametrize("data", [X.ravel().tolist(), X.tolist()])
def test_v2_json(make_client, data):
    body = {"id": "one", **v2(shape=[3, 6], data=data)}
    answer = make_client()("POST", INFER, body)
    response = answer.json()
    assert (answer.status, response["id"]) == (200, "one")
    assert response["model_name"] == "teacher"
    assert response["model_version"] == "1"
    (output,) = response["outputs"]
    assert (output["name"], output["datatype"]) == ("logits", "FP32")
    np.testing.assert_array_equal(
        np.array(output["data"], "float32").reshape(output["shape"]), LOGITS
    )


@pytest.mark.parametrize(
    "options",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [AS_BYTES]},
        {
            "parameters": {"binary_data_output": False},
            "outputs": [AS_BYTES],
        },
    ],
)
def test_v2_binary_in_and_out(make_client, options):
    part = tensor(
        shape=[3, 6], data=None, parameters={"binary_data_size": X.nbytes}
    )
    head = {"inputs": [part], **options}
    answer = make_client()("POST", INFER, **binary(X.tobytes(), head))
    assert answer.status == 200
    length = int(answer.headers[LENGTH])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == LOGITS.nbytes
    assert "data" not in output
    assert answer.body[length:] == LOGITS.tobytes()


def test_metadata_health_and_description(make_client, served_bundle):
    identity = {"teacher": served_bundle.teacher_identity}
    client = make_client()
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert client("GET", path).status == 200
    assert client("GET", "/v1/models/teacher").json()["ready"] is True
    assert client("GET", "/v2/models/teacher/versions/1").json() == {
        "name": "teacher",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 6]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 4]}],
        "parameters": identity,
        "properties": identity,
    }
    assert client("GET", "/v2/models/teacher/ready").json()["ready"] is True
    described = client("GET", "/openapi.json").json()["paths"]
    assert "/v2/models/{model}/infer" in described


def test_every_answer_states_the_teacher(make_client, served_bundle):
    """Errors too: of the inputs, the body, the address and the server."""
    identity = served_bundle.teacher_identity
    client = make_client(max_request_bytes=2000)
    part = tensor(
        shape=[3, 6], data=None, parameters={"binary_data_size": X.nbytes}
    )
    head = {"inputs": [part], "outputs": [AS_BYTES]}
    for status, method, path, options in (
        (200, "POST", PREDICT, {"body": {"instances": X.tolist()}}),
        (200, "POST", INFER, {"body": v2()}),
        (200, "POST", INFER, binary(X.tobytes(), head)),
        (200, "GET", "/v1/models/teacher", {}),
        (200, "GET", "/v2/models/teacher", {}),
        (200, "GET", "/v2/models/teacher/ready", {}),
        (400, "POST", PREDICT, {"body": {"instances": [[1.0]]}}),
        (400, "POST", INFER, {"body": v2(shape=[1, 7])}),
        (413, "POST", INFER, {"body": b" " * 2001}),
        (404, "POST", INFER.replace("/infer", "/versions/7/infer"), {}),
        (404, "GET", "/v2/models/other", {}),
    ):
        answer = client(method, path, **options)
        assert answer.status == status
        assert answer.headers["x-cascade-teacher"] == identity
        if status == 200 and path == INFER:
            length = int(answer.headers.get(LENGTH, len(answer.body)))
            response = json.loads(answer.body[:length])
            assert response["parameters"] == {"teacher": identity}

    def broken(inputs):
        raise ZeroDivisionError

    answer = make_client(broken)("POST", INFER, v2())
    assert (answer.status, answer.headers["x-cascade-teacher"]) == (
        500,
        identity,
    )


def test_what_concerns_no_teacher_states_none(make_client):
    """Without a token nothing is said about the model."""
    client = make_client(tokens=Tokens(["a-token-of-some-length"]))
    for path in ("/", "/v2/health/ready", "/v2/models/teacher", "/nowhere"):
        assert "x-cascade-teacher" not in client("GET", path).headers


BAD_V1 = [
    (b"", "JSON"),
    (b"{", "JSON"),
    (b"[]", "object"),
    (b"null", "object"),
    (b"\xff\xfe", "JSON"),
    (b"[" * 100_000, "JSON"),
    (b'{"a":' * 30_000, "JSON"),
    (b'{"instances":' + b"[" * 500 + b"]" * 500 + b"}", "'input'"),
    (b'{"instances": [[NaN, 1, 1, 1, 1, 1]]}', "JSON"),
    (b'{"instances": [[1e999, 1, 1, 1, 1, 1]]}', "JSON"),
    ({}, "'instances'"),
    ({"instance": [[1.0] * 6]}, "'instances'"),
    ({"instances": []}, "'instances'"),
    ({"instances": 3}, "'instances'"),
    ({"instances": [[]]}, "'input'"),
    ({"instances": [[1.0, 2.0]]}, "'input'"),
    ({"instances": [1.0] * 6}, "'input'"),
    ({"instances": [[[1.0] * 6]]}, "'input'"),
    ({"instances": [["1.0"] * 6]}, "'input'"),
    ({"instances": [["1.0", *[1.0] * 5]]}, "'input'"),
    ({"instances": [[None] * 6]}, "'input'"),
    ({"instances": [[{}, 1, 1, 1, 1, 1]]}, "'input'"),
    ({"instances": [[1e300, 1, 1, 1, 1, 1]]}, "'input'"),
    ({"instances": [[{"b64": "AA=="}] * 6]}, "'input'"),
    ({"instances": [[1.0] * 6, [1.0]]}, "'input'"),
    ({"instances": [{"other": [1.0] * 6}]}, "'input'"),
    ({"instances": [{"input": [1.0] * 6}, [1.0] * 6]}, "'instances'"),
    ({"instances": [[1.0] * 6], "inputs": [[1.0] * 6]}, "'instances'"),
    ({"instances": [[1.0] * 6], "signature_name": "x"}, "'signature_name'"),
    ({"inputs": {"other": [[1.0] * 6]}}, "'input'"),
    ({"inputs": {}}, "'input'"),
    ({"inputs": None}, "'input'"),
    ({"inputs": "text"}, "'input'"),
]


@pytest.mark.parametrize("body, names", BAD_V1)
def test_bad_v1_requests_name_the_field(make_client, server_log, body, names):
    answer = make_client()("POST", PREDICT, body)
    assert answer.status == 400
    assert names in answer.json()["error"]
    assert "raceback" not in "".join(server_log)


BAD_V2 = [
    ({}, "'inputs'"),
    ({"inputs": []}, "'inputs'"),
    ({"inputs": {}}, "'inputs'"),
    ({"inputs": [3]}, "inputs[0]"),
    ({"inputs": [{}]}, "inputs[0]"),
    ({"id": 3, **v2()}, "'id'"),
    (v2(name="other"), "'input'"),
    (v2(name=["input"]), "'input'"),
    (v2(shape=[1, 7]), "'input'"),
    (v2(shape=[0, 6], data=[]), "row"),
    (v2(shape=[-1, 6]), "'shape'"),
    (v2(shape=[2**40, 6]), "'input'"),
    (v2(shape=[2**70, 6]), "'input'"),
    (v2(shape=[True, 6]), "'shape'"),
    (v2(shape=[False, 6], data=[]), "'shape'"),
    (v2(shape=[-0.0, 6], data=[]), "'shape'"),
    (v2(shape=[0, 2**62], data=[]), "'input'"),
    (v2(shape=[1.0, 6]), "'shape'"),
    (v2(shape=6), "'shape'"),
    (v2(shape=[6]), "'shape'"),
    (v2(shape=[1] * 65, data=[1.0]), "'shape'"),
    (v2(data=[1.0] * 5), "'input'"),
    (v2(data=[]), "'input'"),
    (v2(data=["1.0"] * 6), "'input'"),
    (v2(data=[None] * 6), "'input'"),
    (v2(data=[[1.0], [1.0, 2.0]]), "'input'"),
    (v2(data=[[1.0, 1.0]] * 3), "'input'"),
    (v2(data={"a": 1}), "'input'"),
    (v2(data=None), "inputs[0]"),
    (v2(data=[1e300] * 6), "'input'"),
    (v2(datatype="FP99"), "'input'"),
    (v2(datatype="FP64"), "'input'"),
    (v2(datatype=7), "'input'"),
    (v2(parameters=[]), "'parameters'"),
    (v2(parameters={"binary_data_size": 24}), "'binary_data_size'"),
    (v2(data=None, parameters={"binary_data_size": 24}), LENGTH),
    (v2(parameters={"shared_memory_region": "r"}), "shared memory"),
    ({"inputs": v2()["inputs"] * 2}, "'input'"),
    ({**v2(), "parameters": 3}, "'parameters'"),
    ({**v2(), "parameters": {"binary_data_output": 1}}, "'binary_data_output'"),
    ({**v2(), "outputs": 3}, "'outputs'"),
    ({**v2(), "outputs": ["logits"]}, "'outputs'"),
    ({**v2(), "outputs": [{"name": "other"}]}, "'logits'"),
    ({**v2(), "outputs": [{"name": "logits"}] * 2}, "'outputs'"),
    (
        {
            **v2(),
            "outputs": [{**AS_BYTES, "parameters": {"classification": 2}}],
        },
        "'classification'",
    ),
]


@pytest.mark.parametrize("body, names", BAD_V2)
def test_bad_v2_requests_name_the_field(make_client, server_log, body, names):
    answer = make_client()("POST", INFER, body)
    assert answer.status == 400
    assert names in answer.json()["error"]
    assert "raceback" not in "".join(server_log)


ROW = np.ones((1, 6), "float32").tobytes()
BAD_BINARY = [
    (binary(ROW[:-1]), "bytes"),
    (binary(ROW[:-1], binary_data_size=24), "'binary_data_size'"),
    (binary(ROW + b"x", binary_data_size=24), "more bytes"),
    (binary(ROW, binary_data_size=-1), "'binary_data_size'"),
    (binary(ROW, binary_data_size="24"), "'binary_data_size'"),
    (binary(ROW, binary_data_size=2**70), "'binary_data_size'"),
    (binary(ROW, length="99999"), LENGTH),
    (binary(ROW, length="-1"), LENGTH),
    (binary(ROW, length="12x"), LENGTH),
    (binary(ROW, length="9" * 4000), LENGTH),
    (binary(ROW, length="\u00b2"), LENGTH),
    (binary(ROW, length="0"), "JSON"),
    (binary(ROW, length="5"), "JSON"),
    (binary(np.full((1, 6), np.nan, "float32").tobytes()), "'input'"),
    (binary(np.full((1, 6), np.inf, "float32").tobytes()), "'input'"),
    (binary(b"", shape=[0, 6]), "row"),
]


@pytest.mark.parametrize("request_, names", BAD_BINARY)
def test_bad_binary_requests_name_the_field(make_client, request_, names):
    answer = make_client()("POST", INFER, **request_)
    assert answer.status == 400
    assert names in answer.json()["error"]


def test_wrong_addresses(make_client):
    client = make_client()
    assert client("POST", "/v1/models/other:predict", v2()).status == 404
    other = "/v2/models/teacher/versions/2/infer"
    assert client("POST", other, v2()).status == 404
    assert client("GET", "/v2/models/teacher/versions/x").status == 404
    assert client("GET", "/nowhere").status == 404
    assert client("GET", INFER).status == 405
    assert all(
        "error" in client("GET", path).json() for path in ("/nowhere", INFER)
    )


def test_values_without_finite_logits_are_the_clients_error(make_client):
    """Near the largest float32, products with weights overflow."""

    def steep(inputs):
        with np.errstate(over="ignore"):
            return inputs["input"] @ np.full((6, 4), 1e9, "float32")

    good, bad = make_client(steep).together(
        [
            (("POST", PREDICT, {"instances": [[value] * 6]}), {})
            for value in (1.0, 3e38)
        ]
    )
    assert (good.status, bad.status) == (200, 400)
    assert "number 0" in bad.json()["error"]


def test_a_wrong_request_does_not_affect_others(make_client):
    """32 requests at once, every other one wrong in some way."""
    bodies = [body for body, _ in BAD_V1[10:26]]
    requests = []
    for row, body in zip(np.eye(16, 6), bodies, strict=True):
        requests.append((("POST", PREDICT, {"instances": [row.tolist()]}), {}))
        requests.append((("POST", PREDICT, body), {}))
    answers = make_client().together(requests)
    assert [one.status for one in answers] == [200, 400] * 16
    np.testing.assert_allclose(
        [one.json()["predictions"][0] for one in answers[::2]],
        linear_teacher({"input": np.eye(16, 6, dtype="float32")}),
        rtol=1e-6,
    )


def test_a_failure_is_a_500_without_details(make_client, server_log):
    def broken(inputs):
        raise ZeroDivisionError("secret")

    answer = make_client(broken)("POST", PREDICT, {"instances": X.tolist()})
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.headers["x-request-id"] in answer.json()["error"]
    (line,) = server_log
    assert "ZeroDivisionError: secret" in json.loads(line)["traceback"]


def test_too_many_rows(make_client):
    client = make_client(max_batch=2)
    answer = client("POST", PREDICT, {"instances": X.tolist()})
    assert answer.status == 413
    assert "at most 2 rows" in answer.json()["error"]


def test_bodies_that_are_too_long(make_client):
    client = make_client(max_request_bytes=200)
    declared = client("POST", PREDICT, b" " * 201)
    chunk = {"type": "http.request", "body": b" " * 150, "more_body": True}
    streamed = client("POST", PREDICT, parts=[chunk, chunk, chunk])
    for answer in (declared, streamed):
        assert answer.status == 413
        assert "200 bytes" in answer.json()["error"]
        assert answer.headers["connection"] == "close"


def test_all_bodies_together(make_client):
    client = make_client(max_bytes_in_flight=1000)
    answer = client("POST", PREDICT, b" " * 1001)
    assert answer.status == 429
    assert answer.headers["retry-after"] == "1"


def test_content_lengths_that_lie(make_client):
    """Longer than the body: the client goes away, or waits for ever."""
    client = make_client(body_seconds=0.01)
    part = {"type": "http.request", "body": b"{}", "more_body": True}
    headers = [("content-length", "1000")]
    gone = client("POST", PREDICT, headers=headers, parts=[part])
    assert gone.status == 400
    assert "'content-length'" in gone.json()["error"]
    headers = [("content-length", "x")]
    wrong = client("POST", PREDICT, headers=headers, parts=[part])
    assert wrong.status == 400


def test_compressed_bodies_are_rejected_by_name(make_client):
    answer = make_client()(
        "POST", PREDICT, b"..", headers=[("content-encoding", "gzip")]
    )
    assert answer.status == 415
    assert "'content-encoding'" in answer.json()["error"]


def bearer(token):
    return [("authorization", f"Bearer {token}")]


def test_tokens(make_client):
    old, new = "an-old-token-of-some-length", "a-new-token-of-some-length"
    client = make_client(tokens=Tokens([old, new]))
    body = {"instances": X.tolist()}
    for headers in (
        [],
        bearer("wrong"),
        bearer(""),
        bearer(old + "x"),
        bearer("\u00e9" * 30),
        [("authorization", old)],
        [("authorization", f"Basic {old}")],
    ):
        for method, path in (
            ("POST", PREDICT), ("POST", INFER), ("GET", "/metrics"),
            ("GET", "/v2/models/teacher"), ("GET", "/openapi.json"),
            ("GET", "/nowhere"),
        ):  # fmt: skip
            answer = client(method, path, body, headers=headers)
            assert answer.status == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    for token in (old, new):
        assert (
            client("POST", PREDICT, body, headers=bearer(token)).status == 200
        )
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert client("GET", path).status == 200


def test_token_files(tmp_path):
    file = tmp_path / "tokens"
    for text in ("", "short\n", "a-token-of-some-length\nshort"):
        file.write_text(text)
        with pytest.raises(ValueError, match="at least 16 characters"):
            Tokens.from_file(file)
    file.write_text("\n a-token-of-some-length \n")
    Tokens.from_file(file).check("bearer a-token-of-some-length")
    assert not Tokens.from_file(None)


def test_draining(make_client):
    client = make_client(draining=True)
    answer = client("POST", PREDICT, {"instances": X.tolist()})
    assert answer.status == 503
    assert (answer.headers["retry-after"], answer.headers["connection"]) == (
        "1", "close",
    )  # fmt: skip
    assert client("GET", "/v2/health/ready").status == 503
    assert client("GET", "/v2/health/live").status == 200
    assert client("GET", "/metrics").status == 200


def test_a_body_that_never_ends_is_cut_off_at_the_end(make_client):
    """Uvicorn cancels requests when the timeout for draining is over."""

    async def run():
        reading, sent = asyncio.Event(), []

        async def receive():
            reading.set()
            await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": PREDICT,
                 "headers": [], "query_string": b""}  # fmt: skip
        app = http_application(make_client().make_service())
        task = asyncio.create_task(app(scope, receive, send))
        await reading.wait()
        task.cancel()
        await asyncio.wait([task])
        return sent

    start, body = asyncio.run(run())
    assert start["status"] == 503
    assert "stopped" in json.loads(body["body"])["error"]


def metric_samples(service):
    """Every sample of the metrics, by its name and labels."""
    return {
        (sample.name.removeprefix("keras_cascade_"), *sample.labels.values()):
            sample.value
        for family in service.metrics.registry.collect()
        for sample in family.samples
    }  # fmt: skip


def test_metrics(make_client):
    client = make_client()
    good = ("POST", PREDICT, {"instances": X.tolist()})
    client.together(
        [
            (good, {}),
            (good, {"headers": [("x-cascade-rows", "10")]}),
            (("POST", PREDICT, {}), {"headers": [("x-cascade-rows", "7")]}),
            (("POST", INFER, v2()), {}),
            (("GET", "/metrics"), {}),
        ]
    )
    samples = metric_samples(client.service)
    assert samples["requests_total", "v1", "200"] == 2
    assert samples["requests_total", "v1", "400"] == 1
    assert samples["requests_total", "v2_http", "200"] == 1
    assert samples["requests_total", "other", "200"] == 1
    assert samples["rows_total", "v1"] == 6
    assert samples["rows_total", "v2_http"] == 1
    assert samples["request_seconds_count", "v1"] == 3
    assert samples["batch_rows_sum",] == 7
    assert samples["queue_seconds_count",] == 3
    assert samples["queued_rows",] == 0
    # Of 10 rows that an edge saw, it sent 3; the rest said nothing.
    assert samples["reported_rows_total",] == 3
    assert samples["reported_edge_rows_total",] == 10


@pytest.mark.parametrize("value", ["x", "-3", "0", "1e3", "inf", "9" * 12])
def test_an_invalid_timeout_is_rejected(make_client, value):
    answer = make_client()(
        "POST",
        PREDICT,
        {"instances": X.tolist()},
        headers=[("x-request-timeout", value)],
    )
    assert answer.status == 400
    assert "'x-request-timeout'" in answer.json()["error"]


class Held:
    """A teacher whose runs wait until they are let go."""

    def __init__(self):
        self.began, self.go = threading.Event(), threading.Event()
        self.runs = 0

    def __call__(self, inputs):
        self.began.set()
        if not self.go.wait(30):
            raise RuntimeError("never let go")
        self.runs += 1
        return linear_teacher(inputs)


def overloaded(make_client, scenario, **limits):
    """Runs a scenario while a request of a teacher that is held is running."""
    teacher = Held()
    client = make_client(teacher, **limits)

    async def run():
        service = client.make_service()
        app = http_application(service)

        async def ask(**options):
            options = {"body": {"instances": X.tolist()}, **options}
            return await client.one(app, "POST", PREDICT, **options)

        first = asyncio.create_task(ask())
        await asyncio.to_thread(teacher.began.wait, 30)
        result = await scenario(service, ask)
        teacher.go.set()
        assert (await first).status == 200
        await service.teacher.close()
        return result

    return asyncio.run(run()), teacher


def test_overload_is_answered_before_the_body_is_read(make_client):
    """Runs take 4 minutes by the estimate: who has 100 s cannot wait."""

    async def scenario(service, ask):
        batcher = service.teacher._batcher
        batcher._run_times.add(1, 60.0)
        queued = asyncio.create_task(ask())
        for _ in range(20):
            await asyncio.sleep(0)
        headers = [("x-request-timeout", "100")]
        refused = await ask(body=b"no JSON", headers=headers)
        without = await ask(body=b"no JSON")
        return queued, refused, without

    (queued, refused, without), _ = overloaded(make_client, scenario)
    assert queued.result().status == 200
    assert refused.status == without.status == 429
    # Three rows wait and one more would: a run of four takes 4 * 60 s. Half
    # of the 100 s is for runs.
    (allowed,) = re.findall(r"within ([\d.]+) s", refused.json()["error"])
    assert float(allowed) <= 50
    assert int(refused.headers["retry-after"]) >= 190
    assert "x-cascade-teacher" in refused.headers
    assert refused.headers.get("connection") != "close"  # it may try again


def test_a_request_is_not_run_once_its_client_has_gone(make_client, server_log):
    async def scenario(service, ask):
        gone = asyncio.Event()
        waits = asyncio.create_task(ask(gone=gone))
        while not service.teacher._batcher._queued_rows:
            await asyncio.sleep(0)
        gone.set()
        return await waits

    left, teacher = overloaded(make_client, scenario)
    assert left.status == 499
    assert teacher.runs == 1
    assert "raceback" not in "".join(server_log)


@pytest.mark.parametrize("value", ["x", "-3", "2", "1e3", "9" * 12])
def test_an_invalid_row_count_is_rejected(make_client, value):
    answer = make_client()(
        "POST",
        PREDICT,
        {"instances": X.tolist()},
        headers=[("x-cascade-rows", value)],
    )
    assert answer.status == 400
    assert "'x-cascade-rows'" in answer.json()["error"]


def test_the_log_holds_no_payload_and_no_token(make_client, server_log):
    token = "a-token-of-some-length"
    client = make_client(tokens=Tokens([token]))
    headers = [*bearer(token), ("x-request-id", "mine-1")]
    answer = client(
        "POST", PREDICT, {"instances": [[31415.0] * 6]}, headers=headers
    )
    assert answer.headers["x-request-id"] == "mine-1"
    client("POST", PREDICT, {"instances": [["31415"] * 6]}, headers=headers)
    client(
        "POST", "/31415", {}, headers=[*bearer(token), ("x-request-id", "{}")]
    )
    warning, ok, bad, nowhere = (json.loads(line) for line in server_log)
    assert warning["event"] == "input_range"
    assert {**ok, "time": 0, "seconds": 0} == {
        "time": 0, "level": "info", "event": "request", "id": "mine-1",
        "protocol": "v1", "status": 200, "rows": 1, "seconds": 0,
    }  # fmt: skip
    assert (bad["status"], bad["rows"]) == (400, 0)
    assert len(nowhere["id"]) == 32  # its own was not plain
    assert "31415" not in "".join(server_log)
    assert token not in "".join(server_log)


SEEDS = [
    (PREDICT, json.dumps({"instances": [[0.5] * 6]}).encode(), None),
    (PREDICT, json.dumps({"inputs": {"input": [[1] * 6]}}).encode(), None),
    (INFER, json.dumps({"id": "1", **v2()}).encode(), None),
    (
        INFER,
        binary(ROW)["body"],
        binary(ROW)["headers"][0][1],
    ),
]


@st.composite
def mutated(draw):
    """A valid request with some bytes replaced, removed, doubled or added."""
    path, body, length = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body)))
        end = min(len(body), at + draw(st.integers(0, 8)))
        new = draw(st.binary(max_size=6) | st.just(body[at:end] * 2))
        body = body[:at] + new + body[end:]
    if length is not None and draw(st.booleans()):
        length = draw(st.text(st.characters(max_codepoint=255), max_size=6))
    return path, body, [] if length is None else [(LENGTH, length)]


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(mutated(), min_size=8, max_size=8))
def test_mutated_requests_are_answered_or_rejected(make_client, requests):
    """800 of them, eight at a time beside a valid one."""
    good = (("POST", PREDICT, {"instances": X.tolist()}), {})
    *answers, last = make_client().together(
        [
            *(((("POST", p, b), {"headers": h})) for p, b, h in requests),
            good,
        ]
    )
    assert {one.status for one in answers} <= {200, 400}
    for one in answers:
        if one.status == 400:
            assert one.json()["error"]
    np.testing.assert_allclose(last.json()["predictions"], LOGITS, rtol=1e-5)

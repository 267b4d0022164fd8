"""`docs/wire.md` against servers: every request and its response."""

import json
import re
import subprocess
import sys

import httpx
import numpy as np
import pytest

from keras_cascade.runtime import TeacherError, teacher_at
from keras_cascade.runtime.teachers import grpc_teacher, http_teacher
from keras_cascade.serving.grpc_service import OPEN as OPEN_METHODS
from keras_cascade.serving.grpc_service import STATUS
from keras_cascade.serving.http_requests import OPEN as OPEN_PATHS
from keras_cascade.serving.settings import MEBIBYTE, Limits
from tests.helpers.documents import ROOT, blocks, languages, rows, stated_output

DOCUMENT = "docs/wire.md"
TEXT = (ROOT / DOCUMENT).read_text("utf-8")
#: The sentence before each block of JSON.
EXCHANGE = re.compile(
    r"`(GET|POST) (/\S+)`([^`]*?) answers (\d+)[^`]*?(?:`id`[^:]*)?:\n\n"
    r"```json\n(.*?)^```$",
    re.S | re.M,
)


def values(text):
    """A sequence of JSON values."""
    decoded, text = [], text.strip()
    while text:
        value, end = json.JSONDecoder().raw_decode(text)
        decoded.append(value)
        text = text[end:].strip()
    return decoded


EXCHANGES = [
    (method, path, "texts" in how, int(status), values(body))
    for method, path, how, status, body in EXCHANGE.findall(TEXT)
]


def base(server):
    return server.url.partition("/v1/")[0]


@pytest.mark.parametrize("exchange", EXCHANGES, ids=lambda one: one[1])
def test_exchange(servers, exchange):
    method, path, of_texts, status, shown = exchange
    *sent, expected = shown
    assert len(sent) == (method == "POST")
    answer = httpx.request(
        method,
        base(servers["texts" if of_texts else "numbers"]) + path,
        json=sent[0] if sent else None,
    )
    identity = answer.headers["x-cascade-teacher"]
    assert re.fullmatch("[0-9a-f]{64}", identity)
    text = json.dumps(expected).replace("IDENTITY", identity)
    expected = json.loads(text)
    assert (answer.status_code, answer.json()) == (status, expected)


def test_no_block_is_left_out():
    block_languages = languages(DOCUMENT)
    assert set(block_languages) == {"json", "python"}
    assert block_languages.count("json") == len(EXCHANGES)
    assert block_languages.count("python") == 2


@pytest.mark.parametrize("number", [0, 1])
def test_python_block(servers, number):
    """In a separate process: Triton's messages clash with KServe's."""
    code = blocks(DOCUMENT, "python")[number]
    server = servers["numbers"]
    for documented, actual in (
        ("127.0.0.1:8501", server.url.split("/")[2]),
        ("127.0.0.1:8001", server.grpc_url.split("/")[2]),
    ):
        code = code.replace(documented, actual)
    done = subprocess.run(
        [sys.executable, "-"],
        input=code,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == stated_output(code)


def test_the_edge_receives_the_same(servers):
    """All three protocols, of numbers and of texts."""
    for name, x, logits in (
        ("numbers", np.array([[1, 2]], "float32"), [[1, 2, 3]]),
        ("texts", np.array(["naïve"], object), [[5, 6, 0]]),
    ):
        server = servers[name]
        v2 = server.url.replace("/v1/", "/v2/")
        for url, options in (
            (server.url, {}),
            (v2, {"binary": True}),
            (v2, {"binary": False}),
            (server.grpc_url, {}),
        ):
            teacher = teacher_at(url, 3, **options)
            received = teacher.logits({"input": x})
            teacher.close()
            np.testing.assert_array_equal(received, logits)


def test_the_table_of_errors():
    again = {}
    for http, grpc, cause, is_retried in rows(
        DOCUMENT, ("HTTP", "gRPC", "cause", "retried by `EdgeCascade`")
    ):
        name, *_ = grpc.split(", ")
        statuses = [int(status) for status in http.split(", ")]
        again |= dict.fromkeys(statuses, is_retried == "yes")
        # Of what is too large, gRPC itself says it, in words of its own.
        if statuses[0] in STATUS and "MiB" not in cause:
            assert name == STATUS[statuses[0]].name
            assert (name in grpc_teacher.RETRIED) == (is_retried == "yes")
    assert set(STATUS) < set(again)
    retried = {status for status, yes in again.items() if yes}
    assert retried == set(again) & set(http_teacher.RETRIED)


def test_errors_of_both_protocols(servers):
    server = servers["numbers"]
    with httpx.Client(base_url=base(server)) as client:
        predict = "/v1/models/teacher:predict"
        many = {"instances": [[1, 2]] * 257}
        for status, method, path, options in (
            (404, "GET", "/v1/models/other", {}),
            (404, "GET", "/nowhere", {}),
            (405, "GET", "/v2/models/teacher/infer", {}),
            (413, "POST", predict, {"json": many}),
            (415, "POST", predict, {"headers": {"content-encoding": "gzip"}}),
        ):
            answer = client.request(method, path, **options)
            assert answer.status_code == status
            assert list(answer.json()) == ["error"]
    teacher = teacher_at(server.grpc_url, 3, max_rows=257)
    with pytest.raises(TeacherError, match=r"INVALID_ARGUMENT: .* 256 rows"):
        teacher.logits({"input": np.ones((257, 2), "float32")})
    teacher.close()


def test_the_limits_that_are_stated():
    limits = Limits()
    for stated, value in (
        ("more than 256 rows", limits.max_batch),
        ("more than 64 MiB", limits.max_request_bytes / MEBIBYTE),
        ("longer than 60 s", limits.body_seconds),
        ("5 s (`--max-wait`)", limits.max_wait),
        ("1,024 requests", limits.max_connections),
    ):
        assert stated in TEXT
        (number,) = re.findall(r"[\d,]+", stated)
        assert int(number.replace(",", "")) == value
    teacher = teacher_at("http://127.0.0.1:1/v1/models/teacher", 3)
    assert teacher._max_rows == 256
    assert teacher._max_request_bytes == 32 * MEBIBYTE


def test_what_needs_no_token():
    (listed,) = re.findall(r"one token per line\. (.*?) need none", TEXT, re.S)
    assert set(re.findall(r"`(\S+)`", listed)) == {*OPEN_PATHS, *OPEN_METHODS}


def test_headers_and_metrics(servers):
    server = servers["numbers"]
    with httpx.Client(base_url=base(server)) as client:
        answer = client.post(
            "/v1/models/teacher:predict",
            json={"instances": [[1, 2]]},
            headers={"x-request-id": "mine", "x-cascade-rows": "10"},
        )
        assert answer.headers["x-request-id"] == "mine"
        lines = client.get("/metrics").text.splitlines()
        assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/v2/health/ready").status_code == 200
    assert "keras_cascade_reported_edge_rows_total 10.0" in lines
    assert "keras_cascade_reported_rows_total 1.0" in lines
    assert '"id": "mine"' in server.log_file.read_text()
    _, _, listed = TEXT.partition("each prefixed by `keras_cascade_`: ")
    listed, _, _ = listed.partition(".\n")
    names = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    created = {name for name in names if name.endswith("_created")}
    assert {
        f"keras_cascade_{name}" for name in re.findall(r"`(\w+)`", listed)
    } == names - created


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 165

"""Cross-origin requests: what a browser asks, and what it lets a page read."""

import json

import httpx
import numpy as np
import pytest

from keras_cascade.serving import ServerProcess, serve
from keras_cascade.serving.cors import checked_origins
from keras_cascade.serving.settings import Tokens
from tests.helpers.asgi_client import linear_teacher

PREDICT = "/v1/models/teacher:predict"
INFER = "/v2/models/teacher/infer"
SHOP, OTHER = "https://shop.example", "https://other.example"
BODY = {"instances": [[1.0] * 6]}
TOKEN = "a-token-of-some-length"
#: Every header that a device sends, or that the documents name.
SENT = (
    "authorization", "content-type", "inference-header-content-length",
    "x-cascade-rows", "x-request-id", "x-request-timeout",
)  # fmt: skip
#: Every header of a response that a client of the protocols reads.
READ = (
    "inference-header-content-length", "retry-after", "x-cascade-teacher",
    "x-request-id",
)  # fmt: skip


def names(headers, name):
    """A header's list, in lower case, as browsers compare it."""
    return {one.strip().lower() for one in headers.get(name, "").split(",")}


def readable(answer, origin):
    """Headers that a page may read, by the Fetch standard; `None`: nothing."""
    if answer.headers.get("access-control-allow-origin") not in (origin, "*"):
        return None
    return names(answer.headers, "access-control-expose-headers")


def preflight(client, origin=SHOP, method="POST", headers=SENT, path=PREDICT):
    asked = [("origin", origin), ("access-control-request-method", method)]
    if headers:
        asked.append(("access-control-request-headers", ",".join(headers)))
    return client("OPTIONS", path, headers=asked)


@pytest.mark.parametrize("path", [PREDICT, INFER, "/v2/models/teacher"])
@pytest.mark.parametrize("origins", [(SHOP,), (OTHER, SHOP), ("*",)])
def test_a_preflight_allows_what_the_protocols_send(make_client, origins, path):
    """Without a token: browsers send none with it."""
    client = make_client(tokens=Tokens([TOKEN]), cors_origins=origins)
    answer = preflight(client, path=path)
    assert answer.status in range(200, 300)
    assert readable(answer, SHOP) is not None
    assert names(answer.headers, "access-control-allow-headers") >= set(SENT)
    assert {"get", "post"} <= names(
        answer.headers, "access-control-allow-methods"
    )
    assert "access-control-allow-credentials" not in answer.headers
    if origins != ("*",):
        assert "origin" in names(answer.headers, "vary")


def test_other_pages_methods_and_headers_are_refused(make_client):
    client = make_client(cors_origins=(SHOP,))
    assert readable(preflight(client, OTHER), OTHER) is None
    assert preflight(client, method="DELETE").status == 400
    refused = preflight(client, headers=["x-other"])
    assert "x-other" not in names(
        refused.headers, "access-control-allow-headers"
    )
    answer = client("POST", PREDICT, BODY, headers=[("origin", OTHER)])
    assert readable(answer, OTHER) is None


def test_every_answer_can_be_read(make_client):
    """Refusals, errors and failures too."""

    def broken(inputs):
        raise ZeroDivisionError

    tokens = Tokens([TOKEN])
    bearer = [("authorization", f"Bearer {TOKEN}")]
    allowed = {"cors_origins": (SHOP,)}
    for status, method, path, body, headers, options in (
        (200, "POST", PREDICT, BODY, [], {}),
        (200, "POST", PREDICT, BODY, bearer, {"tokens": tokens}),
        (200, "GET", "/v2/models/teacher", b"", [], {}),
        (200, "GET", "/v2/health/ready", b"", [], {"tokens": tokens}),
        (400, "POST", PREDICT, {}, [], {}),
        (401, "POST", PREDICT, BODY, [], {"tokens": tokens}),
        (404, "GET", "/nowhere", b"", [], {}),
        (405, "GET", INFER, b"", [], {}),
        (413, "POST", PREDICT, b" " * 99, [], {"max_request_bytes": 90}),
        (415, "POST", PREDICT, BODY, [("content-encoding", "br")], {}),
        (429, "POST", PREDICT, b" " * 99, [], {"max_bytes_in_flight": 90}),
        (500, "POST", PREDICT, BODY, [], {"run": broken}),
        (503, "POST", PREDICT, BODY, [], {"draining": True}),
    ):
        client = make_client(**options, **allowed)
        headers = [("origin", SHOP), *headers]
        answer = client(method, path, body, headers=headers)
        assert answer.status == status
        assert readable(answer, SHOP) >= set(READ)
        assert "origin" in names(answer.headers, "vary")
        assert answer.headers.get("retry-after") == (
            "1" if status in (429, 503) else None
        )


def test_answers_are_those_of_any_other_client(make_client):
    client = make_client(cors_origins=(SHOP,))
    answer = client("POST", PREDICT, BODY, headers=[("origin", SHOP)])
    ones = np.ones((1, 6), "float32")
    np.testing.assert_allclose(
        answer.json()["predictions"], linear_teacher({"input": ones}), rtol=1e-6
    )
    plain = client("POST", PREDICT, BODY)
    assert plain.body == answer.body
    assert readable(plain, SHOP) is None


def test_without_the_option_nothing_changes(make_client):
    client = make_client()
    asked = preflight(client)
    answer = client("POST", PREDICT, BODY, headers=[("origin", SHOP)])
    assert (asked.status, answer.status) == (405, 200)
    for one in (asked, answer):
        assert not any(name.startswith("access-") for name in one.headers)
        assert "vary" not in one.headers


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "https://shop.example",
        "http://localhost:8080",
        "http://127.0.0.1",
        "https://[2001:db8::1]:8443",
        "https://xn--bcher-kva.example",
        "chrome-extension://abcdefghijklmnop",
    ],
)
def test_origins(origin):
    assert checked_origins([origin]) == (origin,)
    assert checked_origins(origin) == (origin,)


@pytest.mark.parametrize(
    "origin, usual",
    [
        ("https://shop.example/", "https://shop.example"),
        ("https://shop.example/cart?x=1#top", "https://shop.example"),
        ("https://Shop.Example", "https://shop.example"),
        ("HTTPS://shop.example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("http://shop.example:80", "http://shop.example"),
        ("https://me:secret@shop.example", "https://shop.example"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("shop.example", None),
        ("//shop.example", None),
        ("https://*.shop.example", None),
        ("https://shop.example:x", None),
        ("https://", None),
        ("null", None),
        ("", None),
        (None, None),
        (8080, None),
    ],
)
def test_what_no_browser_sends_is_refused(origin, usual):
    """It would allow nobody, without a word."""
    with pytest.raises(ValueError, match="Expected the origin of a web") as e:
        checked_origins(["https://fine.example", origin])
    assert ("Write" in str(e.value)) is (usual is not None)
    if usual:
        assert str(e.value).endswith(f"Write '{usual}'.")


def test_a_wrong_origin_stops_the_server_before_it_loads(bundle_path):
    with pytest.raises(ValueError, match=r"Write 'https://shop\.example'"):
        serve(bundle_path, cors_origins=["https://shop.example/"])


@pytest.mark.parametrize(
    "options", [f"--cors-origin {SHOP} --cors-origin *", ""]
)
def test_any_page_of_the_command_line(options, bundle_path, tmp_path):
    """Several origins; a warning of `*` without tokens, the default then."""
    options = options.split()
    with ServerProcess(bundle_path, tmp_path / "log", options=options) as one:
        asked = {
            "origin": OTHER,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        }
        answer = httpx.options(f"{one.url}:predict", headers=asked)
        assert answer.status_code == 200
        assert readable(answer, OTHER) is not None
        answer = httpx.post(
            f"{one.url}:predict", json=BODY, headers={"origin": OTHER}
        )
        assert "x-cascade-teacher" in readable(answer, OTHER)
        lines = (tmp_path / "log").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines if line[0] == "{"]
    assert events.count("open_to_every_page") == 1


@pytest.mark.parametrize("tokens", [False, True])
def test_no_page_of_the_command_line(tokens, bundle_path, tmp_path):
    """With tokens that is the default."""
    options = ["--cors-origin", "none"]
    if tokens:
        (tmp_path / "tokens").write_text(TOKEN)
        options = ["--token-file", str(tmp_path / "tokens")]
    with ServerProcess(bundle_path, tmp_path / "log", options=options) as one:
        asked = {"origin": OTHER, "access-control-request-method": "POST"}
        answer = httpx.options(f"{one.url}:predict", headers=asked)
        assert readable(answer, OTHER) is None
        assert "open_to_every_page" not in (tmp_path / "log").read_text()

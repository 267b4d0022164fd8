"""A web page's script asks a teacher of another origin, in a browser.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import functools
import http.server
import threading

import numpy as np
import pytest

from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.serving import ServerProcess

pytestmark = pytest.mark.browser

TOKEN = "a-token-of-some-length"
X = np.random.default_rng(0).normal(size=(3, 6)).astype("<f4")
#: One request, as a page's author writes it. `headers` are those that the
#: script can see.
ASK = """async ({url, token, method, headers, json, raw}) => {
  const parts = [];
  if (json) {
    const head = new TextEncoder().encode(JSON.stringify(json));
    parts.push(head);
    if (raw) {
      headers["inference-header-content-length"] = String(head.length);
      parts.push(new Uint8Array(raw));
    }
  }
  if (token) headers["authorization"] = `Bearer ${token}`;
  try {
    const answer = await fetch(url, {
      method, headers, body: parts.length ? new Blob(parts) : undefined});
    return {
      status: answer.status,
      headers: Object.fromEntries(answer.headers),
      body: Array.from(new Uint8Array(await answer.arrayBuffer())),
    };
  } catch (error) {
    return {stopped: String(error)};
  }
}"""


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Origin of a web site with a page."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text("<!doctype html><title>shop</title>")
    handler = functools.partial(_QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def teacher(bundle_path, site, tmp_path_factory):
    """A server with a token that pages of the site may ask."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "tokens").write_text(TOKEN)
    options = ["--token-file", str(folder / "tokens"), "--cors-origin", site]
    with ServerProcess(bundle_path, folder / "log", options=options) as server:
        yield server


@pytest.fixture
def ask(browser, site):
    """A function: sends a request from a page of the site."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(site)

    def asked(url, token=TOKEN, method="POST", headers=(), json=None, raw=None):
        raw = None if raw is None else list(raw)
        return page.evaluate(
            ASK,
            {
                "url": url, "token": token, "method": method, "json": json,
                "headers": dict(headers), "raw": raw,
            },
        )  # fmt: skip

    yield asked
    context.close()


def v2_url(server):
    return server.url.replace("/v1/", "/v2/") + "/infer"


def test_a_page_asks_the_teacher(ask, teacher, bundle_path):
    """Over both protocols, with every header that a client may send."""
    expected = SavedModelTeacher(bundle_path / "teacher" / "1").logits(
        {"input": X}
    )
    headers = {
        "content-type": "application/json", "x-cascade-rows": "30",
        "x-request-timeout": "20", "x-request-id": "page-1",
    }  # fmt: skip
    answer = ask(
        f"{teacher.url}:predict", headers=headers, json={"inputs": X.tolist()}
    )
    assert answer["status"] == 200
    assert answer["headers"]["x-request-id"] == "page-1"
    assert len(answer["headers"]["x-cascade-teacher"]) == 64
    tensor = {"name": "input", "datatype": "FP32", "shape": [3, 6]}
    tensor["parameters"] = {"binary_data_size": X.nbytes}
    parameters = {"binary_data_output": True}
    answer = ask(
        v2_url(teacher),
        headers={"content-type": "application/octet-stream"},
        json={"inputs": [tensor], "parameters": parameters},
        raw=X.tobytes(),
    )
    assert answer["status"] == 200
    length = int(answer["headers"]["inference-header-content-length"])
    logits = np.frombuffer(bytes(answer["body"])[length:], "<f4")
    np.testing.assert_allclose(logits.reshape(3, 4), expected, atol=1e-5)


def test_a_page_reads_errors(ask, teacher):
    for status, options in (
        (400, {"json": {"inputs": [[1.0]]}}),
        (401, {"json": {"inputs": X.tolist()}, "token": None}),
        (404, {"method": "GET"}),
    ):
        headers = {"content-type": "application/json"}
        url = f"{teacher.url}{'x' if status == 404 else ':predict'}"
        answer = ask(url, headers=headers, **options)
        assert answer["status"] == status
        assert b'"error"' in bytes(answer["body"])


def test_the_browser_stops_other_pages(ask, bundle_path, tmp_path):
    options = ["--cors-origin", "none"]
    with ServerProcess(
        bundle_path, tmp_path / "log", options=options
    ) as server:
        answer = ask(
            f"{server.url}:predict",
            token=None,
            headers={"content-type": "application/json"},
            json={"inputs": X.tolist()},
        )
    assert "TypeError" in answer["stopped"]

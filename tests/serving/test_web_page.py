"""Files of the web page and of the bundle, below `/web/`."""

import gzip
import json

import pytest

from keras_cascade.serving import serve, web_page
from keras_cascade.serving.settings import Tokens
from keras_cascade.serving.web_page import WebPage, device_files

TOKEN = "a-token-of-some-length"
GZIP = [("accept-encoding", "br, gzip")]
SCRIPT = b"let a = 1;"
WASM = b"\0asm" * 100


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A page as `npm run build` writes it."""
    folder = tmp_path / "page"
    (folder / "wasm").mkdir(parents=True)
    (folder / "index.html").write_text("<title>page</title>")
    (folder / "main.js").write_bytes(SCRIPT)
    (folder / "wasm" / "a.wasm.gz").write_bytes(gzip.compress(WASM))
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setattr(web_page, "FOLDER", folder)
    return folder


@pytest.fixture
def client(folder, make_client, served_bundle):
    """A client of a server with a token and the page."""
    client = make_client(tokens=Tokens([TOKEN]))

    def page(service):
        service.teacher.device_files = device_files(served_bundle)
        return WebPage(service)

    client.page = page
    return client


def test_the_page_needs_no_token_and_the_teacher_does(client, bundle_path):
    page = client("GET", "/web/")
    assert (page.status, page.body) == (200, b"<title>page</title>")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "'unsafe-eval'" not in policy
    script = client("GET", "/web/main.js")
    assert (script.body, script.status) == (SCRIPT, 200)
    assert script.headers["content-type"].startswith("text/javascript")
    for name in ("manifest.json", "student.tflite"):
        file = client("GET", f"/web/bundle/{name}")
        assert file.body == (bundle_path / name).read_bytes()
    for path in ("/v1/models/teacher", "/v2/models/teacher", "/metrics"):
        assert client("GET", path).status == 401


def test_compressed_files(client):
    packed = client("GET", "/web/wasm/a.wasm", headers=GZIP)
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.headers["content-type"] == "application/wasm"
    assert gzip.decompress(packed.body) == WASM
    assert client("GET", "/web/wasm/a.wasm").status == 406


@pytest.mark.parametrize(
    "path",
    [
        "/web/../secret", "/web/bundle/../secret", "/web//etc/passwd",
        "/web/bundle/teacher/1/saved_model.pb", "/web/bundle/README.md",
        "/web/bundle/", "/web/none.js", "/web/wasm/", "/web/page",
    ],
)  # fmt: skip
def test_nothing_else_is_readable(client, path):
    answer = client("GET", path, headers=GZIP)
    assert answer.status == 404
    assert "The page has no file" in answer.json()["error"]


def test_other_methods_and_the_bare_path(client):
    assert client("POST", "/web/", body={}).status == 405
    bare = client("GET", "/web")
    assert bare.status == 307 and bare.headers["location"] == "/web/"
    assert client("GET", "/website").status == 401


def test_another_origin_reads_the_bundle_if_it_is_named(
    client, make_client, served_bundle
):
    origin = "https://shop.example"
    named = make_client(tokens=Tokens([TOKEN]), cors_origins=(origin,))
    named.page = client.page
    for site, expected in ((origin, origin), ("https://other.example", None)):
        answer = named(
            "GET", "/web/bundle/manifest.json", headers=[("origin", site)]
        )
        assert json.loads(answer.body)["name"] == served_bundle.manifest["name"]
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == expected


def test_without_the_option_there_is_no_page(make_client):
    assert make_client()("GET", "/web/").status == 404


def test_an_installation_without_the_page(tmp_path, monkeypatch, bundle_path):
    """The server does not load the teacher first."""
    monkeypatch.setattr(web_page, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="npm run build"):
        serve(bundle_path, port=0, grpc_port=0, web=True)

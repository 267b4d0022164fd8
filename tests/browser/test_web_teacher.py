"""Delegation from a browser: server, policies, queue, bad input.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import json
import socket
import zipfile

import numpy as np
import pytest

from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess
from tests.helpers.documents import ROOT
from tests.helpers.web_package import Site

pytestmark = pytest.mark.browser

ARCHIVE = ROOT / "tests" / "files_of_0_1_0" / "files.zip"
WASM = "/node_modules/@litertjs/core/wasm/"
LOAD = """async ([url, options]) => {
  try {
    window.edge = await cascade.EdgeCascade.load(url, options);
    return null;
  } catch (error) { return `${error.name}: ${error.message}`; }
}"""
PREDICT = """async (rows) => {
  try {
    const made = await edge.predictAll(rows);
    return made.map((one) => ({
      ...one, probabilities: Array.from(one.probabilities)}));
  } catch (error) { return `${error.name}: ${error.message}`; }
}"""


@pytest.fixture(scope="module")
def teacher(web_bundles, web_site, tmp_path_factory):
    """`keras-cascade serve` with the teacher of images, for the site."""
    log = tmp_path_factory.mktemp("server") / "log"
    options = ["--cors-origin", web_site.url]
    with ServerProcess(web_bundles["float32"], log, options=options) as server:
        yield server


@pytest.fixture(scope="module")
def nobody():
    """URL of a port that nobody listens on, and that nobody else takes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def load(page, name="float32", **options):
    return page.evaluate(LOAD, [f"/{name}/", {"wasm": WASM} | options])


def predict(page, rows):
    return page.evaluate(PREDICT, [np.ravel(row).tolist() for row in rows])


def v2(server):
    return server.url.replace("/v1/", "/v2/")


@pytest.mark.parametrize("protocol", ["detected", "v1", "v2", "v2_json"])
def test_the_teacher_answers(page, teacher, web_bundles, images, protocol):
    urls = {"detected": v2(teacher).split("/v2")[0], "v1": teacher.url}
    options = {"binary": False} if protocol == "v2_json" else {}
    url = urls.get(protocol, v2(teacher))
    assert load(page, teacher=url, onFailure="raise", **options) is None
    rows = predict(page, images[:100])
    with EdgeCascade.load(web_bundles["float32"], "local") as edge:
        expected = edge.predict(images[:100])
    assert [row["source"] for row in rows] == expected.source.tolist()
    assert [row["label"] for row in rows] == expected.labels.tolist()
    np.testing.assert_allclose(
        [row["probabilities"] for row in rows],
        expected.probabilities,
        atol=1e-5,
    )
    sent = {row["source"]: row["bytesSent"] > 0 for row in rows}
    assert sent == {"edge": False, "cloud": True}


def test_texts_reach_the_teacher_by_its_own_tokenizer(
    page, web_bundles, web_site, texts, tmp_path
):
    options = ["--cors-origin", web_site.url]
    with ServerProcess(
        web_bundles["text"], tmp_path / "log", options=options
    ) as server:
        assert load(page, "text", teacher=server.url) is None
        rows = page.evaluate(PREDICT, texts[:100])
    with EdgeCascade.load(web_bundles["text"], "local") as edge:
        expected = edge.predict(texts[:100])
    assert [row["source"] for row in rows] == expected.source.tolist()
    assert [row["label"] for row in rows] == expected.labels.tolist()


@pytest.mark.parametrize(
    ("policy", "source"),
    [("answer", "edge_fallback"), ("abstain", "abstained")],
)
def test_policies_without_a_server(page, nobody, images, policy, source):
    assert load(page, teacher=nobody, onFailure=policy, retries=0) is None
    rows = predict(page, images[:50])
    delegated = [row for row in rows if row["source"] != "edge"]
    assert {row["source"] for row in delegated} == {source}
    assert all("cannot be reached" in row["teacherError"] for row in delegated)
    assert {row["label"] == -1 for row in delegated} == {policy == "abstain"}


def test_raise_without_a_server(page, nobody, images):
    assert load(page, teacher=nobody, onFailure="raise", retries=0) is None
    assert predict(page, images[:50]).startswith("TeacherError: The teacher")


def test_queued_rows_are_answered_later(page, nobody, teacher, images):
    """After a reload of the page, by the server that has come back."""
    options = {"onFailure": "queue", "queue": "test"}
    assert load(page, teacher=nobody, retries=0, **options) is None
    rows = predict(page, images[:50])
    ids = [row["id"] for row in rows if row["source"] == "queued"]
    assert ids and len(set(ids)) == len(ids)
    assert page.evaluate("edge.sendQueued().then(() => '', (e) => e.name)") == (
        "TeacherError"
    )
    page.reload()
    page.wait_for_function("window.cascade")
    assert load(page, teacher=teacher.url, **options) is None
    assert page.evaluate("edge.sendQueued()") == len(ids)
    answers = page.evaluate("edge.takeAnswers((answers) => answers)")
    assert {one["id"] for one in answers} == set(ids)
    assert {one["source"] for one in answers} == {"cloud"}
    assert page.evaluate("edge.queueStatus()") == {"waiting": 0, "answered": 0}
    assert load(page, teacher=teacher.url, onFailure="raise") is None
    again = {row["label"] for row in predict(page, images[:50])}
    assert {one["label"] for one in answers} <= again


def test_a_full_queue_and_another_bundle(page, nobody, images):
    queue = {"name": "small", "maxRows": 1}
    options = {"teacher": nobody, "retries": 0, "onFailure": "queue"}
    assert load(page, queue=queue, **options) is None
    assert "QueueError: The queue 'small' is full" in predict(page, images[:50])
    assert page.evaluate("edge.queueStatus()") == {"waiting": 0, "answered": 0}
    assert "with other inputs" in load(page, "text", queue="small")


def test_another_teacher_is_a_stranger(page, teacher, images):
    """Exported twice, a SavedModel has other files: another identity."""
    assert load(page, "int8", teacher=teacher.url, onFailure="raise") is None
    assert "is not the bundle's" in predict(page, images[:50])
    options = {"teacherIdentity": "off", "onFailure": "raise"}
    assert load(page, "int8", teacher=teacher.url, **options) is None
    assert isinstance(predict(page, images[:50]), list)


def test_a_server_without_cors(page, web_bundles, images, tmp_path):
    options = ["--cors-origin", "none"]
    with ServerProcess(
        web_bundles["float32"], tmp_path / "log", options=options
    ) as server:
        assert load(page, teacher=server.url, onFailure="raise") is None
        message = predict(page, images[:50])
    assert message.startswith("TeacherError: The server at")
    assert "(CORS). Start it with `--cors-origin http://127.0.0.1:" in message


def changed(**values):
    """A route that changes a manifest; it is sealed where `sealed`."""

    def change(route, folder):
        manifest = json.loads(route.fetch().body())
        manifest |= values
        manifest.pop("sha256")
        if manifest.get("version") == 1:
            write_manifest(manifest, folder / "manifest.json")
            route.fulfill(body=(folder / "manifest.json").read_bytes())
        else:
            route.fulfill(json=manifest)

    return change


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2}, "BundleError: The manifest at {url} has version 2"),
        ({"version": 0}, "this package reads version 1. Export the bundle"),
        ({"classes": ["one", "two"]}, "does not fit its manifest"),
    ],
)
def test_other_manifests(page, web_site, tmp_path, values, message):
    change = changed(**values)
    page.route("**/manifest.json", lambda route: change(route, tmp_path))
    url = f"{web_site.url}/float32/manifest.json"
    assert message.format(url=url) in load(page)


def test_altered_files(page, web_bundles):
    page.route(
        "**/float32/student.tflite", lambda route: route.fulfill(body="x")
    )
    assert "student.tflite does not have the hash" in load(page)

    def altered(route):
        text = route.fetch().text()
        route.fulfill(body=text.replace('"threshold": 0.', '"threshold": 0.1'))

    page.route("**/manifest.json", altered)
    assert "was altered since it was written" in load(page)


def test_a_bundle_of_0_1_0(browser, tmp_path):
    """It has a free batch, and an output of type BOOL."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    with Site(old=tmp_path / "bundle_numbers") as site:
        page = browser.new_page()
        page.goto(site.url)
        page.wait_for_function("window.cascade")
        message = load(page, "old")
        page.close()
    assert message.startswith("BundleError: LiteRT.js cannot run")
    assert "exported by keras_cascade 0.1.0" in message


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ([0.5] * 63, "of shape [batch, 8, 8, 1] and type float32"),
        ([255] * 64, "Divide pixel values by 255"),
        ([[[2.5]] * 8] * 8, "far outside of 0 to 1"),
        ([None] * 64, "Expected numbers in input 'input'. Received: null"),
        ("text", "to hold float32. Received: string"),
        ({"other": [0.5]}, "Expected the inputs [input]. Received: [other]"),
    ],
)
def test_wrong_inputs(page, example, message):
    assert load(page) is None
    received = page.evaluate(PREDICT, [example])
    assert received.startswith("InputError: ")
    assert message in received
    assert received.count("Expected") == 1

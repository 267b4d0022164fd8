"""Students in a browser decide as `EdgeCascade` in Python does.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import gzip
import types
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.export.onnx_interpreter import OnnxStudentInterpreter
from keras_cascade.runtime import EdgeCascade
from tests.helpers.documents import ROOT
from tests.helpers.web_package import Site

pytestmark = pytest.mark.browser

#: Installed by `.ci/run`, as of Debian's package dataset-fashion-mnist.
FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
WASM = {
    "litert": "/node_modules/@litertjs/core/wasm/",
    "onnx": "/node_modules/onnxruntime-web/dist/",
}
RUN = """async ([url, options, rows]) => {
  const edge = await cascade.EdgeCascade.load(url, options);
  const made = await edge.predictAll(rows);
  edge.close();
  return made.map((one) => ({
    ...one, probabilities: Array.from(one.probabilities)}));
}"""
#: Nobody is asked: every delegated row has the student's answer.
ALONE = {"edge": False, "edge_fallback": True}


def run(page, name, rows, runtime="litert", **options):
    options |= {"runtime": runtime, "wasm": WASM[runtime]}
    return page.evaluate(RUN, [f"/{name}/", options, rows])


def compare(rows, expected, tolerance):
    """Decisions of all rows, labels, probabilities and scores."""
    delegated = [ALONE[row["source"]] for row in rows]
    assert len(rows) == 1000
    assert delegated == (expected.source != "edge").tolist()
    assert 0 < sum(delegated) < 1000
    np.testing.assert_allclose(
        [row["probabilities"] for row in rows],
        expected.probabilities,
        rtol=0,
        atol=tolerance,
    )
    np.testing.assert_allclose(
        [row["score"] for row in rows], expected.score, rtol=0, atol=tolerance
    )
    assert [row["name"] for row in rows] == expected.names


def in_onnxruntime(bundle, x):
    """What `student.onnx` decides in Python, by its own threshold."""
    student = OnnxStudentInterpreter(bundle.onnx_files["student"])
    answer = student.run({bundle.student_inputs[0]["name"]: x})
    labels = answer["probabilities"].argmax(-1)
    return types.SimpleNamespace(
        source=np.where(answer["delegate"], "edge_fallback", "edge"),
        probabilities=answer["probabilities"],
        score=answer["score"],
        names=[bundle.classes[label] for label in labels],
    )


@pytest.mark.parametrize("point", ["default", "frugal"])
@pytest.mark.parametrize("name", ["float32", "int8"])
def test_images_in_litert(page, web_bundles, images, name, point):
    """Weights in 8 bits: sums of integers are exact, so within 1e-5 too."""
    rows = run(
        page, name, images.reshape(1000, -1).tolist(), operatingPoint=point
    )
    with EdgeCascade.load(web_bundles[name], operating_point=point) as edge:
        compare(rows, edge.predict(images), 1e-5)


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
@pytest.mark.parametrize("name", ["fashion_mnist", "fashion_mnist_float32"])
def test_reference_bundles(browser, name, runtime):
    pixels = np.frombuffer(gzip.decompress(FASHION.read_bytes())[16:], "uint8")
    x = pixels.reshape(-1, 28, 28, 1)[:1000] / np.float32(255)
    path = ROOT / "saved_models" / name
    with Site(bundle=path) as site:
        page = browser.new_page()
        page.goto(site.url)
        page.wait_for_function("window.cascade")
        rows = run(page, "bundle", x.reshape(1000, -1).tolist(), runtime)
        page.close()
    if runtime == "litert":
        with EdgeCascade.load(path) as edge:
            expected = edge.predict(x)
    else:
        expected = in_onnxruntime(Bundle.load(path), x)
    compare(rows, expected, 1e-5)


def test_images_in_onnxruntime(page, web_bundles, images):
    rows = run(page, "float32", images.tolist(), "onnx")
    with EdgeCascade.load(web_bundles["float32"]) as edge:
        compare(rows, edge.predict(images), 1e-5)


@pytest.mark.parametrize("runtime", ["litert", "onnx"])
def test_texts(page, web_bundles, texts, runtime):
    rows = run(page, "text", texts, runtime)
    with EdgeCascade.load(web_bundles["text"]) as edge:
        expected = edge.predict(texts)
    compare(rows, expected, 1e-5)
    truncated = [row["truncated"] for row in rows]
    assert truncated == expected.truncated.tolist()
    assert 0 < sum(truncated) < 1000

"""Bundles in a browser whose teacher is no SavedModel.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from tests.browser.test_web_teacher import load, predict
from tests.helpers.linear_teachers import (
    CLASSES,
    WEIGHTS,
    WIDTH,
    examples,
    softmax,
    torch_module,
    write_onnx,
)
from tests.helpers.served_teacher import served
from tests.helpers.web_package import Site

pytestmark = pytest.mark.browser

NEW = examples(60, seed=3)[0]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """Dict of name to teacher: an ONNX file, and a module of PyTorch."""
    file = write_onnx(tmp_path_factory.mktemp("onnx") / "teacher.onnx")
    return {
        "onnx": kc.teachers.Onnx(file, outputs="probabilities"),
        "torch": kc.teachers.Torch(torch_module()),
    }


@pytest.fixture(scope="module")
def bundles(teachers, tmp_path_factory):
    """Dict of name to bundle."""
    folder = tmp_path_factory.mktemp("other_teachers")
    exported = {}
    for name, teacher in teachers.items():
        keras.utils.set_random_seed(1)
        student = keras.Sequential(
            [keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)]
        )
        cascade = kc.Cascade(teacher, student)
        cascade.calibrate(examples(200, seed=2), kc.MaxDelegationRate(0.4))
        exported[name] = cascade.export(folder / name)
    return exported


@pytest.fixture
def open_page(browser, bundles):
    """A page of a site that has these bundles, and the site's URL."""
    folders = {name: bundle.path for name, bundle in bundles.items()}
    with Site(**folders) as site:
        context = browser.new_context()
        page = context.new_page()
        page.goto(site.url)
        page.wait_for_function("window.cascade")
        yield page, site.url
        context.close()


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_its_answers_are_known_by_their_identity(
    open_page, bundles, teachers, name
):
    page, origin = open_page
    bundle = bundles[name]
    attached = None if name == "onnx" else teachers[name]
    other = bundles["torch" if name == "onnx" else "onnx"]
    expected = softmax(NEW @ WEIGHTS)
    with served(bundle, attached, (origin,)) as url:
        url = url.replace("/v1/", "/v2/")
        assert load(page, name, teacher=url, onFailure="raise") is None
        rows = predict(page, NEW)
        cloud = np.array([row["source"] == "cloud" for row in rows])
        assert 0 < cloud.sum() < len(rows)
        np.testing.assert_allclose(
            np.array([row["probabilities"] for row in rows])[cloud],
            expected[cloud],
            atol=1e-5,
        )
        with kc.runtime.EdgeCascade.load(bundle.path, teacher=url) as edge:
            assert (edge.predict(NEW).source == "cloud").tolist() == list(cloud)
        # The same weights, of another bundle: another identity.
        name = other.path.name
        assert load(page, name, teacher=url, onFailure="abstain") is None
        rows = predict(page, NEW)
        assert {row["source"] for row in rows} == {"edge", "abstained"}
        errors = {row["teacherError"] for row in rows} - {None}
        assert all("is not the bundle's" in error for error in errors)


def test_without_a_teacher_the_policy_decides(open_page):
    page, _ = open_page
    for policy, source in [
        ("answer", "edge_fallback"),
        ("abstain", "abstained"),
    ]:
        assert load(page, "torch", onFailure=policy) is None
        assert {row["source"] for row in predict(page, NEW)} == {"edge", source}
    assert load(page, "torch", onFailure="raise") is None
    assert "loaded without a teacher" in predict(page, NEW)

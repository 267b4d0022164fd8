"""The edge runtime against a real Triton.

Deselected by default, because Triton is installed for it; run with
`pytest -m triton tests/integration`.
"""

import os
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_cascade as kc
from tests.integration.triton_server import TritonServer, make_environment

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def cascade_and_bundle(tmp_path_factory):
    keras.utils.set_random_seed(0)
    teacher, student = (
        keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(units, activation="tanh"),
                keras.layers.Dense(4),
            ]
        )
        for units in (32, 4)
    )
    cascade = kc.Cascade(teacher, student)
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    return cascade, exported(cascade, path, onnx="teacher")


def exported(cascade, path, **options):
    """Calibrates a cascade on random examples and exports it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype("float32")
    cascade.compile()
    cascade.calibrate((x, np.arange(400) % 4), kc.MaxDelegationRate(0.5))
    return cascade.export(path, **options)


@pytest.fixture(scope="module")
def triton(cascade_and_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    given = os.environ.get("KERAS_CASCADE_TRITON_ENVIRONMENT")
    environment = Path(given) if given else make_environment(folder / "venv")
    with TritonServer(environment, cascade_and_bundle[1], folder) as server:
        yield server


@pytest.mark.parametrize(
    "url", ["http://{0.http}/v2/models/teacher", "grpc://{0.grpc}/teacher"]
)
@pytest.mark.parametrize("rows", [1, 64, 300])
def test_it_answers_as_the_cascade(cascade_and_bundle, triton, url, rows):
    cascade, bundle = cascade_and_bundle
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 6)).astype("float32")
    expected = cascade.predict(x, verbose=0)
    with kc.runtime.EdgeCascade.load(
        bundle.path, teacher=url.format(triton), on_failure="raise",
        max_rows=64,
    ) as edge:  # fmt: skip
        found = edge.predict(x)
    np.testing.assert_array_equal(
        found.source == "cloud", expected["delegated"]
    )
    np.testing.assert_allclose(
        found.probabilities, expected["probabilities"], atol=1e-4
    )


def test_what_it_refuses_is_an_error(cascade_and_bundle, triton):
    _, bundle = cascade_and_bundle
    edge = kc.runtime.EdgeCascade.load(
        bundle.path,
        teacher=f"http://{triton.http}/v2/models/other",
        on_failure="raise",
    )
    x = np.random.default_rng(2).normal(size=(50, 6)).astype("float32")
    with edge, pytest.raises(kc.runtime.TeacherError, match="404"):
        edge.predict(x)


@pytest.mark.parametrize(
    "url",
    [
        "http://{0.http}/v2/models/teacher",
        "http://{0.http}",
        "grpc://{0.grpc}/teacher",
    ],
)
def test_it_proves_itself_by_probe_rows(cascade_and_bundle, triton, url):
    """Triton does not state whose the model is."""
    _, bundle = cascade_and_bundle
    assert bundle.manifest["teacher"]["probes"]["rows"] >= 8
    with kc.runtime.EdgeCascade.load(
        bundle.path, teacher=url.format(triton), on_failure="raise"
    ) as edge:
        edge.teacher.check()
    with kc.runtime.EdgeCascade.load(
        bundle.path, teacher=url.format(triton), on_failure="raise",
        teacher_identity="required",
    ) as edge, pytest.raises(kc.runtime.TeacherError) as caught:  # fmt: skip
        edge.teacher.check()
    assert caught.value.stranger


@pytest.mark.parametrize("change", ["permuted", "weights"])
@pytest.mark.parametrize(
    "url", ["http://{0.http}/v2/models/teacher", "grpc://{0.grpc}/teacher"]
)
def test_to_another_bundle_it_is_a_stranger(
    cascade_and_bundle, triton, url, change, tmp_path
):
    cascade, _ = cascade_and_bundle
    teacher = keras.models.clone_model(cascade.teacher)
    weights = cascade.teacher.get_weights()
    if change == "permuted":
        weights[-2:] = [one[..., [1, 2, 3, 0]] for one in weights[-2:]]
    else:
        weights[0] = weights[0] + 0.1
    teacher.set_weights(weights)
    other = kc.Cascade(teacher, keras.models.clone_model(cascade.student))
    bundle = exported(other, tmp_path / "other")
    x = np.random.default_rng(2).normal(size=(50, 6)).astype("float32")
    with kc.runtime.EdgeCascade.load(
        bundle.path, teacher=url.format(triton), on_failure="abstain"
    ) as edge:
        found = edge.predict(x)
    assert set(found.source) == {"edge", "abstained"}
    assert "is not the bundle's" in found.teacher_error

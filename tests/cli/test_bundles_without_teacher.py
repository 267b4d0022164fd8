"""Commands on a bundle that was exported with a teacher of Python."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import BundleError
from keras_cascade.errors import TeacherError
from tests.helpers.linear_teachers import CLASSES, WEIGHTS, WIDTH, examples

X, Y = examples(300, seed=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    keras.utils.set_random_seed(1)
    student = keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)]
    )
    cascade = kc.Cascade(lambda x: x @ WEIGHTS, student)
    cascade.calibrate((X, Y), kc.MaxDelegationRate(0.5))
    folder = tmp_path_factory.mktemp("function")
    np.save(folder / "x.npy", X[:40])
    np.savez(folder / "data.npz", x=X, y=Y)
    return cascade.export(folder / "bundle")


def test_verify_checks_the_files_and_says_what_is_missing(bundle, run):
    assert json.loads(run("verify", bundle.path, "--json"))["passed"]
    data = f"npz:{bundle.path.parent / 'data.npz'}"
    with pytest.raises(BundleError, match=r"no bundle can hold \(Callable\)"):
        run("verify", bundle.path, "--data", data)


def test_predict_applies_the_policy(bundle, run):
    arguments = ["predict", bundle.path, "--input"]
    arguments.append(bundle.path.parent / "x.npy")
    for policy, source in [
        ("answer", "edge_fallback"),
        ("abstain", "abstained"),
    ]:
        printed = run(*arguments, "--on-failure", policy, "--json")
        assert printed.count(source) > 0
        assert "cloud" not in printed
    with pytest.raises(TeacherError, match="without a teacher"):
        run(*arguments)
    with pytest.raises(TeacherError, match="serves it"):
        run(*arguments, "--teacher", "local")


def test_bench_times_the_student_and_says_so(bundle, run):
    data = f"npz:{bundle.path.parent / 'data.npz'}"
    arguments = ["bench", bundle.path, "--data", data, "--runs", "2"]
    printed = " ".join(run(*arguments, "--batch", "1").split())
    assert "The student alone was timed." in printed
    assert "cascade │" not in printed


def test_serve_asks_for_the_object(bundle, run):
    with pytest.raises(BundleError, match="--teacher MODULE:NAME"):
        run("serve", bundle.path)


@pytest.mark.parametrize("policy", ["answer", "abstain", "raise", "queue"])
def test_a_device_without_a_teacher(bundle, policy, tmp_path):
    options = {"queue": tmp_path / "queue"} if policy == "queue" else {}
    with kc.runtime.EdgeCascade.load(
        bundle.path, on_failure=policy, **options
    ) as edge:
        if policy == "raise":
            with pytest.raises(TeacherError, match="without a teacher"):
                edge.predict(X)
            return
        prediction = edge.predict(X)
        source = {"answer": "edge_fallback", "queue": "queued"}
        assert set(prediction.source) == {
            "edge",
            source.get(policy, "abstained"),
        }
        waiting = (prediction.source == "queued").sum()
    if policy == "queue":  # and is asked once one is attached
        teacher = kc.teachers.get(lambda x: x @ WEIGHTS)
        with kc.runtime.EdgeCascade.load(
            bundle.path, teacher, on_failure=policy, **options
        ) as edge:
            assert edge.send_queued() == waiting
            with edge.queued_answers() as late:
                labels = (X @ WEIGHTS).argmax(axis=1)
                queued = prediction.source == "queued"
                assert late.labels.tolist() == labels[queued].tolist()

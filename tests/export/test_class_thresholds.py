"""Thresholds per predicted class, from Keras to every exported file."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import BundleError
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.evaluation.report.numbers import report_numbers
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.export.onnx_interpreter import OnnxStudentInterpreter
from keras_cascade.runtime import EdgeCascade, StudentInterpreter
from keras_cascade.runtime.drift.drift_monitor import DriftMonitor
from keras_cascade.utils.tensor_ops import threshold_of_predicted
from tests.helpers.scripted_teacher import ScriptedTeacher, sums

CLASSES = 4
DROP = kc.MaxAccuracyDrop(0.06, confidence=0.95)
LOOSE = kc.MaxAccuracyDrop(0.1, confidence=0.95)


def draw(rows, seed):
    """Classes that the student tells apart unequally well."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows)
    x = rng.normal(size=(rows, CLASSES)).astype("float32")
    x[np.arange(rows), y] += 1.0 + y
    return x, y


def dense(kernel):
    model = keras.Sequential(
        [keras.Input((CLASSES,)), keras.layers.Dense(CLASSES)]
    )
    model.set_weights([kernel, np.zeros(CLASSES)])
    return model


@pytest.fixture(scope="module")
def calibrated():
    rng = np.random.default_rng(0)
    noise = 0.8 * rng.normal(size=(CLASSES, CLASSES))
    cascade = kc.Cascade(
        dense(2 * np.eye(CLASSES)), dense(np.eye(CLASSES) + noise)
    )
    cascade.compile()
    cascade.calibrate(draw(3000, 1), DROP, per_class=True)
    return cascade


@pytest.fixture(scope="module")
def bundle(calibrated, tmp_path_factory):
    return calibrated.export(
        tmp_path_factory.mktemp("per_class") / "bundle",
        operating_points={"loose": LOOSE},
        quantization="int8",
        targets=["microcontroller", "browser", "phone"],
        onnx="student",
    )


def expected_of(scores, probabilities, thresholds):
    thresholds = np.asarray(thresholds, "float32")
    return ~(scores >= thresholds[np.asarray(probabilities).argmax(axis=-1)])


def student_in_numpy(cascade, x):
    logits = x @ np.asarray(cascade.student.weights[0])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    top = np.sort(shares, axis=1)
    return top[:, -1] - top[:, -2], shares


def test_keras_decides_by_the_predicted_class(calibrated):
    point = calibrated.operating_point
    assert len(set(point.class_thresholds)) == CLASSES
    x, y = draw(1000, 2)
    scores, shares = student_in_numpy(calibrated, x)
    clear = (
        np.abs(
            scores - np.asarray(point.class_thresholds)[shares.argmax(axis=1)]
        )
        > 1e-5
    )
    expected = expected_of(scores, shares, point.class_thresholds)
    out = calibrated.predict(x, verbose=0)
    np.testing.assert_array_equal(out["delegated"][clear], expected[clear])
    metrics = calibrated.evaluate(x, y, return_dict=True, verbose=0)
    assert metrics["delegation_rate"] == pytest.approx(
        out["delegated"].mean(), abs=1e-6
    )


def test_compiled_functions_follow_new_thresholds(calibrated):
    x, y = draw(500, 3)
    gate = kc.gates.MarginGate()
    cascade = kc.Cascade(calibrated.teacher, calibrated.student, gate=gate)
    cascade.compile()

    def rates():
        metrics = cascade.evaluate(x, y, return_dict=True, verbose=0)
        out = cascade.predict(x, verbose=0)
        return metrics["delegation_rate"], out["delegated"].mean()

    predicted = student_in_numpy(cascade, x)[1].argmax(axis=1)
    before = rates()
    limits = np.finfo("float32")
    for class_ in (0, 1):
        thresholds = np.where(
            np.arange(CLASSES) == class_, limits.max, limits.min
        )
        gate.class_thresholds = thresholds
        share = (predicted == class_).mean()
        assert rates() == pytest.approx((share, share), abs=1e-6)
    gate.threshold = 0.5
    assert gate.class_thresholds is None
    assert rates() == before


def test_a_keras_file_keeps_them(calibrated, tmp_path):
    calibrated.save(tmp_path / "cascade.keras")
    loaded = keras.models.load_model(tmp_path / "cascade.keras")
    point = calibrated.operating_point
    assert loaded.operating_point == point
    assert loaded.gate.class_thresholds == tuple(point.class_thresholds)
    assert loaded.threshold == max(point.class_thresholds)
    x, _ = draw(300, 4)
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["delegated"],
        calibrated.predict(x, verbose=0)["delegated"],
    )
    loaded.threshold = 0.5
    assert loaded.operating_point is None


def test_ties_go_to_the_first_class_and_nan_to_the_teacher():
    shares = np.array(
        [[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [1, 0, 0], [np.nan] * 3], "float32"
    )
    found = threshold_of_predicted(keras.ops.array(shares), [0.1, 0.2, 0.3])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found)[:3],
        np.float32([0.1, 0.2, 0.3])[shares[:3].argmax(axis=1)],
    )
    gate = kc.gates.MarginGate(class_thresholds=[-1.0, -1.0, -1.0])
    delegated = gate.delegate(keras.ops.ones((4,)), keras.ops.array(shares))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(delegated), [False, False, False, True]
    )


def test_files_decide_by_the_predicted_class(bundle):
    x, _ = draw(500, 5)
    entry = bundle.manifest["onnx"]["student"]
    for student, point in (
        (StudentInterpreter(bundle.student_file), bundle.operating_point()),
        (
            OnnxStudentInterpreter(bundle.onnx_files["student"]),
            entry["operating_point"],
        ),
    ):
        out = student.run({"input": x})
        np.testing.assert_array_equal(
            out["delegate"],
            expected_of(
                out["score"], out["probabilities"], point["class_thresholds"]
            ),
        )
        assert 0.05 < out["delegate"].mean() < 0.95


def test_a_file_gets_thresholds_of_its_own(calibrated, bundle):
    point = bundle.operating_point()
    assert point["class_thresholds"] != (
        calibrated.operating_point.class_thresholds
    )
    x, y = draw(3000, 1)
    out = StudentInterpreter(bundle.student_file).run({"input": x})
    predicted = out["probabilities"].argmax(axis=1)
    teacher = calibrated.teacher.predict(x, verbose=0).argmax(axis=1)
    again = kc.calibration.fit_threshold(
        out["score"], predicted == y, teacher == y, DROP,
        labels=y, student_labels=predicted, teacher_labels=teacher,
        per_class=True,
    )  # fmt: skip
    assert point["class_thresholds"] == again.class_thresholds


def test_the_fused_cascade_decides_as_keras(calibrated, tmp_path):
    calibrated.export(tmp_path / "fused", format="tf_saved_model")
    x, _ = draw(200, 7)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(tmp_path / "fused"))
    out = loaded.signatures["serving_default"](input=tf.constant(x))
    expected = calibrated.predict(x, verbose=0)
    np.testing.assert_array_equal(out["delegate"], expected["delegated"])
    np.testing.assert_allclose(
        out["probabilities"], expected["probabilities"], atol=1e-5
    )


def test_a_device_switches_between_points_of_several_thresholds(bundle):
    edge = EdgeCascade.load(bundle.path, teacher=ScriptedTeacher(sums))
    x, _ = draw(500, 8)
    out = StudentInterpreter(bundle.student_file).run({"input": x})
    rates = []
    for name in ("default", "loose"):
        edge.use(name)
        point = edge.operating_point
        assert point["threshold"] == max(point["class_thresholds"])
        expected = expected_of(
            out["score"], out["probabilities"], point["class_thresholds"]
        )
        found = edge.predict(x)
        np.testing.assert_array_equal(found.source == "cloud", expected)
        rates.append(expected.mean())
    assert rates[1] < rates[0]


def test_verify_card_and_gate_state_them(bundle):
    for seed in (1, 9):  # of the calibration, and others
        checks, _ = check_bundle(bundle, [(*draw(3000, seed), None)])
        assert [check for check in checks if not check.passed] == []
        assert "loose: guarantee on accuracy_drop" in {c.name for c in checks}
    thresholds = bundle.operating_point()["class_thresholds"]
    assert bundle.manifest["gate"]["config"]["class_thresholds"] == thresholds
    card = (bundle.path / "README.md").read_text()
    assert "the threshold of the class that the student predicts" in card
    assert "also among the examples of each predicted class" in card


def test_a_damaged_list_of_thresholds_is_refused(bundle, tmp_path):
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["operating_points"][0]["class_thresholds"].pop()
    (tmp_path / "student.tflite").write_bytes(bundle.student_file.read_bytes())
    manifest["teacher"] = None
    del manifest["onnx"], manifest["card"]
    manifest.pop("sha256", None)
    write_manifest(manifest, tmp_path / MANIFEST)
    with pytest.raises(BundleError, match="3 class thresholds for 4 classes"):
        EdgeCascade.load(tmp_path)


def test_drift_is_watched_by_what_was_delegated(bundle):
    edge = EdgeCascade.load(bundle.path, teacher=ScriptedTeacher(sums))
    monitor = DriftMonitor(bundle)
    x, _ = draw(500, 10)
    prediction = edge.predict(x)
    status = monitor.update(prediction)
    assert status.delegation_rate == prediction.delegation_rate
    with pytest.raises(ValueError, match="scores do not say what is delegated"):
        monitor.update(prediction.score)
    with pytest.raises(ValueError, match="one at 'loose'"):
        monitor.update(dataclasses.replace(prediction, operating_point="loose"))


def test_the_report_counts_by_the_predicted_class(calibrated):
    results = calibrated.judge(draw(800, 11))
    point = calibrated.operating_point
    numbers = report_numbers(
        results,
        point.to_dict(),
        calibrated.costs,
        ["a", "b", "c", "d"],
        resamples=0,
    )
    delegated = expected_of(
        results.scores,
        np.eye(CLASSES)[results.student_labels],
        point.class_thresholds,
    )
    assert numbers["delegation_rate"] == delegated.mean()
    right = np.where(
        delegated, results.teacher_correct, results.student_correct
    )
    assert numbers["cascade_accuracy"] == right.mean()
    start = numbers["slider"]["start"]
    assert numbers["slider"]["delegation_rate"][start] == delegated.mean()


def test_bad_thresholds_are_refused():
    gate = kc.gates.MarginGate()
    with pytest.raises(ValueError, match="a number for each class"):
        gate.class_thresholds = [0.5]
    with pytest.raises(ValueError, match="finite float32"):
        gate.class_thresholds = [0.5, np.nan]
    gate.class_thresholds = [0.5, 0.6]
    with pytest.raises(ValueError, match="Received no probabilities"):
        gate.delegate(keras.ops.ones((1,)))
    with pytest.raises(ValueError, match=r"each of 3 classes\. Received: 2"):
        gate.delegate(keras.ops.ones((1,)), keras.ops.ones((1, 3)))

"""Bundles of tasks that are not one class per example."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from scipy import special

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import check_manifest, write_manifest
from keras_cascade.errors import ExportError
from keras_cascade.export.bundle_checks import _mean_interval, check_bundle
from keras_cascade.export.measured_runtimes import open_measured_runtime
from keras_cascade.export.runtime_checks import compare_runtime, refit
from tests.helpers.task_cascades import (
    TASKS,
    Pixels,
    calibrated,
    pixel_cascade,
    pixel_data,
)

#: Name to answers of logits (or outputs), and the score of an example, each
#: written down once more, in NumPy.
MULTILABEL = (
    special.expit,
    lambda z: np.abs(2 * special.expit(z) - 1).min(axis=1),
)
FORMULAS = {
    "hamming": MULTILABEL,
    "example": MULTILABEL,
    "tolerance": (
        lambda outputs: outputs[:, :2],
        lambda outputs: -outputs[:, 2:].max(axis=1) / 2,
    ),
    "bound": (
        lambda outputs: (outputs[:, :2] + outputs[:, 2:]) / 2,
        lambda outputs: -np.abs(outputs[:, 2:] - outputs[:, :2]).max(axis=1),
    ),
    "pixels": (
        lambda z: special.softmax(z, axis=-1),
        lambda z: special.softmax(z, axis=-1).max(axis=-1).mean(axis=(1, 2)),
    ),
}


def loss_of(name, y, answers):
    """Loss of each example, in NumPy."""
    if name == "pixels":
        return (answers.argmax(axis=-1) != y).mean(axis=(1, 2))
    if name == "tolerance":
        return (np.abs(answers - y).max(axis=1) > 1.0).astype(float)
    if name == "bound":
        return np.minimum(np.abs(answers - y), 3.0).mean(axis=1) / 3.0
    wrong = (answers >= 0.5) != (y == 1)
    return wrong.max(axis=1) if name == "example" else wrong.mean(axis=1)


def teacher_answers(name, cascade, x):
    logits = cascade.teacher.predict(x, verbose=0)
    if name in ("tolerance", "bound"):
        return logits
    return FORMULAS[name][0](logits)


def run_alone(file, x):
    """Outputs of a portable file, run row by row in LiteRT itself."""
    run = Interpreter(str(file)).get_signature_runner("serving_default")
    rows = [run(input=x[row : row + 1]) for row in range(len(x))]
    return {name: np.concatenate([r[name] for r in rows]) for name in rows[0]}


def labelled(name, cascade, rows, seed):
    return cascade.labelled(TASKS[name][1](rows, seed)).batches()


@pytest.mark.parametrize("name", TASKS)
def test_the_manifest(task_bundle, name):
    cascade, bundle, _ = task_bundle(name)
    manifest, task = bundle.manifest, bundle.manifest["task"]
    linear = name in ("tolerance", "bound")
    shape = {"pixels": [4, 4, 3]}.get(name, [2] if linear else [4])
    # A reader of version 1 would take it for a classifier. It refuses 2.
    assert manifest["version"] == 2
    assert task == {
        "class": "tests.bundles>Pixels"
        if name == "pixels"
        else type(cascade.task).__name__,
        "config": cascade.task.get_config(),
        "activation": {"pixels": "softmax"}.get(
            name, "linear" if linear else "sigmoid"
        ),
        "output": "values" if linear else "probabilities",
        "shape": shape,
        "loss": cascade.task.loss_name,
        "zero_one_loss": name in ("example", "tolerance"),
    }
    assert bundle.answer_form.sizes == tuple(shape)
    assert len(bundle.classes) == shape[-1]


def test_one_class_per_example_stays_version_1(bundle_path):
    bundle = Bundle.load(bundle_path)
    assert bundle.manifest["version"] == 1
    assert "task" not in bundle.manifest
    assert bundle.answer_form.one_class
    assert bundle.answer_form.name == "probabilities"


@pytest.mark.parametrize("name", TASKS)
def test_the_student_file_computes_what_keras_does(task_bundle, name):
    cascade, bundle, _ = task_bundle(name)
    x, _ = TASKS[name][1](24, 31)
    outputs = cascade.student.predict(x, verbose=0).astype("float64")
    answers, score = (formula(outputs) for formula in FORMULAS[name])
    found = run_alone(bundle.student_file, x)
    output = bundle.manifest["task"]["output"]
    assert set(found) == {output, "score", "delegate"}
    assert {one.dtype.name for one in found.values()} == {"float32", "int32"}
    np.testing.assert_allclose(found[output], answers, atol=1e-5)
    np.testing.assert_allclose(found["score"], score, atol=1e-5)
    threshold = np.float32(bundle.operating_point()["threshold"])
    assert (found["delegate"] == (found["score"] < threshold)).all()
    assert 0 < found["delegate"].mean() < 1


@pytest.mark.parametrize("name", TASKS)
def test_the_teacher_is_the_keras_teacher(task_bundle, name):
    cascade, bundle, _ = task_bundle(name)
    x, _ = TASKS[name][1](9, 32)
    run = tf.saved_model.load(str(bundle.teacher_folder)).signatures
    found = run["serving_default"](input=tf.constant(x))["logits"].numpy()
    expected = cascade.teacher.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_numbers_are_of_the_loss(task_bundle, name):
    cascade, bundle, (x, y) = task_bundle(name)
    point = bundle.operating_point()
    outputs = cascade.student.predict(x, verbose=0)
    answers, score = (formula(outputs) for formula in FORMULAS[name])
    student = 1 - loss_of(name, y, answers)
    teacher = 1 - loss_of(name, y, teacher_answers(name, cascade, x))
    delegated = score < point["threshold"]
    assert point["delegation_rate"] == pytest.approx(delegated.mean())
    assert point["student_accuracy"] == pytest.approx(student.mean(), abs=1e-5)
    assert point["teacher_accuracy"] == pytest.approx(teacher.mean(), abs=1e-5)
    expected = np.where(delegated, teacher, student).mean()
    assert point["accuracy"] == pytest.approx(expected, abs=1e-5)
    assert bundle.manifest["verification"]["decision_flips"] == 0
    card = (bundle.path / "README.md").read_text("utf-8")
    assert cascade.task.loss_name in card
    assert f"`{bundle.manifest['task']['output']}`" in card


@pytest.mark.parametrize("name", TASKS)
def test_verify(task_bundle, name):
    cascade, bundle, data = task_bundle(name)
    checks, measured = check_bundle(bundle, cascade.labelled(data).batches())
    assert [check for check in checks if not check.passed] == []
    names = {check.name for check in checks}
    assert {"numbers", "decisions", "student.onnx: numbers"} <= names
    point = bundle.operating_point()
    assert measured["accuracy"] == pytest.approx(point["accuracy"], abs=1e-6)


def test_verify_finds_other_answers_and_other_decisions(task_bundle, tmp_path):
    cascade, bundle, _ = task_bundle("hamming")
    path = tmp_path / "altered"
    shutil.copytree(bundle.path, path)
    # A threshold that is not the file's, and a guarantee that no cascade
    # meets: half a label in all less lost than by the teacher.
    manifest = {**bundle.manifest}
    (point,) = manifest["operating_points"]
    limit = {"quantity": "loss_increase", "at_most": -0.5, "confidence": 0.9}
    manifest["operating_points"] = [
        {**point, "threshold": point["threshold"] + 0.2, "guarantees": [limit]}
    ]
    write_manifest(manifest, path / "manifest.json")
    checks, _ = check_bundle(path, labelled("hamming", cascade, 300, 33))
    failed = {check.name for check in checks if not check.passed}
    assert failed == {"decisions", "guarantee on loss_increase"}


@pytest.mark.parametrize("name", ["hamming", "bound"])
def test_guarantees_of_losses_are_fitted_on_the_file(name, tmp_path):
    make, data = TASKS[name]
    cascade, examples = make(), data(600, 5)
    cascade.compile(optimizer="adam")
    cascade.calibrate(examples, kc.MaxLossIncrease(0.1, confidence=0.9))
    bundle = cascade.export(
        tmp_path / "bundle",
        operating_points={"loose": kc.MaxExpectedLoss(0.4, confidence=0.8)},
    )
    checks, _ = check_bundle(bundle, labelled(name, cascade, 600, 34))
    assert all(check.passed for check in checks)
    assert {check.name for check in checks} >= {
        "guarantee on loss_increase",
        "loose: guarantee on expected_loss",
    }


@pytest.mark.parametrize(
    ("name", "quantization", "limit"),
    # Of the answers' spread: a step of 8 bits is 1/255 of a range of several
    # spreads, in the inputs, in the weights and in the outputs; 11 bits of a
    # weight are 1/2048 of it.
    [
        ("hamming", "int8", 0.1),
        ("tolerance", "int8", 0.1),
        ("pixels", "int8", 0.1),
        ("pixels", "dynamic", 0.05),
        ("tolerance", "float16", 0.005),
    ],
)
def test_quantized_students(tmp_path, name, quantization, limit):
    make, data = TASKS[name]
    cascade, examples = make(), data(200, 5)
    cascade.compile(optimizer="adam")
    cascade.calibrate(examples, kc.MaxAccuracyDrop(0.1))
    bundle = cascade.export(tmp_path / "bundle", quantization=quantization)
    x, _ = data(60, 35)
    outputs = cascade.student.predict(x, verbose=0)
    answers = FORMULAS[name][0](outputs)
    found = run_alone(bundle.student_file, x)
    output = bundle.manifest["task"]["output"]
    spread = answers.std() if output == "values" else 0.5
    assert np.abs(found[output] - answers).mean() < limit * spread
    checks, _ = check_bundle(bundle, cascade.labelled(examples).batches())
    assert all(check.passed for check in checks)
    kind = "value" if output == "values" else "probability"
    verification = bundle.manifest["verification"]
    assert verification[f"max_{kind}_difference"] >= 0
    assert ("label_flips" in verification) == (output != "values")


@pytest.mark.parametrize("name", ["tolerance", "pixels"])
def test_the_other_formats(tmp_path, name):
    cascade, _ = calibrated(name)
    x, _ = TASKS[name][1](20, 36)
    expected = cascade.predict(x, verbose=0)
    output = cascade.task.answer_name
    cascade.export(tmp_path / "fused", format="tf_saved_model")
    run = tf.saved_model.load(str(tmp_path / "fused")).signatures
    found = run["serving_default"](input=tf.constant(x))
    np.testing.assert_allclose(found[output], expected[output], atol=1e-5)
    assert (found["delegate"].numpy() == expected["delegated"]).all()
    cascade.export(tmp_path / "s.tflite", format="litert")
    cascade.export(tmp_path / "s.onnx", format="onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "s.onnx")
    names = [one.name for one in session.get_outputs()]
    onnx = dict(zip(names, session.run(names, {"input": x}), strict=True))
    tflite = run_alone(tmp_path / "s.tflite", x)
    for name in (output, "score"):
        np.testing.assert_allclose(onnx[name], tflite[name], atol=1e-5)


def test_a_cascade_of_cascades_in_one_graph(tmp_path):
    inner, (x, _) = calibrated("hamming")
    outer = kc.Cascade(inner, inner.student, task=inner.task)
    outer.compile(optimizer="adam")
    outer.threshold = 0.4
    outer.export(tmp_path / "fused", format="tf_saved_model", example_inputs=x)
    run = tf.saved_model.load(str(tmp_path / "fused")).signatures
    found = run["serving_default"](input=tf.constant(x[:50]))
    expected = outer.predict(x[:50], verbose=0)
    np.testing.assert_allclose(
        found["probabilities"], expected["probabilities"], atol=1e-5
    )


def test_free_sizes(tmp_path):
    cascade = pixel_cascade(free=True)
    cascade.compile(optimizer="adam")
    cascade.calibrate(pixel_data(100, 2), kc.MaxDelegationRate(0.4))
    bundle = cascade.export(tmp_path / "bundle")
    assert bundle.manifest["task"]["shape"] == [None, None, 3]
    x = np.random.default_rng(1).normal(size=(6, 7, 5, 2)).astype("float32")
    expected = cascade.predict(x, verbose=0)
    with kc.runtime.EdgeCascade.load(bundle.path, teacher="local") as edge:
        found = edge.predict(x)
    np.testing.assert_allclose(
        found.probabilities, expected["probabilities"], atol=1e-5
    )
    assert found.labels.shape == (6, 7, 5)
    with pytest.raises(ValueError, match="answers have one size"):
        kc.runtime.EdgeCascade.load(bundle.path, queue=tmp_path / "queue")


def test_another_runtime_is_compared_and_refitted(task_bundle, tmp_path):
    cascade, bundle, data = task_bundle("pixels")
    path = tmp_path / "refitted"
    shutil.copytree(bundle.path, path)
    bundle = Bundle.load(path)
    for runtime in ("litertjs", "tflite-micro"):
        with pytest.raises(ExportError, match="one class per example"):
            open_measured_runtime(bundle, runtime)
    runtime = open_measured_runtime(bundle, "onnxruntime")
    checks, numbers, results = compare_runtime(
        bundle, runtime, cascade.labelled(data).batches(), with_teacher=True
    )
    assert all(check.passed for check in checks)
    assert numbers["max_probability_difference"] < 1e-5
    assert numbers["label_flips"] == 0
    point = refit(bundle, runtime, results, "onnx").operating_point("onnx")
    expected = bundle.operating_point()
    assert point["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "qat"}, "Expected no quantization='qat' with Multi"),
        (
            {"quantization": "int8", "float_layers": ["dense"]},
            "Expected no float_layers",
        ),
        ({"targets": "microcontroller"}, "Expected no targets='microcontr"),
        ({"class_names": ["a", "b"]}, "Expected 4 class names"),
    ],
)
def test_unsupported_options(task_bundle, tmp_path, options, message):
    cascade, _, data = task_bundle("hamming")
    with pytest.raises(ValueError, match=message):
        cascade.export(tmp_path / "b", calibration_data=data, **options)
    assert not (tmp_path / "b").exists()


def test_unsupported_calls(task_bundle):
    cascade, _, data = task_bundle("hamming")
    with pytest.raises(ValueError, match="Expected no `per_class` with Multi"):
        cascade.calibrate(data, kc.MaxDelegationRate(0.4), per_class=True)
    with pytest.raises(ValueError, match="override `score` of"):
        cascade.fit_gate(data)


def test_a_task_whose_class_is_not_known(task_bundle, tmp_path):
    cascade, bundle, _ = task_bundle("pixels")
    path = tmp_path / "unknown"
    shutil.copytree(bundle.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["task"]["class"] = "elsewhere>Pixels"
    write_manifest(manifest, path / "manifest.json")
    with pytest.raises(ValueError, match="'elsewhere>Pixels', whose class is"):
        check_bundle(path, labelled("pixels", cascade, 8, 1))
    assert keras.saving.get_registered_object("tests.bundles>Pixels") is Pixels


@pytest.mark.parametrize(
    "edit",
    [
        {"activation": "softmax"},
        {"loss": "another loss"},
        {"zero_one_loss": True},
    ],
    ids=str,
)
def test_a_manifest_that_describes_its_task_otherwise(
    task_bundle, edit, tmp_path
):
    cascade, bundle, _ = task_bundle("hamming")
    path = tmp_path / "other"
    shutil.copytree(bundle.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["task"].update(edit)
    write_manifest(manifest, path / "manifest.json")
    with pytest.raises(ValueError, match="describes the task 'MultiLabel'"):
        check_bundle(path, labelled("hamming", cascade, 8, 1))


def test_one_example_contradicts_no_mean():
    interval = _mean_interval(np.array([0.25]), 0.01)
    assert interval.low == -np.inf and interval.high == np.inf


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"version": 1}, "2 was expected"),
        ({"task": None}, "None is not of type 'object'"),
    ],
)
def test_manifests_that_contradict_themselves(task_bundle, edit, message):
    manifest = {**task_bundle("hamming")[1].manifest, **edit}
    with pytest.raises(BundleError, match=message):
        check_manifest(manifest)


@pytest.mark.parametrize(
    "edit", [{"shape": [3]}, {"output": "values"}, {"activation": "linear"}]
)
def test_a_task_that_does_not_fit_its_bundle(task_bundle, tmp_path, edit):
    bundle = task_bundle("hamming")[1]
    path = tmp_path / "damaged"
    shutil.copytree(bundle.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["task"] |= edit
    write_manifest(manifest, path / "manifest.json")
    with pytest.raises(BundleError, match="does not fit its manifest"):
        kc.runtime.EdgeCascade.load(path)

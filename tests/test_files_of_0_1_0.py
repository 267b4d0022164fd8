"""Files that keras_cascade 0.1.0 wrote are read, and give the same answers.

`files_of_0_1_0/make.py` says how `files.zip` was made.
"""

import json
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_cascade as kc

ARCHIVE = Path(__file__).parent / "files_of_0_1_0" / "files.zip"
POLICIES = {
    "standard": ("StandardDistillation", "MarginGate"),
    "class_specific": ("ClassSpecificDistillation", "ClassGate"),
    "margin": ("MarginDistillation", "MaxProbabilityGate"),
    "abstain": ("AbstainDistillation", "AbstainGate"),
    "cascade_aware": ("CascadeAwareDistillation", "EntropyGate"),
    "combined": ("CombinedDistillation", "EnergyGate"),
    "gatekeeper": ("Gatekeeper", "LearnedGate"),
}
#: What 0.1.0's operating points say of new examples: quantities and bounds.
GUARANTEES = {
    "standard": [("delegation_rate", "at_most", 0.6)],
    "class_specific": [],
    "margin": [
        ("accuracy_drop", "at_most", 0.25),
        ("delegation_rate", "at_most", 0.95),
    ],
    "abstain": [],
    "cascade_aware": [("accuracy", "at_least", 0.5)],
    "combined": [("amortized_cost", "at_most", 0.8)],
    "gatekeeper": [("group_accuracy", "at_least", 0.3)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The archive's files, unpacked."""
    path = tmp_path_factory.mktemp("files_of_0_1_0")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(path)
    return path


@pytest.fixture
def expected(folder):
    """A function: the arrays of an .npz file below a name."""

    def read(file, name):
        with np.load(folder / file, allow_pickle=False) as arrays:
            return {
                key.partition("/")[2]: arrays[key]
                for key in arrays.files
                if key.startswith(f"{name}/")
            }

    return read


def blobs(rows, seed, classes=3, features=4):
    """The labelled points of make.py."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, features))
    y = rng.integers(0, classes, rows).astype("int32")
    x = centres[y] + 0.8 * rng.normal(size=(rows, features))
    return x.astype("float32"), y


def assert_answers(cascade, x, answers):
    """A cascade's predictions and threshold are the stored ones."""
    predicted = cascade.predict(x, verbose=0)
    for name in ("probabilities", "score"):
        np.testing.assert_allclose(
            predicted[name], answers[name], rtol=1e-5, atol=1e-5
        )
    np.testing.assert_array_equal(predicted["delegated"], answers["delegated"])
    assert cascade.threshold == answers["threshold"]


@pytest.mark.parametrize("name", POLICIES)
def test_a_cascade_of_every_policy_and_gate(folder, expected, name):
    cascade = keras.models.load_model(folder / f"{name}.keras")
    classes = type(cascade.distillation), type(cascade.gate)
    assert tuple(cls.__name__ for cls in classes) == POLICIES[name]
    answers = expected("cascades.npz", name)
    assert_answers(cascade, answers["x"], answers)

    stored = json.loads((folder / "operating_points.json").read_text())[name]
    point = cascade.operating_point
    for key in (
        "threshold", "delegation_rate", "accuracy", "examples",
        "effective_examples", "objective", "traffic",
    ):  # fmt: skip
        assert getattr(point, key) == stored[key], key
    assert point.guarantees == stored["promises"]
    found = [
        (one["quantity"], side, one[side])
        for one in point.guarantees
        for side in ("at_most", "at_least")
        if side in one
    ]
    assert sorted(set(found)) == GUARANTEES[name]


def test_training_goes_on(folder):
    cascade = keras.models.load_model(folder / "standard.keras")
    steps = int(cascade.optimizer.iterations)
    before = cascade.student.get_weights()
    teacher = cascade.teacher.get_weights()
    cascade.fit(*blobs(32, 20), batch_size=32, verbose=0)
    assert int(cascade.optimizer.iterations) == steps + 1 == 161
    assert any(
        np.any(old != new)
        for old, new in zip(before, cascade.student.get_weights(), strict=True)
    )
    for old, new in zip(teacher, cascade.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_earlier_uses_of_the_data_are_remembered(folder):
    cascade = keras.models.load_model(folder / "standard.keras")
    rate = kc.MaxDelegationRate(0.5, tolerance=0.5)
    for seed, rows, use in ((2, 128, "training"), (3, 200, "gate-fitting")):
        with pytest.raises(ValueError, match=f"the {use} set itself"):
            cascade.calibrate(blobs(rows, seed), rate)
    with pytest.raises(ValueError, match="the calibration set itself"):
        cascade.evaluate(*blobs(240, 4), verbose=0)
    cascade.calibrate(blobs(100, 5), rate)


def test_a_cascade_of_texts(folder, expected):
    cascade = keras.models.load_model(folder / "texts.keras")
    x = expected("texts.npz", "x")["x"].astype(object)
    assert_answers(cascade, x, expected("texts.npz", "keras"))


def test_a_bundle_of_texts(folder, expected):
    x = expected("texts.npz", "x")["x"].astype(object)
    answers = expected("texts.npz", "bundle")
    path = folder / "bundle_texts"
    with kc.runtime.EdgeCascade.load(path, teacher="local") as edge:
        prediction = edge.predict(x)
    np.testing.assert_allclose(
        prediction.probabilities, answers["probabilities"], atol=1e-5
    )
    np.testing.assert_array_equal(prediction.labels, answers["labels"])
    assert prediction.source.tolist() == answers["source"].tolist()


def test_a_bundle_of_numbers_in_8_bits(folder, expected):
    answers = expected("bundle_numbers.npz", "bundle")
    path = folder / "bundle_numbers"
    with kc.runtime.EdgeCascade.load(path, teacher="local") as edge:
        prediction = edge.predict(answers["x"])
        # Another processor may round a value of 8 bits the other way.
        np.testing.assert_allclose(
            prediction.probabilities, answers["probabilities"], atol=0.02
        )
        np.testing.assert_array_equal(prediction.labels, answers["labels"])
        assert prediction.source.tolist() == answers["source"].tolist()
        edge.use("saver")
        assert edge.predict(answers["x"]).source.tolist().count("cloud") < (
            prediction.source.tolist().count("cloud")
        )
    bundle = kc.bundle.Bundle.load(path)
    assert bundle.classes == ["a", "b", "c"]
    (guarantee,) = bundle.operating_point()["guarantees"]
    assert guarantee == {
        "quantity": "delegation_rate", "at_most": 0.6, "confidence": 0.9,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["bundle_numbers", "bundle_texts"])
@pytest.mark.parametrize("file", ["student.tflite", "manifest.json"])
def test_an_altered_bundle_is_refused(folder, tmp_path, name, file):
    path = tmp_path / name
    shutil.copytree(folder / name, path)
    altered = (path / file).read_bytes().replace(b"0.6", b"0.7", 1)
    if file == "student.tflite":
        altered = altered[:-1] + bytes([altered[-1] ^ 1])
    elif name == "bundle_texts":
        altered = altered.replace(b'"2"', b'"3"', 1)
    assert altered != (path / file).read_bytes()
    (path / file).write_bytes(altered)
    with pytest.raises(kc.errors.BundleError):
        kc.runtime.EdgeCascade.load(path)


def test_a_drift_monitor_reads_the_calibration_scores(folder, expected):
    answers = expected("bundle_numbers.npz", "bundle")
    path = folder / "bundle_numbers"
    monitor = kc.DriftMonitor(path, false_alarm_rate=0.01)
    with kc.runtime.EdgeCascade.load(path) as edge:
        status = monitor.update(edge.predict(answers["x"]))
    assert status.guarantee_holds


@pytest.mark.parametrize("name", ["cache", "cache_top_k"])
def test_cached_teacher_logits_are_refused(folder, expected, name):
    # Its keys are of float32 values, which two examples may share.
    with pytest.raises(ValueError, match="another one's logits; delete it"):
        kc.TeacherLogitsCache(folder / name)
    cascade = keras.models.load_model(folder / "standard.keras")
    x = expected("caches.npz", name)["x"]
    with pytest.raises(ValueError, match=r"of keras_cascade 0\.1\.0"):
        kc.cache_teacher_logits(x, cascade.teacher, folder / name)


def test_queued_rows_are_sent_and_answered(folder, expected, tmp_path):
    answers = expected("bundle_numbers.npz", "bundle")
    queue = shutil.copy(folder / "queue.sqlite", tmp_path / "queue.sqlite")
    with kc.runtime.EdgeCascade.load(
        folder / "bundle_numbers",
        teacher="local",
        on_failure="queue",
        queue=queue,
    ) as edge:
        delegated = answers["source"] == "cloud"
        assert edge.send_queued() == delegated.sum()
        with edge.queued_answers() as late:
            labels = late.labels.tolist()
    assert labels == answers["labels"][delegated].tolist()


def test_a_log_of_the_teacher(folder, expected, tmp_path):
    file = shutil.copy(folder / "log.sqlite", tmp_path / "log.sqlite")
    answers = expected("log.npz", "log")
    log = kc.runtime.TeacherLog(file)
    inputs, logits = log.read()
    log.close()
    (x,) = inputs.values()
    np.testing.assert_array_equal(x, answers["x"])
    np.testing.assert_array_equal(logits, answers["logits"])
    examples, labels, cache = kc.teacher_logits.cache_teacher_log(
        file, tmp_path / "cache"
    )
    np.testing.assert_array_equal(examples, x)
    np.testing.assert_array_equal(labels, logits.argmax(axis=1))
    np.testing.assert_allclose(
        cache.logits(x), logits - logits.max(axis=1, keepdims=True), atol=0.02
    )

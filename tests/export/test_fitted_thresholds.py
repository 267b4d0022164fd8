"""Thresholds and guarantees of quantized files, fitted on the files."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.export.export_job import ExportJob
from keras_cascade.runtime import StudentInterpreter

GUARANTEE = kc.MaxAccuracyDrop(0.01, confidence=0.95)


@pytest.fixture
def stepped():
    """A student whose int8 logits come in steps of 1.6.

    Its logits are (a, 0, -400), and a is uniform on [-8, 8]. So its int8
    logits have 255 steps over 408: 1.6 each, and a score of |a| becomes one
    of the nearest multiple. The student is right where |a| > 3, and as often
    as not elsewhere; the teacher, which sees the label, always.
    """

    def model(kernel, bias):
        made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        made.set_weights([np.array(kernel, "f"), np.array(bias, "f")])
        return made

    student = model([[1, 0, 0], [0, 0, 0]], [0, 0, -400])
    teacher = model([[0, 0, 0], [-20, 20, 0]], [10, -10, -20])
    return kc.Cascade(teacher, student)


def examples(rows, seed):
    rng = np.random.default_rng(seed)
    a = rng.uniform(-8, 8, rows)
    # The extremes, so that the ranges are those of the derivation.
    a[:2] = -8, 8
    wrong = (np.abs(a) < 3) & (rng.random(rows) < 0.5)
    y = np.where(wrong, a > 0, a <= 0).astype("int32")
    return np.stack([a, y], axis=1).astype("float32"), y


def accuracy_drop(file, x, y):
    """Teacher (always right) minus cascade, on examples."""
    found = StudentInterpreter(file).run({"input": x})
    right = found["probabilities"].argmax(axis=1) == y
    return 1 - (found["delegate"] | right).mean()


def test_the_float_threshold_would_break_the_guarantee(stepped, tmp_path):
    x, y = examples(8_000, seed=0)
    point = stepped.calibrate((x, y), GUARANTEE)
    # 1 % of harm is half of the examples in a strip of 1/50 of those up to 8:
    # |a| in (2.84, 3), and |a| = atanh(margin) * 2.
    float_threshold = 2 * np.arctanh(point.threshold)
    assert 2.8 < float_threshold < 3.05
    bundle = stepped.export(tmp_path / "bundle", quantization="int8")
    new_x, new_y = examples(40_000, seed=1)

    left = tmp_path / "left.tflite"
    unfitted = ExportJob(
        stepped, (x, y), quantization="int8"
    ).student_artifact()
    left.write_bytes(unfitted.convert(point.threshold))
    # Scores of |a| in (2.4, 4) are now 3.2, above the threshold: 0.6 of 8 are
    # kept on top, half of them wrong.
    assert accuracy_drop(left, new_x, new_y) == pytest.approx(0.0375, abs=0.005)

    assert accuracy_drop(bundle.student_file, new_x, new_y) <= 0.01
    guaranteed = bundle.operating_point()
    assert guaranteed["accuracy_drop_bound"] == 0.01
    # The next step, 4.8, is the first that is certain: between 3.2 and 4.8.
    assert 3.2 < 2 * np.arctanh(guaranteed["threshold"]) < 4.8
    assert guaranteed["delegation_rate"] == pytest.approx(0.5, abs=0.02)
    assert stepped.threshold == point.threshold


def test_a_guarantee_that_the_file_cannot_keep_is_no_file(stepped, tmp_path):
    """In float 37.5 % delegated are enough, in int8 it takes 50 %."""
    x, y = examples(8_000, seed=0)
    stepped.calibrate((x, y), [GUARANTEE, kc.MaxDelegationRate(0.45)])
    for path, arguments in (
        (tmp_path / "bundle", {}),
        (tmp_path / "student.tflite", {"format": "litert"}),
    ):
        with pytest.raises(
            ValueError, match=r"in int8\) meets.*nothing was written"
        ) as error:
            stepped.export(path, quantization="int8", **arguments)
        assert "MaxDelegationRate(0.45) by delegation rates" in str(error.value)
    assert list(tmp_path.iterdir()) == []
    stepped.export(tmp_path / "bundle", quantization="float16")


def test_the_manifest_counts_what_changed(stepped, tmp_path):
    x, y = examples(3_000, seed=2)
    stepped.calibrate((x, y), GUARANTEE)
    bundle = stepped.export(tmp_path / "bundle", quantization="int8")
    student = bundle.manifest["student"]
    assert student["quantization"] == "int8"
    assert student["bytes"] == bundle.student_file.stat().st_size
    verified = bundle.manifest["verification"]
    found = StudentInterpreter(bundle.student_file).run({"input": x})
    keras_score = np.tanh(np.abs(x[:, 0]) / 2)
    threshold = np.float32(stepped.threshold)
    # Examples so near the threshold that Keras may round otherwise.
    doubtful = (np.abs(keras_score - threshold) < 1e-6).sum()
    assert doubtful == 0
    in_keras = keras_score < threshold
    assert verified["decision_flips"] == (found["delegate"] != in_keras).sum()
    assert (
        verified["decision_flips_at_float_threshold"]
        == ((found["score"] < threshold) != in_keras).sum()
    )
    right = found["probabilities"].argmax(axis=1) == y
    keras_right = (x[:, 0] <= 0) == y
    assert verified["label_flips"] == (right != keras_right).sum()
    assert verified["student_accuracy_change"] == pytest.approx(
        right.mean() - keras_right.mean()
    )
    assert verified["accuracy_change"] == pytest.approx(
        (found["delegate"] | right).mean() - (in_keras | keras_right).mean()
    )
    assert verified["batch_sizes"] == [1, 2, 7, 64, 184, 256]
    card = (bundle.path / "README.md").read_text()
    assert "The int8 file has" in card
    bundle = stepped.export(tmp_path / "float")
    assert bundle.manifest["student"]["quantization"] == "float32"
    assert "size_over_float32" not in bundle.manifest["verification"]
    assert verified["size_over_float32"] == pytest.approx(
        student["bytes"] / bundle.manifest["student"]["bytes"]
    )

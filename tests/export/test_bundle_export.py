"""Bundles are run, compared and measured before they are written."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.export import ExportError, student_export
from keras_cascade.export.tflite_student import TFLiteStudent, open_tflite
from keras_cascade.runtime import SavedModelTeacher, StudentInterpreter


@pytest.fixture(scope="module")
def digits():
    """A cascade on the digits, calibrated, with its splits as arrays."""
    keras.utils.set_random_seed(0)
    splits = kc.datasets.load("digits")

    def arrays(part):
        x, y = zip(*part.as_numpy_iterator(), strict=True)
        return np.stack(x), np.array(y)

    train, held_out = arrays(splits.train), arrays(splits.calibration)
    teacher = kc.models.image_teacher(splits.input_shape, 10, width=8)
    teacher.compile(
        optimizer=keras.optimizers.Adam(5e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(*train, epochs=5, verbose=0)
    cascade = kc.Cascade(teacher, kc.models.image_student((8, 8, 1), 10))
    cascade.compile(optimizer=keras.optimizers.Adam(5e-3))
    cascade.fit(*train, epochs=8, verbose=0)
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.25))
    return cascade, splits, arrays(splits.test)


@pytest.fixture(scope="module")
def bundle(digits, tmp_path_factory):
    cascade, splits, _ = digits
    path = tmp_path_factory.mktemp("bundles") / "digits"
    return cascade.export(path, class_names=splits.class_names)


@pytest.mark.parametrize("size", [1, 7, 256])
def test_the_file_decides_as_keras_on_the_whole_test_split(
    digits, bundle, size
):
    cascade, _, (x, _) = digits
    expected = cascade.predict(x, verbose=0)
    student = StudentInterpreter(bundle.student_file)
    parts = [
        student.run({"input": x[i : i + size]}) for i in range(0, len(x), size)
    ]
    decisions = np.concatenate([part["delegate"] for part in parts])
    np.testing.assert_array_equal(decisions, expected["delegated"])
    scores = np.concatenate([part["score"] for part in parts])
    np.testing.assert_allclose(scores, expected["score"], atol=1e-5)
    assert 0.1 < decisions.mean() < 0.4


def test_the_manifest_states_what_was_measured_on_the_file(digits, bundle):
    cascade, splits, _ = digits
    manifest = bundle.manifest
    x, y = zip(*splits.calibration.as_numpy_iterator(), strict=True)
    x, y = np.stack(x), np.array(y)
    student = StudentInterpreter(bundle.student_file).run({"input": x})
    delegated = student["delegate"]
    teacher = cascade.teacher.predict(x, verbose=0).argmax(axis=1) == y
    right = student["probabilities"].argmax(axis=1) == y
    point = bundle.operating_point()
    assert point["delegation_rate"] == pytest.approx(delegated.mean())
    assert point["accuracy"] == pytest.approx(
        np.where(delegated, teacher, right).mean()
    )
    assert point["threshold"] == cascade.threshold
    assert manifest["verification"]["decision_flips"] == 0
    assert manifest["verification"]["examples"] == len(x)
    assert {1, 2, 7, 64} <= set(manifest["verification"]["batch_sizes"])
    assert manifest["calibration"]["examples"] == len(x)
    assert manifest["input"] == [
        {
            "name": "input",
            "shape": [None, 8, 8, 1],
            "dtype": "float32",
            "range": [0.0, 1.0],
        }
    ]
    assert manifest["costs"]["student"] == cascade.costs.student


def test_the_teacher_answers_as_keras_at_any_batch(digits, bundle):
    cascade, _, (x, _) = digits
    teacher = SavedModelTeacher(bundle.teacher_folder)
    for rows in (1, 2, 64):
        np.testing.assert_allclose(
            teacher.logits({"input": x[:rows]}),
            cascade.teacher.predict(x[:rows], verbose=0),
            atol=1e-4,
        )


def test_the_model_card_has_the_numbers(bundle):
    card = (bundle.path / "README.md").read_text()
    point = bundle.operating_point()
    assert f"{point['accuracy']:.4f}" in card
    assert str(point["threshold"]) in card
    assert "0 decisions" in card
    assert "guarantee nothing" in card


def test_named_inputs_keep_their_names(blobs, tmp_path):
    def model(units):
        parts = {k: keras.Input((3,), name=k) for k in ("left", "right")}
        x = keras.layers.Concatenate()([parts["left"], parts["right"]])
        x = keras.layers.Dense(units, activation="relu")(x)
        return keras.Model(parts, keras.layers.Dense(4)(x))

    def named(x):
        return {"left": x[:, :3], "right": x[:, 3:]}

    x, y = blobs(200)
    cascade = kc.Cascade(model(16), model(3))
    data = (named(x), y)
    cascade.calibrate(data, kc.MaxDelegationRate(0.3))
    bundle = cascade.export(tmp_path / "bundle")
    student = StudentInterpreter(bundle.student_file)
    assert student.input_names() == ["left", "right"]
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    expected = cascade.predict(named(x), verbose=0)
    found = edge.predict(named(x))
    np.testing.assert_allclose(
        found.probabilities, expected["probabilities"], atol=1e-5
    )
    np.testing.assert_array_equal(
        found.source == "cloud", expected["delegated"]
    )


def test_a_cascade_as_teacher_is_exported_too(
    cascade, dense_model, blobs, tmp_path
):
    outer = kc.Cascade(cascade, dense_model(2))
    outer.calibrate(blobs(100), kc.MaxDelegationRate(0.5))
    bundle = outer.export(tmp_path / "bundle")
    x, _ = blobs(50, seed=9)
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    np.testing.assert_allclose(
        edge.predict(x).probabilities,
        outer.predict(x, verbose=0)["probabilities"],
        atol=1e-5,
    )


def test_an_uncalibrated_cascade_says_so(cascade, blobs, tmp_path):
    bundle = cascade.export(tmp_path / "bundle", calibration_data=blobs(60))
    point = bundle.operating_point()
    assert point["objective"] is None
    assert point["threshold"] == cascade.threshold


def test_decisions_that_flip_are_fitted_again(
    cascade, blobs, tmp_path, monkeypatch
):
    """A conversion that shifts every score by a constant."""
    data = blobs(200)
    cascade.calibrate(data, kc.MaxDelegationRate(0.3))
    before = cascade.threshold
    run, write, written = StudentInterpreter.run, TFLiteStudent.write, []

    def recorded(self, path, threshold):
        written.append(np.float32(threshold))
        return write(self, path, threshold)

    def shifted(self, inputs):
        outputs = run(self, inputs)
        score = outputs["score"] / 2
        return {**outputs, "score": score, "delegate": ~(score >= written[-1])}

    monkeypatch.setattr(TFLiteStudent, "write", recorded)
    monkeypatch.setattr(StudentInterpreter, "run", shifted)
    bundle = cascade.export(tmp_path / "bundle")
    point = bundle.operating_point()
    assert len(written) == 2
    assert point["threshold"] == pytest.approx(before / 2, rel=1e-4)
    assert point["delegation_rate"] == pytest.approx(0.3)
    assert cascade.threshold == before


def test_training_again_needs_calibrating_again(cascade, blobs, tmp_path):
    held_out = blobs(200)
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.2))
    cascade.fit(*blobs(256, seed=4), epochs=3, verbose=0)
    assert cascade.operating_point is None
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        bundle = cascade.export(tmp_path / "bundle", calibration_data=held_out)
    assert "Call `calibrate` again" in str(warned[0].message)
    assert bundle.operating_point()["objective"] is None
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.2))
    cascade.threshold = 0.9
    assert cascade.operating_point is None
    # Who sets a threshold by hand knows that nothing is guaranteed.
    cascade.export(tmp_path / "by_hand", calibration_data=held_out)


def test_an_objective_is_met_on_the_file_for_the_data_given(
    cascade, blobs, tmp_path
):
    cascade.calibrate(blobs(200), kc.MaxDelegationRate(0.2))
    keras_threshold = cascade.threshold
    other = blobs(300, seed=21)
    bundle = cascade.export(tmp_path / "bundle", calibration_data=other)
    point = bundle.operating_point()
    assert 0.19 <= point["delegation_rate"] <= 0.2
    file = StudentInterpreter(bundle.student_file)
    found = file.run({"input": other[0]})["delegate"].mean()
    assert found == pytest.approx(point["delegation_rate"])
    assert cascade.threshold == keras_threshold


def test_training_data_is_refused(cascade, blobs, tmp_path):
    data = blobs(128, seed=4)
    cascade.fit(*data, verbose=0)
    with pytest.raises(ValueError, match="with the training set"):
        cascade.export(tmp_path / "bundle", calibration_data=data)
    assert list(tmp_path.iterdir()) == []
    cascade.export(
        tmp_path / "bundle", calibration_data=data, allow_training_data=True
    )


def test_a_file_that_answers_otherwise_is_not_kept(
    cascade, blobs, tmp_path, monkeypatch
):
    run = StudentInterpreter.run

    def wrong(self, inputs):
        outputs = run(self, inputs)
        outputs["probabilities"] = outputs["probabilities"][:, ::-1]
        return outputs

    monkeypatch.setattr(StudentInterpreter, "run", wrong)
    with pytest.raises(ExportError, match="does not answer as Keras does"):
        cascade.export(tmp_path / "bundle", calibration_data=blobs(60))
    assert list(tmp_path.iterdir()) == []


def test_operations_that_no_interpreter_runs_are_refused(
    dense_model, blobs, tmp_path
):
    @keras.saving.register_keras_serializable("tests")
    class Roll(keras.layers.Layer):
        def call(self, inputs):
            return keras.ops.roll(inputs, 1, axis=1)

    student = keras.Sequential(
        [keras.Input((6,)), Roll(), keras.layers.Dense(4)]
    )
    cascade = kc.Cascade(dense_model(8), student)
    with pytest.raises(
        ExportError, match=r"Not built in: Roll \(in 'roll' \(Roll\)\)\. "
    ):
        cascade.export(tmp_path / "bundle", calibration_data=blobs(60))
    assert list(tmp_path.iterdir()) == []


def test_the_student_alone(cascade, blobs, tmp_path):
    x, _ = blobs(10)
    cascade.prepare(x)
    cascade.export(tmp_path / "s.tflite", format="litert")
    found = StudentInterpreter(tmp_path / "s.tflite").run({"input": x})
    expected = cascade.student.predict(x, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(
        found["probabilities"].argmax(axis=1), expected
    )


def test_bad_arguments(cascade, blobs, tmp_path):
    with pytest.raises(ValueError, match="Received neither"):
        cascade.export(tmp_path / "bundle")
    with pytest.raises(ValueError, match="Expected 4 class names"):
        cascade.export(
            tmp_path / "bundle",
            calibration_data=blobs(60),
            class_names=["a"],
        )
    with pytest.raises(ValueError, match="Received: 'onyx'"):
        cascade.export(tmp_path / "bundle", format="onyx")
    with pytest.raises(ValueError, match=r"ends in '\.tflite'"):
        student_export.export_student(cascade, "x.bin", blobs(4)[0])
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        cascade.export(tmp_path / "kept", calibration_data=blobs(60))
    assert (tmp_path / "kept" / "file").read_text() == "mine"


def test_the_manifest_fits_its_published_schema(bundle):
    schema_file = kc.bundle.manifest.__file__.replace(
        "manifest.py", "manifest.schema.json"
    )
    with open(schema_file, encoding="utf-8") as stream:
        required = json.load(stream)["required"]
    assert set(required) <= set(bundle.manifest)


def test_a_file_that_litert_does_not_open(tmp_path):
    file = tmp_path / "student.tflite"
    file.write_bytes(b"TFL3" * 100)
    with pytest.raises(ExportError, match="LiteRT cannot open the exported"):
        open_tflite(file)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("a", "b", "c"), ["a", "b", "c"]),
        ({0: "a", 1: "b", 2: "c"}, ["a", "b", "c"]),
        ({"c": 2, "a": 0, "b": 1}, ["a", "b", "c"]),
        (np.array(["a", "b", "c"]), ["a", "b", "c"]),
        (None, ["0", "1", "2"]),
        ("abc", "as a list of 3 names"),
        (["a", "a", "b"], "Received more than once: .'a'"),
        ({0: "a", 1: "b"}, "a name for every number from 0 to 2"),
        ({"a": 0, "b": 1, "c": 1}, "a name for every number from 0 to 2"),
        (["a", "b"], "Expected 3 class names"),
    ],
)
def test_class_names_in_every_form(given, expected):
    from keras_cascade.export.bundle_export import _checked_names

    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            _checked_names(given, 3)
    else:
        assert _checked_names(given, 3) == expected


def test_reshuffled_and_random_calibration_data(cascade, blobs, tmp_path):
    x, y = blobs(96, seed=5)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96).batch(20)
    objective = kc.MaxDelegationRate(0.5, tolerance=0.5)
    cascade.calibrate(data, objective)
    cascade.export(tmp_path / "shuffled")
    noisy = data.map(lambda a, b: (a + tf.random.normal(tf.shape(a)), b))
    cascade.calibrate(noisy, objective)
    with pytest.raises(kc.errors.ExportError, match="same examples at every"):
        cascade.export(tmp_path / "noisy")


def test_names_given_to_export_are_known_afterwards(cascade, blobs, tmp_path):
    names = ["zebra", "cat", "dog", "ant"]  # in no order of the alphabet
    x, y = blobs(100, seed=3)
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.3))
    expected = cascade.judge((x, y)).student_correct
    cascade.export(tmp_path / "b", class_names=names)
    found = cascade.judge((x, np.array(names)[y])).student_correct
    np.testing.assert_array_equal(found, expected)
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.data_record.class_names == names

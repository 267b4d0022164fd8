"""ONNX files against Keras, in onnxruntime."""

import keras
import numpy as np
import onnxruntime
import pytest

import keras_cascade as kc
from keras_cascade.export import ExportError
from tests.helpers.gate_gauntlet import each_gate


def run(file, **inputs):
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def pair(activation=None):
    return [
        keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(units, activation=activation),
                keras.layers.Dense(4),
            ]
        )
        for units in (16, 5)
    ]


def test_student_and_teacher(tmp_path, blobs):
    cascade = kc.Cascade(*pair("tanh"))
    x = blobs(90)[0]
    expected = cascade.predict(x, verbose=0)
    file = tmp_path / "student.onnx"
    cascade.export(file, format="onnx")
    for rows in (1, 3, 90):
        found = run(file, input=x[:rows])
        assert set(found) == {"probabilities", "score", "delegate"}
        np.testing.assert_allclose(
            found["score"], expected["score"][:rows], atol=1e-5
        )
        np.testing.assert_array_equal(
            found["delegate"], found["score"] < np.float32(cascade.threshold)
        )
    cascade.export(tmp_path / "teacher.onnx", format="onnx", part="teacher")
    found = run(tmp_path / "teacher.onnx", input=x)
    np.testing.assert_allclose(
        found["logits"], cascade.teacher.predict(x, verbose=0), atol=1e-5
    )
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "student.onnx", "teacher.onnx",
    ]  # fmt: skip


def exact_gelu(x):
    return keras.activations.gelu(x, approximate=False)


def test_exact_gelu(tmp_path, blobs):
    # tf2onnx has no Erfc: by itself it writes a file that cannot be opened.
    cascade = kc.Cascade(*pair(exact_gelu))
    x = blobs(70)[0]
    cascade.predict(x, verbose=0)
    cascade.export(tmp_path / "t.onnx", format="onnx", part="teacher")
    np.testing.assert_allclose(
        run(tmp_path / "t.onnx", input=x)["logits"],
        cascade.teacher.predict(x, verbose=0),
        atol=1e-5,
    )


def test_named_inputs(tmp_path):
    def model(units):
        inputs = {n: keras.Input((3,), name=n) for n in ("left", "right")}
        joined = keras.layers.Concatenate()(list(inputs.values()))
        x = keras.layers.Dense(units, activation="relu")(joined)
        return keras.Model(inputs, keras.layers.Dense(4)(x))

    cascade = kc.Cascade(model(8), model(3))
    x = {
        name: np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
        for name in ("left", "right")
    }
    expected = cascade.predict(x, verbose=0)
    cascade.export(tmp_path / "s.onnx", format="onnx")
    found = run(tmp_path / "s.onnx", **x)
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)


@each_gate
def test_every_gate(make, reference, tmp_path):
    gate, classes, distillation = make(), 5, "standard"
    if isinstance(gate, kc.gates.AbstainGate):
        classes = 7
        distillation = kc.distillation.AbstainDistillation([0, 1, 3, 6])
    teacher, student = (
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)])
        for units in (classes, 5)
    )
    cascade = kc.Cascade(teacher, student, distillation, gate)
    x = np.random.default_rng(1).normal(size=(60, 6)).astype("float32")
    expected = cascade.predict(x, verbose=0)
    gate.threshold = float(np.median(expected["score"]))
    if not getattr(gate, "fitted", True):
        with pytest.raises(ValueError, match="must be fitted"):
            cascade.export(tmp_path / "s.onnx", format="onnx")
        return
    cascade.export(tmp_path / "s.onnx", format="onnx")
    found = run(tmp_path / "s.onnx", input=x)
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-4)


def test_a_file_that_answers_otherwise_is_not_kept(
    tmp_path, blobs, monkeypatch
):
    cascade = kc.Cascade(*pair())
    cascade.predict(blobs(10)[0], verbose=0)
    file = tmp_path / "s.onnx"
    file.write_bytes(b"before")
    ask = onnxruntime.InferenceSession.run

    def wrong(self, names, inputs):
        return [
            answer + 1 if answer.dtype != bool else answer
            for answer in ask(self, names, inputs)
        ]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", wrong)
    with pytest.raises(ExportError, match="does not answer as Keras"):
        cascade.export(file, format="onnx")
    assert file.read_bytes() == b"before"
    assert [f.name for f in tmp_path.iterdir()] == ["s.onnx"]


def test_bad_arguments(tmp_path, blobs):
    cascade = kc.Cascade(*pair())
    with pytest.raises(ValueError, match="has seen none yet"):
        cascade.export(tmp_path / "s.onnx", format="onnx")
    cascade.predict(blobs(4)[0], verbose=0)
    with pytest.raises(ValueError, match=r"ends in '\.onnx'"):
        cascade.export(tmp_path / "s.tflite", format="onnx")
    with pytest.raises(ValueError, match="'student' or 'teacher'"):
        cascade.export(tmp_path / "s.onnx", format="onnx", part="gate")

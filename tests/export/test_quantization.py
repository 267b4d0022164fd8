"""Quantized students: smaller, run, and scored on their own scores."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

import keras_cascade as kc
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.export import ExportError, quantization
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.runtime import StudentInterpreter

MODES = ("float16", "dynamic", "int8")


def conv_student(outputs=5):
    """Separable convolutions with BatchNormalization, as MobileNet has."""
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.Conv2D(8, 1, activation="relu")(y)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.Add()([x, y]))
    x = layers.Dense(96, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(outputs)(x))


def text_student(outputs=5):
    inputs = keras.Input((9,), dtype="int32")
    x = layers.Embedding(300, 32)(inputs)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    x = layers.Dense(32, activation="gelu")(x)
    return keras.Model(inputs, layers.Dense(outputs)(x))


def images(rows):
    rng = np.random.default_rng(5)
    return rng.random((rows, 12, 12, 1)).astype("float32")


def tokens(rows):
    rng = np.random.default_rng(5)
    return rng.integers(0, 300, (rows, 9)).astype("int32")


def learned_on_features():
    return kc.gates.LearnedGate(["pool"], hidden_units=4)


CASES = {
    "conv-margin": (conv_student, images, kc.gates.MarginGate, 5),
    "conv-class": (conv_student, images, lambda: kc.gates.ClassGate([0, 3]), 5),
    "conv-learned": (conv_student, images, learned_on_features, 5),
    "text-margin": (text_student, tokens, kc.gates.MarginGate, 5),
    "text-learned": (text_student, tokens, learned_on_features, 5),
    "conv-abstain": (
        conv_student, images, lambda: kc.gates.AbstainGate([0, 1, 3, 6]), 7,
    ),
}  # fmt: skip


def fitted(gate, outputs, features):
    """A learned gate whose head was fitted on made-up successes."""
    rng = np.random.default_rng(0)
    rows, pooled = len(outputs), features["pool"][:, 0]
    results = kc.evaluation.ExampleResults(
        scores=np.zeros(rows),
        student_correct=pooled > np.median(pooled),
        teacher_correct=rng.random(rows) < 0.8,
        student_outputs=outputs,
        features=features,
    )  # fmt: skip
    return gate.fit(results)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    make_student, draw, make_gate, classes = CASES[request.param]
    keras.utils.set_random_seed(1)
    student, gate, x = make_student(), make_gate(), draw(200)
    # Statistics of real activations, as a trained student has them.
    student(x, training=True)
    keeping = kc.gates.StudentWithGate(student, gate, classes, True)
    kept = keeping.predict(x, verbose=0)
    if "learned" in request.param:
        fitted(gate, kept["student_outputs"], kept["features"])
    model = kc.gates.StudentWithGate(student, gate, classes)
    expected = model.predict(x, verbose=0)
    gate.threshold = float(np.median(expected["score"]))
    return model, x, model.predict(x, verbose=0)


def runner(content, folder):
    (folder / "student.tflite").write_bytes(content)
    return StudentInterpreter(folder / "student.tflite")


@pytest.mark.parametrize("mode", MODES)
def test_every_gate_on_every_quantized_student(case, mode, tmp_path):
    model, x, expected = case
    some = quantization.representative_inputs(LabelledData(x), count=100)
    file = TFLiteStudent(model, x[:4], mode, some)
    threshold = model.gate.threshold
    content = file.convert(threshold)
    student = runner(content, tmp_path)
    found = student.run({"input": x})
    for name in ("probabilities", "score", "delegate"):
        assert found[name].shape == expected[name].shape
        assert found[name].dtype == expected[name].dtype
    limit = 2e-3 if mode == "float16" else 0.1
    gap = np.abs(found["probabilities"] - expected["probabilities"]).max()
    assert 0 < gap < limit
    for size in (1, 2, 7, 64):
        parts = [
            student.run({"input": x[i : i + size]})
            for i in range(0, len(x), size)
        ]
        for name, whole in found.items():
            joined = np.concatenate([part[name] for part in parts])
            np.testing.assert_allclose(joined, whole, atol=1e-5)
    # Another threshold moves decisions and not one bit of a score.
    np.testing.assert_array_equal(
        found["delegate"], found["score"] < np.float32(threshold)
    )
    other = float(np.quantile(found["score"], 0.2))
    again = runner(file.convert(other), tmp_path).run({"input": x})
    np.testing.assert_array_equal(again["score"], found["score"])
    np.testing.assert_array_equal(
        again["delegate"], found["score"] < np.float32(other)
    )
    assert model.gate.threshold == threshold
    whole = TFLiteStudent(model, x[:4]).convert(threshold)
    assert len(content) < 0.9 * len(whole)


def types_in(content):
    """`(input types of the file, {operation: types of its first inputs})`."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    names = {v: k for k, v in vars(schema.TensorType).items()}
    operations = {v: k for k, v in vars(schema.BuiltinOperator).items()}
    found = {}
    for operator in graph.operators:
        if not len(operator.inputs):  # a lookup table
            continue
        code = model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        first = graph.tensors[operator.inputs[0]].type
        found.setdefault(operations[number], set()).add(names[first])
    return [names[graph.tensors[i].type] for i in graph.inputs], found


def test_int8_computes_in_int8_and_its_gate_in_float(tmp_path):
    x = images(100)
    student = conv_student()
    student(x, training=True)
    model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    model(x)
    some = quantization.representative_inputs(LabelledData(x))
    inputs, found = types_in(TFLiteStudent(model, x, "int8", some).convert(0.1))
    assert inputs == ["FLOAT32"]
    assert found["CONV_2D"] == found["FULLY_CONNECTED"] == {"INT8"}
    assert found["SOFTMAX"] == found["REDUCE_MAX"] == {"FLOAT32"}


def test_integer_inputs_stay_integers():
    x = tokens(100)
    model = kc.gates.StudentWithGate(text_student(), kc.gates.MarginGate())
    model(x)
    some = quantization.representative_inputs(LabelledData(x))
    inputs, found = types_in(TFLiteStudent(model, x, "int8", some).convert(0.1))
    assert inputs == ["INT32"]
    assert found["FULLY_CONNECTED"] == {"INT8"}


def test_strings_stay_strings():
    words = np.array(list("abc"))
    x = words[np.random.default_rng(0).integers(0, 3, (60, 5))]
    inputs = keras.Input((5,), dtype="string")
    numbers = layers.StringLookup(vocabulary=words)(inputs)
    found = layers.Flatten()(layers.Embedding(4, 64)(numbers))
    student = keras.Model(inputs, layers.Dense(4)(found))
    model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    model(keras.ops.convert_to_tensor(x))
    with pytest.raises(ExportError, match="Received: strings in \\['input'\\]"):
        TFLiteStudent(model, x, "int8", [x[:1]])
    content = TFLiteStudent(model, x, "dynamic").convert(0.5)
    types, _ = types_in(content)
    assert types == ["STRING"]
    interpreter = Interpreter(model_content=content)
    run = interpreter.get_signature_runner("serving_default")
    np.testing.assert_allclose(
        run(input=x.astype(bytes))["probabilities"],
        model(keras.ops.convert_to_tensor(x))["probabilities"],
        atol=0.02,
    )


def test_weights_lie_where_an_interpreter_may_map_them():
    x = images(4)
    model = kc.gates.StudentWithGate(conv_student(), kc.gates.MarginGate())
    model(x)
    content = TFLiteStudent(model, x).convert(0.5)
    start = np.frombuffer(content, "uint8").ctypes.data
    file = schema.Model.GetRootAs(content, 0)
    buffers = [file.Buffers(i) for i in range(file.BuffersLength())]
    offsets = [
        buffer.DataAsNumpy().ctypes.data - start
        for buffer in buffers
        if not buffer.DataIsNone()
    ]
    assert len(offsets) > 5
    assert all(offset % 16 == 0 for offset in offsets)


def test_representative_inputs_are_a_sample_of_all_rows():
    x = np.arange(1000)
    one = quantization.representative_inputs(LabelledData(x), count=50)
    rows = np.concatenate(one)
    assert len(set(rows)) == 50
    # The mean of 50 draws without replacement out of 0..999 has a standard
    # deviation of 288.8 * sqrt(0.95 / 50) = 39.8.
    assert abs(rows.mean() - 499.5) < 4 * 39.8
    again = quantization.representative_inputs(LabelledData(x), count=50)
    np.testing.assert_array_equal(np.concatenate(again), rows)
    few = quantization.representative_inputs(LabelledData(x[:7]), count=50)
    assert sorted(np.concatenate(few)) == list(range(7))
    batches = [
        ({"a": x[i : i + 3], "b": x[i : i + 3]},) for i in range(0, 9, 3)
    ]
    named = quantization.representative_inputs(LabelledData(iter(batches)))
    assert [int(one["b"][0]) for one in named] == list(range(9))


def test_an_unknown_mode_is_refused(cascade, blobs, tmp_path):
    with pytest.raises(ValueError, match="'dynamic', 'int8', 'int4', 'qat'"):
        cascade.export(
            tmp_path / "b", calibration_data=blobs(60), quantization="int2"
        )
    with pytest.raises(ValueError, match="Received: 'int2'"):
        cascade.export(
            tmp_path / "s.tflite", format="litert", quantization="int2"
        )
    assert list(tmp_path.iterdir()) == []


def test_int8_without_calibration_data(cascade, blobs, tmp_path):
    cascade.prepare(blobs(10)[0])
    with pytest.raises(ValueError, match="Received neither"):
        cascade.export(tmp_path / "b", quantization="int8")
    with pytest.raises(ValueError, match="ranges of an int8 student's"):
        cascade.export(
            tmp_path / "s.tflite", format="litert", quantization="int8"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_calibrated_threshold_is_not_put_on_other_scores_unseen(
    cascade, blobs, tmp_path
):
    held_out = blobs(200)
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.3))
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    path = tmp_path / "s.tflite"
    with pytest.raises(ValueError, match="fitted on its own scores"):
        loaded.export(
            path, "litert", example_inputs=held_out[0], quantization="dynamic"
        )
    assert not path.exists()
    loaded.export(
        path, "litert", calibration_data=held_out, quantization="int8"
    )
    rate = StudentInterpreter(path).run({"input": held_out[0]})["delegate"]
    assert rate.mean() <= 0.3
    assert sorted(tmp_path.iterdir()) == [tmp_path / "c.keras", path]


def test_one_that_trains_needs_examples_to_train_on(cascade, blobs, tmp_path):
    with pytest.raises(ValueError, match="Expected `training_data`"):
        cascade.export(
            tmp_path / "b", calibration_data=blobs(60), quantization="qat"
        )
    assert list(tmp_path.iterdir()) == []

"""Student files of one row, which every runtime takes."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.export.portable_file import portable
from keras_cascade.export.tflite_file import operations, read
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.gates import MarginGate, StudentWithGate
from tests.helpers.gate_gauntlet import margin

RNG = np.random.default_rng(0)
IMAGES = RNG.random((16, 12, 12, 1)).astype("float32")


class Copies(layers.Layer):
    """Appends the same numbers to every row: as many as there are rows."""

    def call(self, x):
        numbers = ops.reshape(ops.arange(3, dtype="float32"), (1, 3))
        copies = ops.broadcast_to(numbers, (ops.shape(x)[0], 3))
        return ops.concatenate([x, copies], axis=-1)


def convnet():
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def attention():
    x = inputs = keras.Input((12, 12, 1))
    x = layers.Reshape((12, 12))(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    return keras.Model(
        inputs, layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    )


def recurrent():
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Reshape((12, 12)),
            layers.GRU(4),
            layers.Dense(5),
        ]
    )


def copying():
    return keras.Sequential(
        [keras.Input((12, 12, 1)), layers.Flatten(), Copies(), layers.Dense(5)]
    )


def files(make, quantization="float32"):
    """A student's file for any number of rows, and its portable one."""
    keras.utils.set_random_seed(0)
    model = StudentWithGate(make(), MarginGate(threshold=0.05))
    artifact = TFLiteStudent(model, IMAGES[:4], quantization, [IMAGES])
    whole = artifact._linked(0.05)
    return whole, *portable(whole, {"input": IMAGES.shape[1:]}), model


def answers(content, x):
    run = Interpreter(model_content=content).get_signature_runner()
    return run(input=x)


def tensors(content):
    model = read(content)
    return [one for graph in model.subgraphs for one in graph.tensors]


@pytest.mark.parametrize("quantization", ["float32", "float16", "int8"])
@pytest.mark.parametrize("make", [convnet, attention, recurrent, copying])
def test_a_row_has_the_same_answer_bit_by_bit(make, quantization):
    whole, content, resizable, _ = files(make, quantization)
    for row in range(4):
        expected = answers(whole, IMAGES[row : row + 1])
        found = answers(content, IMAGES[row : row + 1])
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    if resizable:
        expected, found = answers(whole, IMAGES), answers(content, IMAGES)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize(
    "make,resizable",
    [(convnet, True), (attention, True), (copying, False)],
)
def test_where_the_number_of_rows_is_free(make, resizable):
    assert files(make)[2] == resizable


@pytest.mark.parametrize("make", [convnet, attention, recurrent, copying])
def test_every_size_is_fixed_and_every_name_is_its_own(make):
    whole, content, _, _ = files(make)
    every = tensors(content)
    assert all(one.shapeSignature is None for one in every)
    names = [one.name for one in every]
    assert len(set(names)) == len(names)
    assert "SHAPE" not in operations(content)[0]
    assert "TOPK_V2" not in operations(content)[0]
    assert len(content) <= len(whole)
    run = Interpreter(model_content=content).get_signature_runner()
    found = {
        name: (one["dtype"], one["shape"].tolist())
        for name, one in run.get_output_details().items()
    }
    assert found == {
        "probabilities": (np.float32, [1, 5]),
        "score": (np.float32, [1]),
        "delegate": (np.int32, [1]),
    }


def test_weights_of_16_bits_stay_so():
    whole, content, _, _ = files(convnet, "float16")
    stored = schema.TensorType.FLOAT16
    sizes = [
        sorted(np.prod(one.shape) for one in tensors(c) if one.type == stored)
        for c in (whole, content)
    ]
    assert sizes[0] == sizes[1] != []


@pytest.mark.parametrize("free", [False, True])
def test_a_bundle_has_a_second_file_where_the_first_is_for_one_row(
    free, tmp_path
):
    keras.utils.set_random_seed(1)
    x = 3 * RNG.normal(size=(60, 12, 12, 1)).astype("float32")
    y = np.arange(60) % 5
    student = copying()
    if free:
        student = keras.Sequential(
            [
                keras.Input((None, None, 1)),
                layers.Conv2D(4, 3),
                layers.GlobalMaxPooling2D(),
                layers.Dense(5),
            ]
        )
    cascade = kc.Cascade(copying() if not free else student, student)
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5))
    bundle = cascade.export(tmp_path / "b")
    entry = bundle.manifest["student"]
    assert bundle.manifest["minor_version"] == 2
    assert entry["batch"]["file"] == "student_batch.tflite"
    assert entry["batch"]["max_score_difference"] < 1e-5
    assert entry.get("sizes") == ({"input": [12, 12, 1]} if free else None)
    assert bundle.batch_student_file.name == "student_batch.tflite"
    expected = ops.convert_to_numpy(ops.softmax(student(x)))
    with kc.runtime.EdgeCascade.load(bundle.path) as edge:
        for rows in (1, 7, 60):
            found = edge.predict_alone(x[:rows]).probabilities
            np.testing.assert_allclose(found, expected[:rows], atol=1e-5)
    alone = answers(bundle.student_file.read_bytes(), x[:1])
    np.testing.assert_allclose(alone["probabilities"], expected[:1], atol=1e-5)
    bundle.batch_student_file.unlink()
    with pytest.raises(kc.bundle.BundleError, match="student_batch"):
        kc.bundle.Bundle.load(bundle.path)


def test_one_file_where_it_can_be_resized(tmp_path):
    x = RNG.normal(size=(60, 12, 12, 1)).astype("float32")
    cascade = kc.Cascade(convnet(), convnet())
    cascade.calibrate((x, np.arange(60) % 5), kc.MaxDelegationRate(0.5))
    file = tmp_path / "s.tflite"
    (tmp_path / "s_batch.tflite").write_bytes(b"of an earlier export")
    cascade.export(file, format="litert", example_inputs=x)
    assert [one.name for one in tmp_path.iterdir()] == ["s.tflite"]


def test_margins_without_top_k():
    logits = np.round(3 * RNG.normal(size=(500, 4))).astype("float32")
    logits[0] = [2, 2, 1, 0]
    logits[1] = [2, 2, 2, 2]
    found = ops.convert_to_numpy(MarginGate()(ops.array(logits)))
    np.testing.assert_allclose(found, margin(logits), atol=1e-6)
    ordered = np.sort(logits, axis=1)
    ties = ordered[:, -1] == ordered[:, -2]
    assert ties.sum() > 20
    np.testing.assert_array_equal(found == 0, ties)

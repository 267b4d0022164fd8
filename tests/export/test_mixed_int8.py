"""Layers in float among others in int8, and the error that names them."""

import re

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers

import keras_cascade as kc
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.errors import ExportError
from keras_cascade.export.quantization import representative_inputs
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.gates import MarginGate, StudentWithGate
from keras_cascade.runtime import StudentInterpreter

ROWS = 200


def wide_student(sizes=()):
    """A student of which 8 bits cannot hold one layer's outputs.

    Beside four features of the inputs, layer 'wide' puts out a fifth that is
    thousands of times as large and that nothing reads: in 8 bits a step of its
    outputs is many times the size of the four.

    Args:
        sizes: tuple, `(None, None)` for images of any size. Defaults to `()`.
    """
    inputs = keras.Input((*sizes, 4))
    x = layers.GlobalAveragePooling2D()(inputs) if sizes else inputs
    x = layers.Dense(6, activation="relu", name="first")(x)
    x = layers.Dense(5, name="wide")(x)
    head = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="relu", name="reader"),
            layers.Dense(3, name="last"),
        ],
        name="head",
    )
    model = keras.Model(inputs, head(x))
    kernel, bias = model.get_layer("wide").get_weights()
    kernel[:, 4] = 3e3
    model.get_layer("wide").set_weights([kernel, bias])
    kernel, bias = head.get_layer("reader").get_weights()
    kernel[4] = 0.0
    head.get_layer("reader").set_weights([kernel, bias])
    kernel, bias = head.get_layer("last").get_weights()
    head.get_layer("last").set_weights([8.0 * kernel, bias])
    return model


@pytest.fixture(scope="module")
def case():
    """The student with its gate, and inputs."""
    keras.utils.set_random_seed(4)
    x = np.random.default_rng(0).normal(size=(ROWS, 4)).astype("float32")
    student = wide_student()
    return StudentWithGate(student, MarginGate(), 3), x


def artifact(case, float_layers=()):
    model, x = case
    some = representative_inputs(LabelledData(x), count=100)
    return TFLiteStudent(model, x[:4], "int8", some, float_layers=float_layers)


def distance(case, made, folder):
    """Mean over the rows of half the sum of the differences."""
    model, x = case
    (folder / "s.tflite").write_bytes(made.convert(0.5))
    found = StudentInterpreter(folder / "s.tflite").run({"input": x})
    expected = model.predict(x, verbose=0)["probabilities"]
    return np.abs(found["probabilities"] - expected).sum(axis=1).mean() / 2


def kernel_types(content):
    """Dict of kernel shape to the name of its type."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {v: k for k, v in vars(schema.TensorType).items()}
    shapes = {(6, 4): "first", (5, 6): "wide", (6, 5): "reader", (3, 6): "last"}
    return {
        shapes[tuple(one.shape)]: names[one.type]
        for one in model.subgraphs[0].tensors
        if one.shape is not None
        and tuple(one.shape) in shapes
        and model.buffers[one.buffer].data is not None
    }


def test_the_advice_names_the_layers_and_works(case, tmp_path):
    whole = artifact(case)
    assert distance(case, whole, tmp_path) > 0.2
    text = whole.advice(0.2)
    worst = text.split(". ")[0]
    assert "'wide' by" in worst and "'reader' by" in worst
    # The others lose hardly anything: they are not among what helps.
    names = re.search(r"`float_layers=(\[.*?\])`", text)[1]
    assert sorted(eval(names)) == ["reader", "wide"]
    mixed = artifact(case, eval(names))
    assert distance(case, mixed, tmp_path) < 0.1
    assert kernel_types(mixed.convert(0.5)) == {
        "first": "INT8", "wide": "FLOAT32", "reader": "FLOAT32",
        "last": "INT8",
    }  # fmt: skip
    assert mixed.describe()["left_in_float"] == [
        {"layer": name, "why": "asked for"} for name in eval(names)
    ]


def test_the_advice_for_images_of_any_size(tmp_path):
    """The layers are measured at the sizes that the data has."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    cast = rng.normal(size=(ROWS, 1, 1, 4))
    x = np.broadcast_to(cast, (ROWS, 5, 3, 4)).astype("float32")
    model = StudentWithGate(wide_student((None, None)), MarginGate(), 3)
    some = representative_inputs(LabelledData(x), count=100)
    signature = Signature(x[:4], (model.student,))
    assert signature.describe()[0]["shape"] == [None, None, None, 4]

    def made(float_layers=()):
        return TFLiteStudent(
            model, x[:4], "int8", some, signature, float_layers
        )  # fmt: skip

    text = made().advice(0.2)
    names = re.search(r"`float_layers=(\[.*?\])`", text)[1]
    assert sorted(eval(names)) == ["reader", "wide"]
    (tmp_path / "s.tflite").write_bytes(made(eval(names)).convert(0.5))
    run = StudentInterpreter(tmp_path / "s.tflite").run
    expected = model.predict(cast.astype("float32"), verbose=0)["probabilities"]
    for sizes in ((5, 3), (1, 1), (9, 4)):
        larger = np.broadcast_to(cast, (ROWS, *sizes, 4)).astype("float32")
        found = run({"input": larger})["probabilities"]
        assert np.abs(found - expected).sum(axis=1).mean() / 2 < 0.1


def test_a_models_name_is_all_of_its_layers(case, tmp_path):
    types = kernel_types(artifact(case, ["head"]).convert(0.5))
    assert types == {
        "first": "INT8", "wide": "INT8", "reader": "FLOAT32",
        "last": "FLOAT32",
    }  # fmt: skip
    with pytest.raises(
        ExportError, match=r"out of .*'first'.*'wide'.*Received: \['widest'\]"
    ):
        artifact(case, ["first", "widest"])


def test_a_bundle_from_refusal_to_file(tmp_path):
    """The error says what to pass, and the export then goes through."""
    keras.utils.set_random_seed(4)
    rng = np.random.default_rng(0)
    x, y = (
        rng.normal(size=(ROWS, 4)).astype("float32"),
        rng.integers(0, 3, ROWS),
    )
    teacher = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    cascade = kc.Cascade(teacher, wide_student())
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=1.0))
    with pytest.raises(ExportError, match="answer as Keras does") as caught:
        cascade.export(tmp_path / "bundle", quantization="int8")
    text = str(caught.value)
    assert "'dynamic'" in text and "more calibration examples" in text
    assert not list(tmp_path.iterdir())
    names = eval(re.search(r"`float_layers=(\[.*?\])`", text)[1])
    bundle = cascade.export(
        tmp_path / "bundle", quantization="int8", float_layers=names
    )
    entry = bundle.manifest["student"]
    assert [one["layer"] for one in entry["left_in_float"]] == names
    edge = kc.runtime.EdgeCascade.load(tmp_path / "bundle", teacher="local")
    expected = cascade.predict(x, verbose=0)["probabilities"]
    gap = np.abs(edge.predict(x).probabilities - expected).sum(axis=1).mean()
    assert gap / 2 < 0.1
    student = tmp_path / "s.tflite"
    cascade.export(
        student, format="litert", quantization="int8", float_layers=names
    )
    assert kernel_types(student.read_bytes())["wide"] == "FLOAT32"


@pytest.mark.parametrize("quantization", [None, "dynamic", "qat"])
def test_only_int8_leaves_layers_in_float(tmp_path, quantization):
    cascade = kc.Cascade(wide_student(), wide_student())
    with pytest.raises(ValueError, match="with quantization='int8'"):
        cascade.export(
            tmp_path / "bundle", quantization=quantization,
            float_layers=["wide"], calibration_data=(np.ones((4, 4)), [0] * 4),
        )  # fmt: skip

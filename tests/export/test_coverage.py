"""Exports and checks of the coverage table, on small models."""

import functools

import keras
import numpy as np
import pytest
import scipy.special
from keras import layers, ops

import keras_cascade as kc
from benchmarks.coverage import child_process
from benchmarks.coverage.artifacts import COLUMNS, Candidate
from benchmarks.coverage.inputs import give_varied_answers, images, tokens
from benchmarks.coverage.page import page
from benchmarks.coverage.zoo import ZOO, Entry
from keras_cascade.export import ExportError
from keras_cascade.export.converter_settings import ConverterSettings
from keras_cascade.export.onnx_export import convert_to_onnx
from keras_cascade.export.saved_model_functions import REPLACEMENTS
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_conversion import convert_to_tflite
from keras_cascade.export.tflite_file import operations
from keras_cascade.runtime import StudentInterpreter
from tests.helpers.answers_by_row import check_answers_by_row

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
ROOT_HALF = np.float32(np.sqrt(0.5))
SMALL_IMAGES = functools.partial(images, size=24, lowest=-1.0, highest=1.0)


def mobile_net_v3_block():
    """Hard activations, squeeze-and-excitation, operators, a residual."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    y = layers.Conv2D(16, 1, use_bias=False)(x)
    y = layers.Activation("hard_silu")(layers.BatchNormalization()(y))
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Conv2D(16, 1, activation="relu")(gate)
    gate = ops.relu6(layers.Conv2D(16, 1)(gate) + 3.0) * (1.0 / 6.0)
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(y * gate))
    x = layers.Flatten()(layers.MaxPooling2D(3)(layers.Add()([x, y])))
    return keras.Model(inputs, layers.Dense(10)(x))


def gelu_net():
    """Exact GELU as layers and users write it, and a plain error function."""
    inputs = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 3, strides=2, activation="gelu")(inputs)
    x = 0.5 * x * (1.0 + ops.erf(x * ROOT_HALF))
    x = layers.Flatten()(layers.MaxPooling2D(3)(x))
    x = ops.erf(layers.Dense(24)(x)) * 2.0
    return keras.Model(inputs, layers.Dense(10)(x))


def bert():
    """One block of KerasHub's Bert."""
    from keras_hub import models

    backbone = models.BertBackbone(
        vocabulary_size=300, num_layers=1, num_heads=2, hidden_dim=32,
        intermediate_dim=48, max_sequence_length=16,
    )  # fmt: skip
    return models.BertTextClassifier(backbone, 10, preprocessor=None)


SMALL = {
    "mobile_net_v3_block": Entry("", mobile_net_v3_block, SMALL_IMAGES),
    "gelu_net": Entry("", gelu_net, SMALL_IMAGES),
    "bert": Entry(
        "",
        bert,
        functools.partial(tokens, vocabulary=300, length=12, segments=True),
    ),
}
SHOWN = {
    "mobile_net_v3_block": ("TFLite float32", "TFLite int8", "ONNX student"),
    "gelu_net": ("TFLite float32", "TFLite int8", "ONNX student"),
    "bert": ("TFLite float32", "TFLite int8", "SavedModel", "ONNX teacher"),
}


def dense_net():
    inputs = keras.Input((24, 24, 3))
    x = layers.Flatten()(layers.AveragePooling2D(6)(inputs))
    return keras.Model(inputs, layers.Dense(10)(x))


@pytest.mark.parametrize("name", SMALL)
def test_every_file_of_small_models(name, tmp_path):
    candidate = Candidate(SMALL[name], tmp_path)
    found = {column: candidate.measure(column) for column in SHOWN[name]}
    whole = found["TFLite float32"]
    assert whole["batch_sizes"] == [1, 2, 7, 64]
    for column in set(found) - {"TFLite int8"}:
        assert found[column]["same_label"] == 1.0
        assert found[column]["max_difference"] < 1e-4
    assert found["TFLite int8"]["bytes"] < whole["bytes"]
    assert found["TFLite int8"]["mean_distance"] < candidate.spread / 2


def test_int8_texts_row_by_row(tmp_path):
    """Whole answers differ from Keras's by as much as the two models do, where
    a score lies so near the threshold that 8 bits decide otherwise."""
    draw = SMALL["bert"].draw
    models = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        models.append(bert())
        give_varied_answers(models[-1], draw(4, 128))
    cascade = kc.Cascade(*models)
    cascade.calibrate((draw(1, 100), np.arange(100) % 10), HALF)
    bundle = cascade.export(tmp_path / "b", quantization="int8")
    assert {len(one["shape"]) for one in bundle.inputs} == {2}
    for length in (12, 7):
        x = tokens(5, 60, vocabulary=300, length=length, segments=True)
        check_answers_by_row(cascade, bundle, x, 0.15)


def test_a_file_that_answers_otherwise_is_found(tmp_path, monkeypatch):
    candidate = Candidate(Entry("", dense_net, SMALL_IMAGES), tmp_path)
    run = StudentInterpreter.run

    def rolled(self, inputs):
        return {k: np.roll(v, 1, axis=0) for k, v in run(self, inputs).items()}

    monkeypatch.setattr(StudentInterpreter, "run", rolled)
    with pytest.raises(ValueError, match=r"differ .* up to [01]"):
        candidate.measure("TFLite float32")

    def not_a_number(self, inputs):
        answer = run(self, inputs)
        return {**answer, "score": answer["score"] * np.float32(np.nan)}

    monkeypatch.setattr(StudentInterpreter, "run", not_a_number)
    with pytest.raises(ValueError, match="'score' holds NaN"):
        candidate.measure("TFLite float32")


@pytest.mark.parametrize("name", ["Erf", "Erfc"])
def test_error_functions_against_scipy(name):
    x = np.linspace(-12, 12, 200_001).astype("float32")
    expected = getattr(scipy.special, name.lower())(x.astype("float64"))
    found = ops.convert_to_numpy(REPLACEMENTS[name](ops.convert_to_tensor(x)))
    assert np.abs(found - expected).max() <= 1e-6
    special = np.float32([-np.inf, 0.0, np.inf, np.nan])
    found = ops.convert_to_numpy(REPLACEMENTS[name](special))
    expected = getattr(scipy.special, name.lower())(special)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def tflite(function, folder):
    """Runs a function of 16 numbers as a TFLite file of its own."""
    from ai_edge_litert.interpreter import Interpreter

    inputs = keras.Input((16,))
    model = keras.Model(inputs, function(inputs))
    x = np.linspace(-6, 6, 64 * 16).reshape(64, 16).astype("float32")
    Signature(x).write_saved_model(folder, model, lambda y: {"y": y}, [model])

    content = convert_to_tflite(folder, ConverterSettings(), model)
    runner = Interpreter(model_content=content).get_signature_runner(
        "serving_default"
    )
    built_in, others = operations(content)
    assert others == []
    return x.astype("float64"), runner(input=x)["y"], built_in


def test_what_becomes_of_error_functions(tmp_path):
    def gelu(x):
        return 0.5 * x * (1 + scipy.special.erf(x / np.sqrt(2)))

    x, found, built_in = tflite(
        lambda x: ops.gelu(x, approximate=False), tmp_path / "a"
    )
    assert built_in == ["GELU"]
    np.testing.assert_allclose(found, gelu(x), atol=2e-6)
    x, found, built_in = tflite(ops.erf, tmp_path / "b")
    assert "EXP" in built_in
    np.testing.assert_allclose(found, scipy.special.erf(x), atol=1e-6)
    # One that is known as GELU stays so next to one that is not.
    x, found, built_in = tflite(
        lambda x: ops.gelu(ops.erf(x), approximate=False), tmp_path / "c"
    )
    assert {"EXP", "GELU"} <= set(built_in)
    np.testing.assert_allclose(found, gelu(scipy.special.erf(x)), atol=2e-6)
    with pytest.raises(ExportError, match="Erfinv"):
        tflite(lambda x: ops.erfinv(x / 10), tmp_path / "d")


class Positions(layers.Layer):
    """Holds a constant, as KerasHub's patch embeddings do."""

    def build(self, shape):
        self.table = layers.Embedding(shape[1], shape[2])
        self.numbers = ops.expand_dims(ops.arange(shape[1]), 0)
        self.built = True

    def call(self, x):
        return x + self.table(self.numbers)


def test_constants_and_grouped_convolutions_in_onnx(tmp_path):
    import onnxruntime

    inputs = keras.Input((6, 6, 4))
    x = layers.Conv2D(8, 3, groups=2)(inputs)
    x = layers.Conv2D(8, 3, groups=8)(x)
    x = layers.Flatten()(Positions()(layers.Reshape((4, 8))(x)))
    model = keras.Model(inputs, layers.Dense(3)(x))
    x = np.random.default_rng(0).normal(size=(7, 6, 6, 4)).astype("float32")
    file = tmp_path / "m.onnx"
    convert_to_onnx(model, file, x, Signature(x), lambda y: {"logits": y})
    session = onnxruntime.InferenceSession(file)
    assert [one.name for one in session.get_inputs()] == ["input"]
    assert [one.name for one in session.get_outputs()] == ["logits"]
    for rows in (1, 2, 7):
        (found,) = session.run(None, {"input": x[:rows]})
        np.testing.assert_allclose(found, model(x[:rows]), atol=1e-5)


def test_answers_vary_with_inputs():
    entry = SMALL["mobile_net_v3_block"]
    keras.utils.set_random_seed(0)
    model, x = entry.make(), entry.draw(0, 64)
    flat = model.predict_on_batch(x).std(axis=0).mean()
    give_varied_answers(model, x)
    logits = model.predict_on_batch(x)
    assert flat < 1.0
    np.testing.assert_allclose(logits.std(axis=0), 3.0, rtol=0.05)
    np.testing.assert_allclose(logits.mean(axis=0), 0.0, atol=0.05)


def test_a_crash_is_a_result(monkeypatch):
    """The child dies at the third column, and is started for the rest."""
    asked = []

    def run(name, file, columns, limit):
        asked.append(columns)
        lines = ['{"parameters": 5, "spread": 0.5}']
        for column in columns:
            if len(asked) == 1 and column == COLUMNS[2]:
                file.write_text("\n".join(lines), encoding="utf-8")
                return "The process ended with exit status -11: in /a/b/c.py"
            lines.append(f'{{"column": "{column}", "bytes": 7}}')
        file.write_text("\n".join(lines), encoding="utf-8")

    monkeypatch.setattr(child_process, "_run", run)
    found = child_process.measured("MobileNet")
    assert found["parameters"] == 5
    assert set(found["columns"]) == set(COLUMNS)
    assert found["columns"].pop(COLUMNS[2]) == {
        "refused": "crash",
        "why": "The process ended with exit status -11: in ...",
    }
    assert all(one == {"bytes": 7} for one in found["columns"].values())
    assert asked == [list(COLUMNS), list(COLUMNS[3:])]


def test_the_page_tells_why_not():
    measured = {
        "bytes": 500_000, "max_difference": 2e-6, "mean_distance": 0.01,
        "same_label": 0.5,
    }  # fmt: skip
    columns = {column: dict(measured) for column in COLUMNS}
    columns["TFLite float32"]["bytes"] = 2_000_000
    refused = {"refused": "ExportError", "why": "Layer 'a' ..."}
    columns["TFLite QAT"] = refused
    columns["SavedModel"]["date"] = "2026-01-02"
    text = page(
        {
            "models": {
                "one": {"parameters": 1234, "spread": 0.7, "columns": columns},
                "two": {"columns": dict.fromkeys(COLUMNS, refused)},
            },
            "batch_sizes": [1, 2], "date": "2026-01-01",
            "versions": {"keras": "3"}, "limits": {"8 bits": 0.2},
        }
    )  # fmt: skip
    lines = text.splitlines()
    assert (
        "| one | 1,234 | 2.0 MB | 0.25× | 0.25× | 0.25× | no [^1] | 0.5 MB "  # noqa: RUF001
        "| 0.5 MB | 0.5 MB |"
    ) in lines
    assert "| two |  | " + " | ".join(["no [^1]"] * 8) + " |" in lines
    assert lines.count("[^1]: Layer 'a' ...") == 1
    assert "Measured again: SavedModel of one on 2026-01-02." in lines
    assert (
        "| one | 0.70 | 2e-06 | 2e-06 | 0.010, 50 % | 0.010, 50 % |  | 2e-06 "
        "| 2e-06 | 2e-06 |"
    ) in lines


def test_the_zoo_has_what_users_expect():
    names = " ".join(ZOO)
    for expected in (
        "MobileNetV2", "MobileNetV3", "EfficientNet", "NASNetMobile",
        "ConvNeXt", "hub MobileNet", "hub ResNet", "hub ViT", "hub Bert",
        "hub DistilBert",
    ):  # fmt: skip
        assert expected in names

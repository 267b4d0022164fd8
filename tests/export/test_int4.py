"""Students whose weights have 4 bits."""

import importlib.util

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

import keras_cascade as kc
from keras_cascade.export import ExportError, int4_weights
from keras_cascade.export.embedding_lookups import with_embedding_lookups
from keras_cascade.export.tflite_file import (
    code_of,
    operations,
    read,
    write,
)
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.runtime import StudentInterpreter
from keras_cascade.runtime.compiled_student import CompiledStudent

TYPES = {v: k for k, v in vars(schema.TensorType).items()}


def image_student():
    inputs = keras.Input((12, 12, 1))
    x = layers.Conv2D(16, 3, activation="relu", name="first")(inputs)
    x = layers.DepthwiseConv2D(3, name="apart")(x)
    x = layers.Conv2D(32, 3, strides=2, activation="relu", name="second")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(40, activation="relu", name="whole")(x)
    x = layers.Dense(48, activation="relu", name="odd")(x)
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))


def text_student(width=48, length=9):
    inputs = keras.Input((length,), dtype="int32")
    x = layers.Embedding(300, width, name="words")(inputs)
    x = layers.Conv1D(24, 3, activation="relu", name="windows")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(5, name="logits")(x))


def images(rows):
    return np.random.default_rng(5).random((rows, 12, 12, 1), "float32")


def tokens(rows, length=9):
    draw = np.random.default_rng(5).integers(0, 300, (rows, length))
    return draw.astype("int32")


CASES = {"image": (image_student, images), "text": (text_student, tokens)}


class Case:
    """A student with its file in 4 bits."""

    def __init__(self, name, folder):
        make, draw = CASES[name]
        keras.utils.set_random_seed(1)
        self.x = draw(200)
        self.model = kc.gates.StudentWithGate(make(), kc.gates.MarginGate(), 5)
        self.expected = self.model.predict(self.x, verbose=0)
        self.threshold = float(np.median(self.expected["score"]))
        self.int4 = TFLiteStudent(self.model, self.x[:4], "int4")
        self.content = self.int4.convert(self.threshold)
        self.file = folder / "student.tflite"
        self.file.write_bytes(self.content)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return {name: Case(name, tmp_path_factory.mktemp(name)) for name in CASES}


@pytest.fixture(params=CASES)
def case(request, cases):
    return cases[request.param]


def weights(content):
    """Dict of shape to `(type, block size, values)` of constant tensors."""
    model = read(content)
    found = {}
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is None:
            continue
        details = tensor.quantization and tensor.quantization.details
        block = details.blockSize if details is not None else 0
        found[tuple(map(int, tensor.shape))] = (TYPES[tensor.type], block)
    return found


def test_answers_and_decisions_in_both_runtimes(case):
    student = StudentInterpreter(case.file)
    found = student.run({"input": case.x})
    gap = np.abs(found["probabilities"] - case.expected["probabilities"])
    assert 0 < gap.sum(axis=1).mean() / 2 < 0.05
    np.testing.assert_array_equal(
        found["delegate"], found["score"] < np.float32(case.threshold)
    )
    assert 0 < found["delegate"].sum() < len(case.x)
    # Another threshold leaves every score as it is, bit by bit.
    other = case.file.with_name("other.tflite")
    other.write_bytes(case.int4.convert(float(np.median(found["score"]))))
    again = StudentInterpreter(other).run({"input": case.x})
    np.testing.assert_array_equal(again["score"], found["score"])
    compiled = CompiledStudent(case.file)
    for row in range(20):
        one = {"input": case.x[row : row + 1]}
        for name, value in compiled.run(one).items():
            np.testing.assert_allclose(
                value, found[name][row : row + 1], atol=1e-5
            )


def test_kernels_without_xnnpack_answer_alike(case):
    """A runtime of its own kernels, as of a microcontroller's processor."""
    runner = Interpreter(
        model_content=case.content,
        experimental_op_resolver_type=(
            OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    ).get_signature_runner()
    found = runner(input=case.x)
    expected = StudentInterpreter(case.file).run({"input": case.x})
    gap = np.abs(found["score"] - expected["score"]).max()
    assert gap < 0.01


def test_the_file_is_portable_and_its_gate_in_float(case):
    model = read(case.content)
    (graph,) = model.subgraphs
    names = [tensor.name for tensor in graph.tensors]
    assert len(set(names)) == len(names)
    (first,) = (graph.tensors[i] for i in graph.inputs)
    assert first.shape[0] == 1 and first.shapeSignature is None
    outputs = {
        one.name: TYPES[graph.tensors[one.tensorIndex].type]
        for one in model.signatureDefs[0].outputs
    }
    assert outputs == {
        b"probabilities": "FLOAT32",
        b"score": "FLOAT32",
        b"delegate": "INT32",
    }
    assert operations(case.content)[1] == []
    # 4 bytes each in float32.
    assert len(case.content) < 0.5 * 4 * case.model.student.count_params()


def test_what_is_stored_in_how_many_bits(cases):
    images_case = cases["image"]
    found = weights(images_case.content)
    assert found[40, 288] == ("INT4", 32)  # 3 * 3 pixels of 32
    assert found[48, 40] == ("INT8", 0)
    assert found[32, 3, 3, 16] == ("INT8", 0)
    assert found[16, 3, 3, 1] == ("FLOAT32", 0)  # 144 weights
    assert images_case.int4.describe() == {
        "quantization": "int4",
        "tool": "litert-quantizer",
        "in_8_bits": [
            {
                "layer": "second",
                "why": "4 bits of a convolution move the answers",
            },
            {"layer": "odd", "why": "rows of 40 weights, no multiple of 32"},
        ],
        "left_in_float": [
            {"layer": "first", "why": "fewer than 1,024 weights"},
            {"layer": "apart", "why": "fewer than 1,024 weights"},
            {"layer": "logits", "why": "fewer than 1,024 weights"},
        ],
    }


def test_a_table_of_an_odd_width_is_filled_up(cases):
    text_case = cases["text"]
    found = weights(text_case.content)
    assert found[300, 64] == ("INT4", 32)
    stored = text_case.int4.describe()["in_8_bits"]
    assert [one["layer"] for one in stored] == ["windows"]
    # Two blocks of 32 weights in 4 bits with 2 bytes of scale, of 64 to 48.
    assert int4_weights.stored_width(48) == 64
    # 18 bytes, where 8 bits take 16.
    assert int4_weights.stored_width(16) == 16
    assert int4_weights.stored_width(64) == 64


def test_weights_are_rounded_in_blocks(tmp_path):
    """Against NumPy: a float16 scale of each 32 weights, whole multiples."""
    keras.utils.set_random_seed(0)
    student = keras.Sequential(
        [keras.Input((64,)), layers.Dense(32, use_bias=False)]
    )
    kernel = student.get_weights()[0]
    kernel[:32] *= 20  # a block of wide values leaves the others alone
    student.set_weights([kernel])
    model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    x = np.eye(64, dtype="float32")
    expected = model.predict(x, verbose=0)
    assert expected["logits"].shape == (64, 32)
    content = TFLiteStudent(model, x, "int4")._student_part
    runner = Interpreter(model_content=content).get_signature_runner()
    # One row of weights at a time: nothing is summed.
    found = np.concatenate([runner(input=row[None])["student_outputs"]
                            for row in x])  # fmt: skip
    blocks = kernel.T.reshape(32, 2, 32)
    scale = np.abs(blocks).max(axis=2, keepdims=True) / 7
    step = np.broadcast_to(scale, blocks.shape).reshape(32, 64).T
    # Half a step, and the rounding of the activation and of the scale.
    assert (np.abs(found - kernel) <= 0.5 * step + 0.01 * np.abs(kernel)).all()
    assert len(np.unique(np.round(found / step).astype(int))) <= 16


@pytest.mark.parametrize("length", [(9,), (None,), ()])
@pytest.mark.parametrize("width", [32, 48])
def test_lookups_are_gathers(length, width):
    """The same rows, bit by bit, at any number and length."""
    tf = pytest.importorskip("tensorflow")
    table = np.random.default_rng(0).normal(size=(90, width)).astype("float32")

    @tf.function(input_signature=[tf.TensorSpec((None, *length), tf.int32)])
    def rows(input):
        return {"student_outputs": tf.gather(table, input) * 1.0}

    module = tf.Module()
    module.rows = rows
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [rows.get_concrete_function()], module
    )
    file = read(converter.convert())
    before = write(file)
    with_embedding_lookups(file, 1, int4_weights.stored_width)
    after = write(file)
    assert "GATHER" in operations(before)[0]
    codes = [code_of(file, one) for one in file.subgraphs[0].operators]
    assert schema.BuiltinOperator.GATHER not in codes
    rng = np.random.default_rng(1)
    for rows_ in (1, 3):
        for size in {9} if length == (9,) else {4, 7}:
            shape = (rows_, size) if length else (rows_,)
            ids = rng.integers(0, 90, shape).astype("int32")
            for content in (before, after):
                interpreter = Interpreter(model_content=content)
                (one,) = interpreter.get_input_details()
                interpreter.resize_tensor_input(one["index"], ids.shape)
                interpreter.allocate_tensors()
                interpreter.set_tensor(one["index"], ids)
                interpreter.invoke()
                (out,) = interpreter.get_output_details()
                np.testing.assert_array_equal(
                    interpreter.get_tensor(out["index"]), table[ids]
                )


def test_texts_of_any_length(tmp_path):
    """The file for free sizes reads the sizes of the ids."""
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(300, 32)(inputs)
    x = layers.GlobalAveragePooling1D()(x)
    student = keras.Model(inputs, layers.Dense(5)(x))
    model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    model(tokens(2))
    from keras_cascade.export.signature import Signature

    artifact = TFLiteStudent(
        model, tokens(4), "int4", (), Signature(tokens(4), (student,)),
    )  # fmt: skip
    whole = artifact.write(tmp_path / "student.tflite", 0.5)
    assert whole.name == "student_batch.tflite"
    run = StudentInterpreter(whole).run
    for length in (9, 5, 14):
        x = tokens(6, length)
        expected = model.predict(x, verbose=0)["probabilities"]
        found = run({"input": x})["probabilities"]
        assert np.abs(found - expected).max() < 0.02


def test_a_student_without_such_layers_is_refused():
    student = keras.Sequential(
        [keras.Input((40,)), layers.Dense(40, name="odd"), layers.Dense(3)]
    )
    model = kc.gates.StudentWithGate(student, kc.gates.MarginGate())
    x = np.zeros((2, 40), "float32")
    model(x)
    with pytest.raises(
        ExportError, match=r"No layer .* in 4 bits.*'odd' \(rows of 40 weights"
    ):
        TFLiteStudent(model, x, "int4")


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"keras-cascade\[optimize\]"):
        int4_weights.check_int4_installed()


def test_a_bundle_says_how_it_is_stored(tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 400)
    x = (rng.normal(size=(400, 64)) + 2 * np.eye(4, 64)[y]).astype("float32")

    def model(units):
        return keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(units, activation="relu", name="first"),
                layers.Dense(4, name="logits"),
            ]
        )

    cascade = kc.Cascade(model(96), model(64))
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5))
    bundle = cascade.export(tmp_path / "bundle", quantization="int4")
    assert "Original model size" not in capsys.readouterr().out
    student = bundle.manifest["student"]
    assert student["quantization"] == "int4"
    assert student["tool"] == "litert-quantizer"
    assert student["left_in_float"] == [
        {"layer": "logits", "why": "fewer than 1,024 weights"}
    ]
    found = StudentInterpreter(bundle.student_file).run({"input": x})
    # The threshold is one of the file's own scores.
    threshold = bundle.operating_point()["threshold"]
    rate = bundle.operating_point()["delegation_rate"]
    assert (found["score"] < np.float32(threshold)).mean() == rate <= 0.5
    assert bundle.manifest["verification"]["size_over_float32"] < 0.6

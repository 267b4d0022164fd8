"""Where a student's file must run: operations and types of each runtime."""

import functools
import importlib.util
import re

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.errors import ExportError
from keras_cascade.export import targets
from keras_cascade.export.targets import (
    MICRO_OPERATIONS,
    check_target,
    checked_targets,
    missing_operations,
)
from keras_cascade.export.tflite_file import (
    GATE_PREFIX,
    operation_of,
    read,
    write,
)
from keras_cascade.export.tflite_micro_student import TFLiteMicroStudent
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.gates import MarginGate, StudentWithGate
from keras_cascade.utils.native_output import hidden_native_output
from tests.helpers.documents import rows
from tests.helpers.gate_gauntlet import GAUNTLET, each_gate, some_logits
from tests.helpers.image_cascades import image_cascade

needs_micro = pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="tflite-micro is not installed",
)
CLASSES = 5


def identity():
    """A student whose logits are its inputs."""
    made = keras.Sequential(
        [keras.Input((CLASSES,)), layers.Dense(CLASSES, name="logits")]
    )
    made.set_weights([np.eye(CLASSES), np.zeros(CLASSES)])
    return made


def artifact_of(model, gate, example, classes=None):
    with_gate = StudentWithGate(model, gate, classes)
    return TFLiteStudent(with_gate, example)


@functools.cache
def gate_file(make):
    gate = make()
    # An abstain student's last output is no class.
    classes = 7 if type(gate).__name__ == "AbstainGate" else None
    artifact = artifact_of(identity(), gate, some_logits(), classes)
    return artifact.convert(0.1)


def gate_operations(content):
    model = read(content)
    (graph,) = model.subgraphs
    return {
        operation_of(model, operator)
        for operator in graph.operators
        if graph.tensors[operator.outputs[0]].name.startswith(GATE_PREFIX)
    }


@each_gate
def test_every_gate_is_of_operations_of_tflite_micro(make, reference):
    content = gate_file(make)
    assert gate_operations(content) <= MICRO_OPERATIONS
    pytest.importorskip("tflite_micro")
    logits = some_logits(20, seed=4)
    student = TFLiteMicroStudent(content, "student.tflite")
    answer = student.run({"input": logits})
    np.testing.assert_allclose(answer["score"], reference(logits), atol=1e-5)
    np.testing.assert_array_equal(
        answer["delegate"].astype(bool), answer["score"] < np.float32(0.1)
    )


def test_the_table_of_gates():
    listed = rows("docs/runtimes.md", ("gate", "operations"))
    documented = {
        gate.strip("`"): set(re.findall(r"`(\w+)`", kinds))
        for gate, kinds in listed
    }
    made = {
        name: gate_operations(gate_file(make))
        for name, (make, _) in GAUNTLET.items()
        if name in kc.gates.serialization.NAMES
    }
    shared = set.intersection(*made.values())
    every = documented.pop("every")
    assert shared == every
    assert documented == {n: kinds - shared for n, kinds in made.items()}
    assert set(made) == set(kc.gates.serialization.NAMES)


class Top(layers.Layer):
    def call(self, x):
        return ops.top_k(x, k=CLASSES)[0]


def with_top():
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(CLASSES), Top(name="top")]
    )


class TopGate(MarginGate):
    """A margin that TFLite Micro lacks an operation for."""

    def score(self, logits):
        top = ops.top_k(logits, k=2)[0]
        return top[:, 0] - top[:, 1]


@pytest.mark.parametrize(
    ("model", "gate", "place"),
    [
        (with_top, MarginGate, "'top' (Top)"),
        (identity, TopGate, "the gate TopGate"),
    ],
)
def test_a_missing_operation_is_named_with_its_layer(model, gate, place):
    made = model()
    artifact = artifact_of(made, gate(), np.ones((3, *made.input_shape[1:])))
    with pytest.raises(ExportError) as no:
        check_target("microcontroller", artifact, 0.0)
    assert f"lacks operations of the student: TOPK_V2 (in {place})." in str(
        no.value
    )
    for target in ("browser", "phone"):
        check_target(target, artifact, 0.0)


def test_operations_without_a_layer():
    artifact = artifact_of(identity(), MarginGate(), some_logits())
    model = read(artifact.convert(0.0))
    for tensor in model.subgraphs[0].tensors:
        tensor.name = b"some"
    found = missing_operations(
        read(write(model)),
        MICRO_OPERATIONS - {"SOFTMAX"},
        artifact.student_with_gate,
    )
    assert found == ["SOFTMAX"]


@needs_micro
def test_what_tflite_micro_does_not_run_is_named_with_its_layer():
    """It has the operation, and not for this type."""

    class Chosen(layers.Layer):
        def call(self, x):
            whole = ops.cast(10 * x, "int32")
            return ops.cast(ops.where(x > 0, whole, -whole), "float32")

    made = keras.Sequential(
        [keras.Input((8,)), Chosen(name="chosen"), layers.Dense(CLASSES)]
    )
    artifact = artifact_of(made, MarginGate(), np.ones((3, 8), "float32"))
    with pytest.raises(ExportError, match=r"in 'chosen' \(Chosen\)") as no:
        check_target("microcontroller", artifact, 0.0)
    assert "\n" not in str(no.value)


@needs_micro
def test_the_listed_operations_are_those_of_the_package():
    """An operation that is not listed is one that the package lacks."""
    from tflite_micro.python.tflite_micro import runtime

    artifact = artifact_of(identity(), MarginGate(), some_logits())
    model = read(artifact.convert(0.0))
    codes = {
        name: number
        for name, number in vars(schema.BuiltinOperator).items()
        if isinstance(number, int)
    }
    (softmax,) = [
        one
        for one in model.operatorCodes
        if one.builtinCode == codes["SOFTMAX"]
    ]
    no_operations = {
        "CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES",
    }  # fmt: skip
    assert codes.keys() >= MICRO_OPERATIONS
    for name in sorted(codes.keys() - MICRO_OPERATIONS - no_operations):
        softmax.builtinCode = codes[name]
        softmax.deprecatedBuiltinCode = min(127, codes[name])
        with pytest.raises(RuntimeError) as no, hidden_native_output():
            runtime.Interpreter.from_bytes(write(model), arena_size=2**20)
        assert f"op for builtin opcode '{name}'" in "".join(no.value.__notes__)


def test_targets_of_an_export(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(targets, "tell", told.append)
    cascade, _, _ = image_cascade()
    bundle = cascade.export(
        tmp_path / "bundle",
        quantization="int8",
        io_type="int8",
        targets=["microcontroller", "phone"],
    )
    assert bundle.student_inputs[0]["dtype"] == "int8"
    if importlib.util.find_spec("tflite_micro"):
        assert re.fullmatch(r".* in an arena of \d+,\d+ bytes\.", *told)
    with pytest.raises(ExportError, match=r"LiteRT.js.*'input' of int8"):
        cascade.export(
            tmp_path / "other",
            quantization="int8",
            io_type="int8",
            targets="browser",
        )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("names", "quantization", "message"),
    [
        ("car", "int8", "`targets` out of"),
        (["microcontroller"], "dynamic", "no operations with weights in fewer"),
        (["microcontroller"], "float16", "no operations with weights in fewer"),
    ],
)
def test_targets_that_are_refused(names, quantization, message):
    with pytest.raises(ValueError, match=message):
        checked_targets(names, quantization)
    assert checked_targets(None, "int8") == ()
    assert checked_targets("phone", "float16") == ("phone",)

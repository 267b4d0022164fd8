"""`keras-cascade verify --runtime NAME --refit NAME`."""

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError, sign_bundle
from keras_cascade.bundle.manifest import MANIFEST, SIGNATURE, write_manifest
from keras_cascade.cli.main import run as run_command
from keras_cascade.errors import ExportError
from keras_cascade.export import measured_runtimes, runtime_checks
from keras_cascade.export.tflite_file import read, write
from keras_cascade.export.tflite_micro_student import (
    TFLiteMicroStudent,
    in_arenas,
)
from keras_cascade.runtime import EdgeCascade
from tests.helpers.runtime_bundles import calibrated_cascade


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`(bundle, data spec)` with a guarantee and a `student.onnx`."""
    folder = tmp_path_factory.mktemp("runtimes")
    cascade, spec = calibrated_cascade(
        folder, kc.MaxAccuracyDrop(0.2, confidence=0.9)
    )
    bundle = cascade.export(folder / "bundle", onnx="student")
    return bundle.path, spec


@pytest.fixture
def copy(exported, tmp_path):
    """A copy that may be written to."""
    path = tmp_path / "bundle"
    shutil.copytree(exported[0], path)
    return path


@pytest.fixture
def verified(exported, capsys):
    """Function that runs `verify --json`; returns its status and result."""

    def run(path, *options):
        arguments = ["verify", str(path), "--data", exported[1], "--json"]
        status = run_command([*arguments, *options])
        return status, json.loads(capsys.readouterr().out)

    return run


def check_named(result, name):
    (found,) = [one for one in result["checks"] if one["name"] == name]
    return found


@pytest.mark.parametrize(
    "runtime", ["interpreter", "compiled", "onnxruntime", "tflite-micro"]
)
def test_decisions_are_compared(exported, verified, runtime):
    if runtime == "tflite-micro":
        pytest.importorskip("tflite_micro")
    status, result = verified(exported[0], "--runtime", runtime)
    assert (status, result["passed"]) == (0, True)
    numbers = result["runtime"]
    assert numbers["runtime"] == runtime
    assert numbers["examples"] == result["measured"]["examples"]
    assert numbers["decision_flips"] == numbers["label_flips"] == 0
    assert numbers["not_finite"] == 0
    assert numbers["max_probability_difference"] <= 1e-5
    check = check_named(result, f"runtime {runtime}")
    assert f"0 of {numbers['examples']} decisions" in check["detail"]
    if runtime == "tflite-micro":
        # Weights and input of a layer of 6 by 4, and the gate: some KiB.
        assert 0 < numbers["arena_bytes"] <= 64 * 1024
        assert f"{numbers['arena_bytes']:,} bytes" in check["detail"]


class ShiftedStudent:
    """A runtime whose scores are lower than the interpreter's."""

    def __init__(self, student, shift):
        self.student = student
        self.shift = shift

    def run(self, inputs):
        answer = dict(self.student.run(inputs))
        answer["score"] = answer["score"] - np.float32(self.shift)
        answer["delegate"] = np.ones_like(answer["delegate"])
        return answer


@pytest.fixture
def shifted(monkeypatch):
    """Makes `compiled` a runtime that differs."""
    real = measured_runtimes.open_runtime

    def open_shifted(bundle, threads, runtime, accelerator, fall_back):
        student, accelerator = real(
            bundle, threads, runtime, accelerator, fall_back
        )
        if runtime == "compiled":
            student = ShiftedStudent(student, 0.125)
        return student, accelerator

    monkeypatch.setattr(measured_runtimes, "open_runtime", open_shifted)


def test_flips_are_counted(exported, verified, shifted):
    status, result = verified(exported[0], "--runtime", "compiled")
    assert (status, result["passed"]) == (1, False)
    numbers = result["runtime"]
    # Every kept row is now delegated.
    kept = 1 - result["measured"]["delegation_rate"]
    assert numbers["decision_flips"] == round(kept * numbers["examples"]) > 0
    assert numbers["max_score_difference"] == pytest.approx(0.125, abs=1e-6)
    assert not check_named(result, "runtime compiled")["passed"]


def test_refit(copy, verified, shifted, tmp_path):
    """The point of scores that are lower by a shift is lower by it too."""
    before = Bundle.load(copy)
    default = before.operating_point()
    status, result = verified(
        copy, "--runtime", "compiled", "--refit", "fitted"
    )
    assert status == 0, result["checks"]
    after = Bundle.load(copy, sha256=result["manifest_sha256"])
    point = after.operating_point("fitted")
    assert point == result["operating_point"]
    # A threshold lies in the middle of two scores.
    assert point["threshold"] == pytest.approx(
        default["threshold"] - 0.125, abs=1e-5
    )
    for name in ("objective", "guarantees", "delegation_rate", "accuracy"):
        assert point[name] == default[name]
    assert point["runtime"] == "compiled"
    assert "student.tflite in compiled" in point["measured_on"]
    assert "fitted" in check_named(result, "refit fitted")["name"]
    # Nothing else has changed.
    changed = {"operating_points", "sha256"}
    for key in before.manifest.keys() - changed:
        assert after.manifest[key] == before.manifest[key]
    assert (
        after.manifest["operating_points"][:-1]
        == (before.manifest["operating_points"])
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bundle"]
    # It can be fitted again, and `verify` measures it on that runtime.
    status, result = verified(
        copy, "--runtime", "compiled", "--refit", "fitted"
    )
    assert status == 0
    assert len(Bundle.load(copy).manifest["operating_points"]) == 2
    assert verified(copy, "--split", "calibration")[0] == 0
    _, result = verified(
        copy, "--split", "calibration", "--runtime", "compiled"
    )
    assert check_named(result, "fitted: numbers")["passed"]
    with EdgeCascade.load(
        copy, runtime="compiled", operating_point="fitted"
    ) as edge:
        assert edge.operating_point["threshold"] == point["threshold"]


def test_a_refit_bundle_has_no_signature_of_the_former_manifest(
    copy, exported, tmp_path, capsys
):
    kc.bundle.new_signing_key(tmp_path / "key")
    sign_bundle(copy, tmp_path / "key")
    arguments = ["verify", str(copy), "--data", exported[1]]
    arguments += ["--runtime", "compiled", "--refit", "own"]
    assert run_command([*arguments, "--public-key", f"{tmp_path}/key.pub"]) == 0
    assert "sign it again" in " ".join(capsys.readouterr().out.split())
    assert not (copy / SIGNATURE).exists()
    with pytest.raises(BundleError, match="is not signed"):
        Bundle.load(copy, public_key=f"{tmp_path}/key.pub")
    sign_bundle(copy, tmp_path / "key")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refit", "a"], "--data and --runtime with --refit"),
        (["--runtime", "onnx"], "Expected a runtime out of"),
        (["--runtime", "compiled", "--refit", "default"], "not 'default'"),
        (["--runtime", "compiled", "--refit", "a b"], "out of letters"),
        (
            ["--runtime", "compiled", "--refit", "a", "--split", "test"],
            "not trained on. Expected: their fingerprint",
        ),
        (
            ["--runtime", "compiled", "--refit", "a", "--seed", "7"],
            "not trained on. Expected: their fingerprint",
        ),
        (
            ["--runtime", "onnxruntime", "--accelerator", "gpu"],
            "'compiled' with the accelerator",
        ),
        (
            ["--runtime", "compiled", "--accelerator", "gpu"],
            "accelerator='gpu' cannot be used",
        ),
    ],
)
def test_arguments(copy, verified, options, message, monkeypatch):
    import ai_edge_litert.compiled_model

    compiled = ai_edge_litert.compiled_model.CompiledModel
    real = compiled.from_buffer

    def from_buffer(content, options):
        if int(options.hardware_accelerators) != 1:
            raise RuntimeError("none")
        return real(content, options=options)

    monkeypatch.setattr(compiled, "from_buffer", from_buffer)
    before = (copy / MANIFEST).read_bytes()
    with pytest.raises((ValueError, BundleError), match=message):
        verified(copy, *options)
    assert (copy / MANIFEST).read_bytes() == before


def test_a_runtime_needs_data(exported):
    with pytest.raises(ValueError, match="Expected --data with --runtime"):
        run_command(["verify", str(exported[0]), "--runtime", "compiled"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": None}, "was set by hand"),
        (
            {"objective": {"class_name": "M", "config": {"g": "5000 values"}}},
            "one value per example",
        ),
        ({"traffic": {"example_weights": "5000 values"}}, "one value per"),
    ],
)
def test_points_that_cannot_be_refit(copy, verified, change, message):
    manifest = Bundle.load(copy).manifest
    manifest["operating_points"][0] |= change
    write_manifest(manifest, copy / MANIFEST)
    with pytest.raises(ValueError, match=message):
        verified(copy, "--runtime", "compiled", "--refit", "a")


def test_a_point_of_another_kind_is_not_replaced(copy, verified):
    manifest = Bundle.load(copy).manifest
    other = {**manifest["operating_points"][0], "name": "frugal"}
    manifest["operating_points"].append(other)
    write_manifest(manifest, copy / MANIFEST)
    with pytest.raises(ValueError, match="has an operating point 'frugal'"):
        verified(copy, "--runtime", "compiled", "--refit", "frugal")


def test_a_bundle_that_is_replaced_meanwhile(copy):
    bundle = Bundle.load(copy)
    manifest = {**bundle.manifest, "name": "another"}
    write_manifest(manifest, copy / MANIFEST)
    current = (copy / MANIFEST).read_bytes()
    with pytest.raises(BundleError, match="was replaced while"):
        runtime_checks._replaced(bundle, bundle.manifest)
    assert (copy / MANIFEST).read_bytes() == current


def test_a_kill_leaves_the_former_manifest_or_the_new_one(copy, monkeypatch):
    """Whatever step fails, the bundle opens, and is not falsely signed."""
    bundle = Bundle.load(copy)
    before = (copy / MANIFEST).read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        runtime_checks._replaced(bundle, {**bundle.manifest, "name": "new"})
    assert (copy / MANIFEST).read_bytes() == before
    sha256 = hashlib.sha256(before).hexdigest()
    assert Bundle.load(copy, sha256=sha256).manifest == bundle.manifest
    assert [one.name for one in copy.parent.iterdir()] == ["bundle"]


def test_a_file_that_tflite_micro_lacks_an_operation_for(exported):
    pytest.importorskip("tflite_micro")
    model = read((exported[0] / "student.tflite").read_bytes())
    operator = schema_py_generated.BuiltinOperator
    for code in model.operatorCodes:
        if code.builtinCode == operator.SOFTMAX:
            code.builtinCode = code.deprecatedBuiltinCode = operator.UNIQUE
    with pytest.raises(ExportError, match="lacks the operation UNIQUE") as no:
        TFLiteMicroStudent(write(model), "student.tflite")
    assert "\n" not in str(no.value)


def test_the_smallest_arena_is_the_smallest(exported):
    pytest.importorskip("tflite_micro")
    content = (exported[0] / "student.tflite").read_bytes()
    student = TFLiteMicroStudent(content, "student.tflite")
    assert student.arena_bytes % 1024 == 0
    size = student.arena_bytes
    assert in_arenas(content, [size, size - 1024]) == [1, 0]
    with pytest.raises(ExportError, match=r"takes \(1, 6\) as 'input'"):
        student.run({"input": np.zeros((2, 5), "float32")})


def test_runtimes_that_are_not_installed(exported, monkeypatch, tmp_path):
    bundle = Bundle.load(exported[0])
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    with pytest.raises(ExportError, match="'tflite-micro' is not installed"):
        measured_runtimes.open_measured_runtime(bundle, "tflite-micro")
    monkeypatch.setenv("KERAS_CASCADE_NODE_MODULES", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(ExportError, match="'litertjs' is not installed") as no:
        measured_runtimes.open_measured_runtime(bundle, "litertjs")
    for what in ("@litertjs/core", "chromium", "playwright"):
        assert what in str(no.value)
    monkeypatch.setattr(bundle, "_absent", {"student.onnx"})
    with pytest.raises(ExportError, match=r"lacks. Export it again with onnx"):
        measured_runtimes.open_measured_runtime(bundle, "onnxruntime")

"""Verification of a bundle from its files finds every deviation."""

import json
import shutil

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.export.tflite_file import operations
from keras_cascade.runtime import EdgeCascade


def examples(rows=600, seed=7):
    """Labelled examples of the population of the bundle in `bundle_path`."""
    centres = np.random.default_rng(99).normal(size=(4, 6))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, rows).astype("int32")
    x = (centres[y] + 0.7 * rng.normal(size=(rows, 6))).astype("float32")
    return x, y


def batches(x, y, size=100):
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size], None


def calibration_examples():
    """Examples that tests/conftest.py calibrated the bundle on."""
    rng = np.random.default_rng(3)
    centres = np.random.default_rng(99).normal(size=(4, 6))
    y = rng.integers(0, 4, 900).astype("int32")
    x = (centres[y] + 0.7 * rng.normal(size=(900, 6))).astype("float32")
    return x[400:], y[400:]


def failed(checks):
    return [check.name for check in checks if not check.passed]


@pytest.fixture
def altered(bundle_path, tmp_path):
    """A function that copies the bundle with another operating point."""

    def alter(**changes):
        path = tmp_path / "altered"
        shutil.copytree(bundle_path, path)
        file = path / MANIFEST
        manifest = json.loads(file.read_text())
        manifest["operating_points"][0].update(changes)
        write_manifest(manifest, file)
        return path

    return alter


def test_a_good_bundle_passes_and_is_measured(bundle_path):
    x, y = examples()
    checks, measured = check_bundle(bundle_path, batches(x, y))
    assert failed(checks) == []
    edge = EdgeCascade.load(bundle_path, teacher="local")
    prediction = edge.predict(x)
    assert measured["delegation_rate"] == prediction.delegation_rate
    assert measured["accuracy"] == (prediction.labels == y).mean()


def test_calibration_examples_give_the_manifests_numbers(bundle_path, altered):
    data = calibration_examples()
    checks, _ = check_bundle(bundle_path, batches(*data))
    assert "numbers" in {check.name for check in checks}
    assert failed(checks) == []
    checks, _ = check_bundle(altered(accuracy=0.999), batches(*data))
    assert failed(checks) == ["numbers"]
    assert "instead of 0.999" in checks[-1].detail


def test_another_threshold_is_noticed(altered):
    point = {"threshold": 0.123456789}
    checks, _ = check_bundle(altered(**point), batches(*examples()))
    assert failed(checks) == ["decisions"]


@pytest.mark.parametrize(
    ("quantity", "limit", "stands"),
    [
        ("delegation_rate", {"at_most": 0.05}, False),
        ("delegation_rate", {"at_most": 0.6}, True),
        ("amortized_cost", {"at_most": 0.01}, False),
        ("accuracy", {"at_least": 0.999}, False),
        ("accuracy", {"at_least": 0.1}, True),
        ("accuracy_drop", {"at_most": 0.9}, True),
        ("group_accuracy", {"at_least": 0.9}, True),
    ],
)
def test_guarantees_are_held_against_the_examples(
    altered, quantity, limit, stands
):
    guarantee = {"quantity": quantity, "confidence": 0.95, **limit}
    checks, _ = check_bundle(
        altered(guarantees=[guarantee]), batches(*examples(1000))
    )
    expected = [] if stands else [f"guarantee on {quantity}"]
    assert failed(checks) == expected


def test_a_broken_drop_is_found(altered):
    # Nothing delegated: the student alone is far below the teacher.
    lowest = float(np.finfo("float32").min)
    guarantee = {"quantity": "accuracy_drop", "at_most": 0.0, "confidence": 0.9}
    path = altered(threshold=lowest, guarantees=[guarantee])
    x, y = examples(3000)
    checks, measured = check_bundle(path, batches(x, y))
    assert measured["accuracy_drop"] > 0.05
    assert failed(checks) == ["decisions", "guarantee on accuracy_drop"]


def test_an_altered_file_is_not_looked_at_any_further(bundle_path, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(bundle_path, path)
    with open(path / "student.tflite", "ab") as file:
        file.write(b"!")
    with pytest.raises(BundleError, match="altered"):
        check_bundle(path, batches(*examples()))


def test_operations_against_litert(bundle_path):
    file = Bundle.load(bundle_path).student_file
    built_in, others = operations(file.read_bytes())
    assert others == []
    interpreter = Interpreter(
        str(file), experimental_op_resolver_type=_reference()
    )
    found = {op["op_name"] for op in interpreter._get_ops_details()}
    assert set(built_in) == found - {"DELEGATE"}


def _reference():
    # Without delegates, every operation keeps its name.
    from ai_edge_litert.interpreter import OpResolverType

    return OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES

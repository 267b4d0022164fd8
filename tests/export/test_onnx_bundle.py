"""ONNX files of a bundle are run, fitted, listed and verified."""

import numpy as np
import onnx
import onnxruntime
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.errors import ExportError
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.export.onnx_interpreter import open_session


def answers(file, **inputs):
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture
def calibrated(cascade, blobs):
    cascade.fit(*blobs(300, seed=5), verbose=0)
    cascade.calibrate(blobs(400, seed=6), kc.MaxDelegationRate(0.3))
    return cascade


def test_an_int8_bundle_with_onnx_files(calibrated, blobs, tmp_path):
    bundle = calibrated.export(
        tmp_path / "bundle", quantization="int8", onnx=True
    )
    entry = bundle.manifest["onnx"]["student"]
    point = entry["operating_point"]
    x, y = blobs(400, seed=6)
    found = answers(bundle.onnx_files["student"], input=x)
    threshold = np.float32(point["threshold"])
    np.testing.assert_array_equal(found["delegate"], found["score"] < threshold)
    # In float32, whatever the TFLite file computes in.
    np.testing.assert_allclose(
        found["score"], calibrated.predict(x, verbose=0)["score"], atol=1e-5
    )
    teacher = answers(bundle.onnx_files["teacher"], input=x)["logits"]
    np.testing.assert_allclose(
        teacher, calibrated.teacher.predict(x, verbose=0), atol=1e-4
    )
    delegated = found["delegate"]
    right = np.where(
        delegated, teacher.argmax(1) == y, found["probabilities"].argmax(1) == y
    )
    assert point["delegation_rate"] == pytest.approx(delegated.mean())
    assert point["accuracy"] == pytest.approx(right.mean())
    assert entry["verification"]["decision_flips"] == 0
    assert {1, 2, 7, 64} <= set(entry["verification"]["batch_sizes"])
    card = (bundle.path / "README.md").read_text()
    assert "student.onnx" in card
    assert str(point["threshold"]) in card

    batches = [(x, y, None)]
    checks, _ = check_bundle(bundle.path, batches)
    assert all(check.passed for check in checks)
    names = {check.name for check in checks}
    assert {"teacher.onnx", "student.onnx: decisions"} <= names
    assert {"student.onnx: numbers", "numbers"} <= names

    entry["operating_point"]["threshold"] += 0.05
    write_manifest(bundle.manifest, bundle.path / "manifest.json")
    checks, _ = check_bundle(bundle.path, batches)
    assert "student.onnx: decisions" in {c.name for c in checks if not c.passed}


def test_one_part(calibrated, tmp_path):
    bundle = calibrated.export(tmp_path / "bundle", onnx="teacher")
    assert (bundle.path / "teacher.onnx").exists()
    assert list(bundle.onnx_files) == ["teacher"]
    with pytest.raises(ValueError, match="`onnx` to be True"):
        calibrated.export(tmp_path / "other", onnx="gate")
    assert not (tmp_path / "other").exists()


def test_an_altered_file_is_noticed(calibrated, tmp_path):
    bundle = calibrated.export(tmp_path / "bundle", onnx="student")
    with open(bundle.path / "student.onnx", "ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"'student\.onnx' in the bundle"):
        Bundle.load(bundle.path)


def test_what_is_run_has_its_hash(calibrated, blobs, tmp_path):
    """Not what came between the hash check and the run."""
    bundle = calibrated.export(tmp_path / "bundle", onnx="student")
    (bundle.path / "student.onnx").write_bytes(b"another")
    x, y = blobs(50)
    with pytest.raises(BundleError, match=r"'student\.onnx'.*was altered"):
        check_bundle(bundle, [(x, y, None)])


def test_weights_in_further_files_are_not_read(tmp_path, monkeypatch):
    """No manifest lists them, and bytes have no folder to look in."""
    ones = np.ones((4, 2), "float32")
    weights = onnx.helper.make_tensor("w", 1, [4, 2], ones.tobytes(), raw=True)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "external",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 2])],
        [weights],
    )
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    whole = open_session(model.SerializeToString())
    (found,) = whole.run(None, {"x": np.ones((1, 4), "float32")})
    assert found.tolist() == [[4.0, 4.0]]
    file = tmp_path / "model.onnx"
    onnx.save(
        model, str(file), save_as_external_data=True, location="w.bin",
        size_threshold=0,
    )  # fmt: skip
    assert (tmp_path / "w.bin").is_file()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExportError, match="'this one' cannot be opened"):
        open_session(file.read_bytes(), "this one")


def test_a_devices_copy_needs_none(calibrated, tmp_path):
    bundle = calibrated.export(tmp_path / "bundle", onnx=True)
    (bundle.path / "student.onnx").unlink()
    assert list(Bundle.load(bundle.path).onnx_files) == ["teacher"]

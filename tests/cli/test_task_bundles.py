"""Commands on bundles that are not of one class per example."""

import json

import numpy as np
import pytest

from keras_cascade.bundle import BundleError
from keras_cascade.cli import saved_bundle
from keras_cascade.cli.main import run as run_command
from keras_cascade.cli.saved_cascade import load_cascade
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving.web_page import device_files


@pytest.fixture
def files(task_bundle, tmp_path):
    """A function of a task's name: a bundle, inputs and two data files."""

    def make(name):
        _, bundle, (x, y) = task_bundle(name)
        data = tmp_path / "data.npz"
        np.savez(data, x=x, y=y)
        inputs = tmp_path / "inputs.npy"
        np.save(inputs, x[:4])
        return bundle, x, str(inputs), f"npz:{data}"

    return make


@pytest.mark.parametrize("name", ["hamming", "tolerance", "pixels"])
def test_verify(files, name, capsys):
    bundle, _, _, data = files(name)
    arguments = ["verify", str(bundle.path), "--data", data]
    assert run_command([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"]
    point = bundle.operating_point()
    # All rows of the file, which are those of the calibration.
    assert "numbers" in {check["name"] for check in result["checks"]}
    assert result["measured"]["accuracy"] == pytest.approx(point["accuracy"])


@pytest.mark.parametrize("name", ["hamming", "tolerance", "pixels"])
def test_predict(files, name, capsys):
    bundle, x, inputs, _ = files(name)
    with EdgeCascade.load(bundle.path) as edge:
        expected = edge.predict(x[:4])
    arguments = ["predict", str(bundle.path), "--input", inputs]
    arguments += ["--on-failure", "answer"]
    assert run_command([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["source"] for row in rows] == expected.source.tolist()
    if name == "pixels":
        assert [row["labels"] for row in rows] == expected.labels.tolist()
    elif name == "tolerance":
        assert [row["values"] for row in rows] == expected.names
    else:
        assert [row["labels"] for row in rows] == expected.names
    assert run_command(arguments) == 0
    printed = capsys.readouterr().out
    shown = {
        "hamming": expected.names[0][0] if name == "hamming" else "",
        "tolerance": "tolerance 0 ",
        "pixels": "4 x 4 x 3",
    }
    assert shown[name] in printed


def test_other_data(files, tmp_path):
    bundle, *_ = files("hamming")
    with pytest.raises(ValueError, match="Expected --data npz:FILE for a bun"):
        saved_bundle.verify(bundle, "digits", "test", 0)
    np.savez(tmp_path / "inputs.npz", x=np.zeros((3, 6), "float32"))
    with pytest.raises(ValueError, match=r"'x' .* and 'y' in"):
        saved_bundle.verify(bundle, f"npz:{tmp_path}/inputs.npz", "test", 0)
    np.savez(
        tmp_path / "classes.npz", x=np.zeros((3, 6), "float32"), y=np.arange(3)
    )
    with pytest.raises(ValueError, match=r"labels of shape \(batch, 4\)"):
        saved_bundle.verify(bundle, f"npz:{tmp_path}/classes.npz", "test", 0)


def test_bench_takes_the_inputs(files):
    bundle, x, _, data = files("pixels")
    inputs = saved_bundle._inputs(data, 0, bundle, None)
    np.testing.assert_array_equal(inputs["input"], x[:512])


def test_commands_on_a_saved_cascade(task_bundle, tmp_path):
    cascade, *_ = task_bundle("example")
    cascade.save(tmp_path / "cascade.keras")
    with pytest.raises(ValueError, match="read data of one class per example"):
        load_cascade(tmp_path / "cascade.keras")


def test_no_page_for_browsers(task_bundle):
    with pytest.raises(BundleError, match="Serve it without --web"):
        device_files(task_bundle("example")[1])

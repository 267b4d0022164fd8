"""`keras-cascade verify` and `bench` on an exported bundle."""

import json
import shutil

import numpy as np
import pytest

from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.cli.main import run as run_command


@pytest.fixture(scope="module")
def bundle_data(tmp_path_factory):
    """Data spec of points like those that `bundle_path` was made from."""
    centres = np.random.default_rng(99).normal(size=(4, 6))
    rng = np.random.default_rng(12)
    y = np.arange(400) % 4
    x = (centres[y] + 0.7 * rng.normal(size=(400, 6))).astype("float32")
    file = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(file, x=x, y=y)
    return f"npz:{file}"


def test_verify(bundle_path, bundle_data, capsys, tmp_path):
    arguments = ["verify", str(bundle_path), "--data", bundle_data]
    assert run_command([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["passed"] is True
    assert {"files", "operations", "batch sizes", "decisions"} <= {
        check["name"] for check in result["checks"]
    }
    assert 0 < result["measured"]["delegation_rate"] < 1
    altered = tmp_path / "altered"
    shutil.copytree(bundle_path, altered)
    manifest = json.loads((altered / MANIFEST).read_text())
    manifest["operating_points"][0]["threshold"] += 0.1
    write_manifest(manifest, altered / MANIFEST)
    assert run_command(["verify", str(altered), "--data", bundle_data]) == 1
    assert "FAILED" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--split test or calibration"):
        run_command([*arguments, "--split", "train"])


def test_bench(bundle_path, bundle_data, capsys):
    arguments = [
        "bench", str(bundle_path), "--data", bundle_data, "--runs", "3",
        "--batch", "1", "--batch", "5", "--threads", "2",
    ]  # fmt: skip
    assert run_command([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    for part in ("student", "cascade"):
        measured = result[part]
        assert [
            (line["batch"], line["threads"]) for line in measured["latency_ms"]
        ] == [(1, 2), (5, 2)]
        assert measured["tensorflow_loaded"] is False
        assert measured["import_seconds"] > 0
        assert measured["resident_mb_after_import"] > 0
    for line in result["student"]["latency_ms"]:
        assert 0 < line["p50"] <= line["p99"]
    assert result["teacher"]["tensorflow_loaded"] is True
    assert 0 < result["cascade"]["delegation_rate"] < 1
    assert result["student_bytes"] == (
        (bundle_path / "student.tflite").stat().st_size
    )

"""`keras-cascade verify` and `bench` on an exported bundle."""

import hashlib
import json
import shutil

import numpy as np
import pytest

from keras_cascade.bundle import BundleError
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


def test_verify_files_alone(bundle_path, tmp_path, capsys):
    """Without data, but with a hash and a key."""
    path, key = tmp_path / "bundle", tmp_path / "key.pem"
    shutil.copytree(bundle_path, path)
    assert run_command(["verify", str(path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    sha256 = hashlib.sha256((path / MANIFEST).read_bytes()).hexdigest()
    assert result["manifest_sha256"] == sha256
    assert [check["name"] for check in result["checks"]] == ["files"]
    assert run_command(["sign", str(path), "--new-key", str(key)]) == 0
    assert f"public_key: {key}.pub\n" in capsys.readouterr().out
    options = ["--public-key", f"{key}.pub", "--sha256", sha256]
    assert run_command(["verify", str(path), *options]) == 0
    out = capsys.readouterr().out
    assert f"manifest.json SHA-256: {sha256}\n" in out
    assert out.count("passed") == 3  # files, pin, signature
    assert run_command(["sign", str(path), "--key", str(key)]) == 0
    other = tmp_path / "other.pem"
    assert run_command(["sign", "--new-key", str(other), "--json"]) == 0
    with pytest.raises(BundleError, match="not signed with the key"):
        run_command(["verify", str(path), "--public-key", f"{other}.pub"])
    with pytest.raises(BundleError, match="not the bundle that was pinned"):
        run_command(["verify", str(path), "--sha256", "0" * 64])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Received: neither"),
        (["--key", "k", "--new-key", "n"], "Received: both"),
        (["--key", "k"], "a bundle to sign"),
    ],
)
def test_sign_needs_a_key(arguments, message):
    with pytest.raises(ValueError, match=message):
        run_command(["sign", *arguments])


def test_no_key_is_made_for_a_bundle_that_cannot_be_signed(tmp_path):
    key = tmp_path / "key"
    with pytest.raises(BundleError, match="There is none at"):
        run_command(["sign", str(tmp_path / "b"), "--new-key", str(key)])
    assert not key.exists()


def test_serve_with_a_key(bundle_path, tmp_path):
    run_command(["sign", "--new-key", str(tmp_path / "key")])
    with pytest.raises(BundleError, match="is not signed"):
        run_command(
            ["serve", str(bundle_path), "--public-key", f"{tmp_path}/key.pub"]
        )


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

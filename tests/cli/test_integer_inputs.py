"""`keras-cascade export --io-type`, `--input-type` and `--target`."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_cascade.bundle import Bundle
from keras_cascade.errors import ExportError
from keras_cascade.runtime import EdgeCascade
from keras_cascade.utils.image_format import scaled
from tests.helpers.image_cascades import image_cascade, pixels


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """`(cascade file, data spec)`."""
    folder = tmp_path_factory.mktemp("images")
    x, y = pixels(600)
    np.savez(folder / "images.npz", x=scaled(x, "0-1"), y=y)
    image_cascade()[0].save(folder / "cascade.keras")
    return folder / "cascade.keras", f"npz:{folder / 'images.npz'}"


def test_pixels(saved, run, tmp_path):
    cascade, spec = saved
    bundle = tmp_path / "bundle"
    run("calibrate", cascade, "--data", spec, "--objective",
        "max_delegation_rate=0.3")  # fmt: skip
    run("export", cascade, "--data", spec, "--output", bundle,
        "--input-type", "uint8", "--target", "browser", "--target", "phone",
        "--json")  # fmt: skip
    assert Bundle.load(bundle).student_inputs[0]["dtype"] == "uint8"
    result = json.loads(run("verify", bundle, "--data", spec, "--json"))
    assert result["passed"]
    image, _ = pixels(1, seed=9)
    Image.fromarray(image[0, :, :, 0]).save(tmp_path / "one.png")
    np.save(tmp_path / "raw.npy", image)
    np.save(tmp_path / "floats.npy", scaled(image, "0-1"))
    answers = [
        json.loads(run("predict", bundle, "--input", tmp_path / file,
                       "--teacher", "local", "--json"))
        for file in ("one.png", "raw.npy", "floats.npy")
    ]  # fmt: skip
    assert answers[1] == answers[2] == answers[0]
    with EdgeCascade.load(bundle) as edge:
        expected = edge.predict_alone(image).score[0]
    (row,) = answers[0]["rows"]
    assert row["score"] == pytest.approx(expected)


def test_integers(saved, run, tmp_path):
    cascade, spec = saved
    bundle = tmp_path / "bundle"
    options = ["export", cascade, "--data", spec, "--output", bundle]
    options += ["--quantization", "int8", "--io-type", "int8"]
    with pytest.raises(ExportError, match=r"LiteRT.js, of the target 'browser"):
        run(*options, "--target", "browser")
    assert not bundle.exists()
    run(*options, "--target", "microcontroller")
    assert Bundle.load(bundle).student_inputs[0]["dtype"] == "int8"
    assert json.loads(run("verify", bundle, "--data", spec, "--json"))["passed"]

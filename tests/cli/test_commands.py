"""Commands in this process, and their errors in a separate one."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import keras_cascade as kc
from keras_cascade.bundle import BundleError
from keras_cascade.cli.saved_cascade import parse_operating_point
from tests.helpers.command_line import COMMANDS, save_model


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(run, command):
    text = run(command, "--help")
    assert f"Example: keras-cascade {command}" in " ".join(text.split())


def test_train_to_predict_step_by_step(run, points, tmp_path):
    teacher = save_model(tmp_path / "teacher.keras")
    student = save_model(tmp_path / "student.keras")
    cascade, bundle = tmp_path / "c.keras", tmp_path / "bundle"
    trained = json.loads(
        run(
            "train",
            "--data",
            points,
            "--teacher",
            teacher,
            "--student",
            student,
            "--output",
            cascade,
            "--epochs",
            2,
            "--json",
        )
    )
    assert 0 <= trained["cascade_accuracy"] <= 1
    point = json.loads(
        run(
            "calibrate",
            cascade,
            "--data",
            points,
            "--objective",
            "max_delegation_rate=0.3",
            "--json",
        )
    )
    assert point["delegation_rate"] == pytest.approx(0.3, abs=0.01)
    measured = json.loads(run("evaluate", cascade, "--data", points, "--json"))
    exported = json.loads(
        run(
            "export",
            cascade,
            "--data",
            points,
            "--output",
            bundle,
            "--onnx",
            "--operating-point",
            "half:max_delegation_rate=0.6@0.9",
            "--json",
        )
    )
    assert exported["decision_flips"] == 0
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert set(manifest["onnx"]) == {"student", "teacher"}
    (_, half) = manifest["operating_points"]
    assert half["name"] == "half"
    assert half["confidence"] == 0.9
    with pytest.raises(ValueError, match="--operating-point NAME:OBJECTIVE"):
        parse_operating_point("half=0.5")
    assert exported["threshold"] == point["threshold"]
    assert exported["delegation_rate"] == point["delegation_rate"]
    assert measured["delegation_rate"] == pytest.approx(0.3, abs=0.15)
    np.save(tmp_path / "x.npy", np.ones((3, 6), "float32"))
    answer = json.loads(
        run(
            "predict",
            bundle,
            "--input",
            tmp_path / "x.npy",
            "--teacher",
            "local",
            "--json",
        )
    )
    assert len(answer["rows"]) == 3
    assert {row["source"] for row in answer["rows"]} <= {"edge", "cloud"}
    table = run(
        "predict", bundle, "--input", tmp_path / "x.npy", "--teacher", "local"
    )
    assert "source" in table


def test_reference_models_and_an_image(run, tmp_path):
    cascade, bundle = tmp_path / "c.keras", tmp_path / "bundle"
    run(
        "train",
        "--data",
        "digits",
        "--output",
        cascade,
        "--epochs",
        1,
        "--distillation",
        "standard",
    )
    run("export", cascade, "--data", "digits", "--output", bundle)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    answer = json.loads(
        run(
            "predict",
            bundle,
            "--input",
            tmp_path / "a.png",
            "--teacher",
            "local",
            "--json",
        )
    )
    assert answer["rows"][0]["name"] in [str(c) for c in range(10)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "digits", "--output", "c.h5"], "ends in '.keras'"),
        (["train", "--data", "nope", "--output", "c.keras"], "data spec"),
        (["evaluate", "nope.keras", "--data", "digits"], "none at 'nope"),
        (["demo", "--dataset", "csv:nope"], "expected a CSV file"),
        (["demo", "--distillation", "magic"], "Received: 'magic'"),
        (["serve", "nope"], "There is none at 'nope'"),
    ],
)
def test_bad_input_is_a_value_error(
    run, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(*arguments)
    assert not list(tmp_path.glob("*.keras"))


def test_models_that_do_not_fit(run, points, tmp_path):
    good = save_model(tmp_path / "good.keras")
    five = save_model(tmp_path / "five.keras", classes=5)
    three = save_model(tmp_path / "three.keras", classes=3)
    one = save_model(tmp_path / "one.keras", classes=1, activation="softmax")

    def train(teacher, student):
        run(
            "train",
            "--data",
            points,
            "--teacher",
            teacher,
            "--student",
            student,
            "--output",
            tmp_path / "c.keras",
        )

    with pytest.raises(ValueError, match="teacher 5, student 4"):
        train(five, good)
    with pytest.raises(ValueError, match="a softmax over one output"):
        train(good, one)
    with pytest.raises(ValueError, match="Expected labels from 0 to 2"):
        train(three, three)
    with pytest.raises(ValueError, match="to hold a cascade"):
        run("evaluate", good, "--data", points)
    assert not (tmp_path / "c.keras").exists()


@pytest.mark.parametrize(
    "objective", ["max_accuracy_drop", "nope=1", "min_accuracy=2", ""]
)
def test_bad_objectives(run, points, tmp_path, objective):
    from keras_cascade.cli.saved_cascade import parse_objective

    with pytest.raises(ValueError, match="--objective NAME=NUMBER"):
        parse_objective(objective)


@pytest.mark.parametrize("content", [b"", b"junk", b"\x93NUMPY\x01\x00junk"])
@pytest.mark.parametrize("name", ["x.npy", "x.NPY", "x.png"])
def test_unreadable_inputs(run, bundle_path, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.|Images are given"):
        run("predict", bundle_path, "--input", tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_unreadable_models_and_data(run, tmp_path, content):
    (tmp_path / "a.keras").write_bytes(content)
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="something else, or damaged"):
        run("evaluate", tmp_path / "a.keras", "--data", "digits")
    with pytest.raises(ValueError, match="plain arrays"):
        run(
            "train",
            "--data",
            f"npz:{tmp_path / 'a.npz'}",
            "--output",
            tmp_path / "c.keras",
        )


def test_images_are_read_in_the_range_that_the_models_take(tmp_path):
    from keras_cascade.cli.prediction import read_input

    def spec(top):
        return [{"shape": [None, 2, 2, 1], "range": [0.0, top]}]

    grey = np.full((2, 2), 128, np.uint8)
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    for name in ("8.png", "16.png"):
        ones = read_input(tmp_path / name, spec(1.0))
        np.testing.assert_allclose(ones, 128 / 255, atol=1e-6)
        bytes_ = read_input(tmp_path / name, spec(255.0))
        np.testing.assert_array_equal(bytes_, 128)
    around_zero = [{**spec(1.0)[0], "range": [-1, 1]}]
    np.testing.assert_allclose(
        read_input(tmp_path / "8.png", around_zero), 128 / 127.5 - 1, atol=1e-6
    )
    bytes_ = read_input(
        tmp_path / "8.png", [{**spec(255.0)[0], "dtype": "uint8"}]
    )
    assert bytes_.dtype == np.uint8 and (bytes_ == 128).all()
    with pytest.raises(ValueError, match="Prepare the input yourself"):
        read_input(tmp_path / "8.png", [{**spec(1.0)[0], "range": [-3, 1]}])


def test_nan_in_the_data_is_named_before_any_training(run, tmp_path):
    y = np.arange(80) % 4
    x = np.ones((80, 8, 8, 1), "float32")
    x[::7] = np.nan
    np.savez(tmp_path / "a.npz", x=x, y=y)
    with pytest.raises(ValueError, match="NaN or infinity in x"):
        run(
            "train",
            "--data",
            f"npz:{tmp_path / 'a.npz'}",
            "--output",
            tmp_path / "c.keras",
        )


def test_an_output_that_cannot_be_written_is_named_before_any_training(
    run, tmp_path
):
    (tmp_path / "dir.keras").mkdir()
    with pytest.raises(ValueError, match="a file that ends in"):
        run("train", "--data", "digits", "--output", tmp_path / "dir.keras")
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        run(
            "train",
            "--data",
            "digits",
            "--output",
            tmp_path / "file" / "c.keras",
        )


def run_in_process(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "keras_cascade.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_a_failure_is_one_line_and_status_1(tmp_path, bundle_path, request):
    np.save(tmp_path / "x.npy", np.zeros((40, 6), "float32"))
    taken = socket.create_server(("127.0.0.1", 0))
    request.addfinalizer(taken.close)
    port = taken.getsockname()[1]
    for arguments, words in (
        (["evaluate", "nope.keras", "--data", "digits"], "There is none at"),
        (
            [
                "predict",
                bundle_path,
                "--input",
                "x.npy",
                "--teacher",
                "http://127.0.0.1:9/v1/models/teacher",
            ],
            "The teacher does not answer at",
        ),
        (["predict", "nope", "--input", "x.npy"], "There is none at 'nope'"),
        (["serve", bundle_path, "--port", port], "cannot be used"),
    ):
        process = run_in_process(*arguments, cwd=tmp_path)
        assert process.returncode == 1
        assert process.stdout == ""
        (line,) = process.stderr.strip().splitlines()
        assert line.startswith("Error: ")
        assert words in line


def test_the_version(tmp_path):
    process = run_in_process("--version", cwd=tmp_path)
    assert process.returncode == 0
    assert process.stdout.strip() == kc.__version__


def test_bad_usage_is_status_2(tmp_path):
    process = run_in_process("evaluate", cwd=tmp_path)
    assert process.returncode == 2
    assert "Traceback" not in process.stderr


def test_success_writes_json_and_nothing_else(tmp_path, bundle_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 6), "float32"))
    process = run_in_process(
        "predict",
        bundle_path,
        "--input",
        "x.npy",
        "--on-failure",
        "answer",
        "--json",
        cwd=tmp_path,
    )
    assert process.returncode == 0
    assert process.stderr == ""
    assert len(json.loads(process.stdout)["rows"]) == 2


def test_predict_with_another_operating_point_and_a_token(
    run, bundle_path, tmp_path
):
    np.save(tmp_path / "x.npy", np.ones((1, 6), "float32"))
    arguments = [
        "predict",
        bundle_path,
        "--input",
        tmp_path / "x.npy",
    ]
    with pytest.raises(BundleError, match=r"out of \['default'\]"):
        run(*arguments, "--operating-point", "night")
    (tmp_path / "token").write_text("secret\n")
    with pytest.raises(ValueError, match="URL to go with"):
        run(
            *arguments, "--teacher", "local", "--token-file", tmp_path / "token"
        )
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="It is empty"):
        run(*arguments, "--token-file", tmp_path / "token")

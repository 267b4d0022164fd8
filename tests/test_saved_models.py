"""The reference bundles, as they are in the repository."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.cli.main import run as run_command
from keras_cascade.cli.prediction import read_input
from keras_cascade.export.tflite_file import operations
from keras_cascade.runtime import EdgeCascade

TOP = Path(__file__).parent.parent
FOLDER = TOP / "saved_models"
QUANTIZATIONS = {"fashion_mnist": "int8", "fashion_mnist_float32": "float32"}
BOOT = TOP / "tutorials" / "data" / "boot.png"
ANKLE_BOOT = 9
TEACHER_BYTES = 5_000_000
ALL_BYTES = 5_000_000


@pytest.fixture(params=QUANTIZATIONS)
def bundle(request):
    """One of the bundles; loading it checks every file's hash."""
    return Bundle.load(FOLDER / request.param)


def size(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_every_bundle_is_listed():
    found = {file.parent.name for file in FOLDER.glob("*/manifest.json")}
    assert found == set(QUANTIZATIONS)


def test_files(bundle):
    manifest = bundle.manifest
    assert (
        manifest["student"]["quantization"] == QUANTIZATIONS[bundle.path.name]
    )
    assert manifest["student"]["sha256"] == hash_file(bundle.student_file)
    assert manifest["student"]["bytes"] == bundle.student_file.stat().st_size
    assert bundle.classes[ANKLE_BOOT] == "ankle boot"
    assert 0 < size(bundle.teacher_folder) < TEACHER_BYTES
    assert operations(bundle.student_file.read_bytes())[1] == []


def test_sizes():
    assert size(FOLDER) < ALL_BYTES
    small, large = (
        (FOLDER / name / "student.tflite").stat().st_size
        for name in QUANTIZATIONS
    )
    assert small < large / 2


def test_one_teacher():
    hashes = [
        hash_file(
            FOLDER / name / "teacher/1/variables/variables.data-00000-of-00001"
        )
        for name in QUANTIZATIONS
    ]
    assert hashes[0] == hashes[1]


def test_the_numbers_are_worth_a_reference(bundle):
    point = bundle.operating_point()
    assert point["teacher_accuracy"] >= 0.92
    assert point["teacher_accuracy"] > point["student_accuracy"] + 0.01
    assert point["confidence"] == 0.95
    guarantee = next(
        p for p in point["guarantees"] if p["quantity"] == "accuracy_drop"
    )
    assert guarantee["at_most"] == 0.005
    assert point["accuracy_drop"] <= guarantee["at_most"]


def test_the_page_has_the_manifests_numbers(bundle):
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    header = re.search(r"^\| \|(.*)\|$", page, re.MULTILINE).group(1)
    column = [cell.strip(" `") for cell in header.split("|")].index(
        bundle.path.name
    )
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.splitlines()
        if line.startswith("| ") and line != f"| |{header}|"
    ]
    shown = [row[1 + column] for row in rows]
    point = bundle.operating_point()
    expected = [
        str(bundle.manifest["student"]["bytes"]),
        str(size(bundle.teacher_folder)),
        f"{point['threshold']:.6f}",
        *(
            f"{point[name]:.4f}"
            for name in (
                "delegation_rate", "student_accuracy", "teacher_accuracy",
                "accuracy", "accuracy_drop_bound", "amortized_cost",
            )
        ),
    ]  # fmt: skip
    assert shown[: len(expected)] == expected


def test_students_agree_on_the_boot():
    answers = []
    for name in QUANTIZATIONS:
        with EdgeCascade.load(FOLDER / name) as edge:
            boot = read_input(BOOT, edge.bundle.inputs)
            one = edge.predict_alone(boot)
            # A dynamic batch: each row answered as if it were alone.
            three = edge.predict_alone(np.repeat(boot, 3, axis=0))
        assert three.labels.tolist() == [one.labels[0]] * 3
        assert boot.shape == (1, 28, 28, 1)
        answers.append(one)
    assert [a.labels.tolist() for a in answers] == [[ANKLE_BOOT]] * 2
    int8, float32 = (a.probabilities for a in answers)
    np.testing.assert_allclose(int8, float32, atol=0.05)


def test_teacher_and_student_answer_together(bundle):
    rng = np.random.default_rng(0)
    # Between a boot and noise: what the student is sure of, and what not.
    boot = read_input(BOOT, bundle.inputs)
    share = np.linspace(0, 1, 16, dtype="float32").reshape(-1, 1, 1, 1)
    noise = rng.random((16, 28, 28, 1)).astype("float32")
    x = (1 - share) * boot + share * noise
    with EdgeCascade.load(bundle.path, teacher="local") as edge:
        found = edge.predict(x)
    delegated = found.score < np.float32(bundle.operating_point()["threshold"])
    assert 0 < delegated.sum() < 16
    assert (found.source == "cloud").tolist() == delegated.tolist()


def predict(name, teacher):
    return [
        "predict", str(FOLDER / name), "--input", str(BOOT), "--json",
        "--teacher", teacher,
    ]  # fmt: skip


@pytest.mark.parametrize("name", QUANTIZATIONS)
def test_predict_on_the_command_line(name, capsys):
    assert run_command(predict(name, "local")) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["name"] == "ankle boot"
    assert row["source"] in ("edge", "cloud")


def test_a_kept_row_loads_no_tensorflow():
    """A local teacher is loaded when it is asked, and no earlier."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "keras_cascade.cli",
         *predict("fashion_mnist", "local")],
        env={**os.environ, "KERAS_CASCADE_NATIVE_LOGS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["rows"][0]["source"] == "edge"
    imported = {
        line.split("|")[-1].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "keras_cascade.runtime" in imported
    assert not imported & {"tensorflow", "keras"}

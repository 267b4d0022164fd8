"""`keras-cascade calibrate`: objectives, confidence and costs."""

import json

import keras
import pytest

from keras_cascade.cli.saved_cascade import parse_objective
from keras_cascade.errors import ExportError
from tests.helpers.command_line import save_model


@pytest.fixture
def saved(run, points, tmp_path):
    teacher = save_model(tmp_path / "teacher.keras")
    student = save_model(tmp_path / "student.keras")
    file = tmp_path / "c.keras"
    run(
        "train", "--data", points, "--teacher", teacher, "--student", student,
        "--output", file, "--epochs", 1,
    )  # fmt: skip
    return file


def test_guarantees_and_costs(run, points, saved):
    arguments = (
        "calibrate", saved, "--data", points, "--confidence", 0.9,
        "--objective", "max_accuracy_drop=0.2", "--objective", "max_cost=0.9",
        "--costs", "0.1,0.5,0.3,EUR",
    )  # fmt: skip
    point = json.loads(run(*arguments, "--json"))
    assert point["guarantees"] == [
        {"quantity": "accuracy_drop", "at_most": 0.2, "confidence": 0.9},
        {"quantity": "amortized_cost", "at_most": 0.9, "confidence": 0.9},
    ]
    assert point["confidence"] == pytest.approx(0.8)
    rate = point["delegation_rate"]
    assert point["amortized_cost"] == pytest.approx(0.1 + rate * 0.8)
    table = run(*arguments)
    assert "at most 20.00 points less accurate" in " ".join(table.split())
    costs = keras.models.load_model(saved).costs
    assert (costs.network, costs.unit) == (0.3, "EUR")


def test_costs_that_are_timed_or_counted(run, points, saved):
    for costs, unit in (("latency,20", "ms"), ("flops", "teacher passes")):
        run(
            "calibrate", saved, "--data", points, "--costs", costs,
            "--objective", "max_delegation_rate=0.3",
        )  # fmt: skip
        assert keras.models.load_model(saved).costs.unit == unit


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--costs", "cheap"), "Expected --costs flops"),
        (("--costs", "1,x,EUR"), "Expected --costs flops"),
        (("--costs", "1,2,3,4,EUR"), "Expected --costs flops"),
        (("--costs", "1,0,EUR"), "teacher cost > 0"),
        (("--confidence", "2"), "Expected --objective"),
        (("--objective", "max_cost=0.0001"), "the student alone costs"),
    ],
)
def test_bad_options(run, points, saved, options, message):
    before = saved.read_bytes()
    with pytest.raises(ValueError, match=message):
        run("calibrate", saved, "--data", points, *options)
    assert saved.read_bytes() == before


def test_a_quantized_export(run, points, saved, tmp_path):
    run("calibrate", saved, "--data", points, "--objective", "min_accuracy=0")
    output = tmp_path / "bundle"
    arguments = ("export", saved, "--data", points, "--output", output)
    with pytest.raises(ValueError, match="int2"):
        run(*arguments, "--quantization", "int2")
    with pytest.raises(ExportError, match="No layer of the student"):
        run(*arguments, "--quantization", "int4")
    assert not output.exists()
    run(*arguments, "--quantization", "dynamic")
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["student"]["quantization"] == "dynamic"


@pytest.mark.parametrize(
    "text, expected",
    [
        ("min_recall=spam:0.9", "MinRecall('spam', 0.9, confidence=0.95)"),
        ("min_precision=3:0.9", "MinPrecision(3, 0.9, confidence=0.95)"),
        (
            "max_false_alarm_rate=a:b:0.01",
            "MaxFalseAlarmRate('a:b', 0.01, confidence=0.95)",
        ),
    ],
)
def test_objectives_on_a_class(text, expected):
    assert repr(parse_objective(text, 0.95)) == expected


@pytest.mark.parametrize(
    "text, expected",
    [
        ("max_expected_loss=0.1", "MaxExpectedLoss(0.1, confidence=0.95)"),
        ("max_loss_increase=0.02", "MaxLossIncrease(0.02, confidence=0.95)"),
    ],
)
def test_objectives_on_losses(text, expected):
    assert repr(parse_objective(text, 0.95)) == expected


def test_a_cost_matrix_is_read_from_a_file(tmp_path):
    file = tmp_path / "costs.csv"
    file.write_text("0, 1\n5, 0\n")
    objective = parse_objective(f"max_expected_cost={file}:0.25")
    assert objective.matrix == [[0, 1], [5, 0]]
    assert objective.max_cost == 0.25


@pytest.mark.parametrize(
    "text, form",
    [
        ("min_recall=0.9", "min_recall=CLASS:NUMBER"),
        ("min_precision=a:", "min_precision=CLASS:NUMBER"),
        ("max_expected_cost=none.csv:1", "max_expected_cost=FILE.csv:NUMBER"),
    ],
)
def test_objectives_without_their_subject_are_refused(text, form):
    with pytest.raises(ValueError, match=f"Expected --objective {form}"):
        parse_objective(text)

"""Commands on texts: from a CSV file to a bundle and predictions."""

import csv
import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from keras_cascade.cli import demo, reference_models, saved_cascade
from keras_cascade.cli.main import app
from tests.helpers.teacher_accuracies import check_equal, teacher_accuracies
from tests.helpers.texts import make_texts

NAMES = ("card", "exchange", "top up")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    """A CSV file with the columns `text` and `label`."""
    file = tmp_path_factory.mktemp("texts") / "questions.csv"
    texts, labels = make_texts(400, 5)
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(
            (text, NAMES[label])
            for text, label in zip(texts, labels, strict=True)
        )
    return file


@pytest.fixture(scope="module")
def shown(questions, tmp_path_factory):
    """The demo's folder and report."""
    output = tmp_path_factory.mktemp("demo")
    small = reference_models.Settings(16, 4, 12, 8, 30, 0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_models.TextReferences, "settings", small)
        report = demo.run_demo(
            f"csv:{questions}", output, Console(quiet=True), overwrite=True
        )
    return output, report


def test_the_demo(shown):
    output, report = shown
    assert report["decision_flips"] == 0
    assert 0 < report["delegation_rate"] < 1
    assert report["cascade_accuracy"] > 0.5
    page = (output / "report.html").read_text(encoding="utf-8")
    for mistake in report["mistakes"][:1]:
        assert "?" in page and NAMES[mistake["label"]] in page


def test_texts_are_answered(shown):
    bundle = str(shown[0] / "bundle")
    run = CliRunner().invoke(
        app,
        ["predict", bundle, "--text", "my card was stolen", "--text", "a",
         "--teacher", "local", "--json"],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    rows = json.loads(run.stdout)["rows"]
    assert len(rows) == 2 and {row["name"] for row in rows} <= set(NAMES)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "either --input FILE or --text TEXT"),
        (["--text", " "], "white space alone in row 0"),
        (["--text", "a", "--input", "x.npy"], "Received: both"),
        (["--input", __file__], "This bundle takes texts"),
    ],
)
def test_invalid_inputs(shown, arguments, message):
    run = CliRunner().invoke(
        app, ["predict", str(shown[0] / "bundle"), *arguments]
    )
    assert run.exit_code != 0
    assert message in " ".join(str(run.exception or run.output).split())


def test_train_calibrate_export_verify(questions, run, tmp_path):
    spec, file = f"csv:{questions}", tmp_path / "cascade.keras"
    saved_cascade.train(
        spec, file, None, None, "standard", 8, 0, Console(quiet=True)
    )
    saved_cascade.calibrate(
        file, spec, ["max_delegation_rate=0.3"], None, None, 0
    )
    assert 0 <= saved_cascade.evaluate(file, spec, 0)["cascade_accuracy"] <= 1
    exported = saved_cascade.export(
        file, spec, tmp_path / "b", False, "dynamic", [], False, 0
    )
    assert exported["student_bytes"] > 0
    check_equal(
        teacher_accuracies(
            run, file, tmp_path / "b", ["--data", spec], tmp_path
        )
    )


def test_texts_that_repeat_themselves(tmp_path):
    """As the chats of any help desk do: here 8 % are the same."""
    file, spec = tmp_path / "chats.csv", f"csv:{tmp_path / 'chats.csv'}"
    texts, labels = make_texts(240, 7)
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, labels, strict=True))
        writer.writerows([["ok thanks", 0]] * 20)
    cascade = tmp_path / "c.keras"
    console = Console(quiet=True)
    saved_cascade.train(spec, cascade, None, None, "standard", 1, 0, console)
    saved_cascade.calibrate(
        cascade, spec, ["max_delegation_rate=0.5"], None, None, 0
    )
    assert "cascade_accuracy" in saved_cascade.evaluate(cascade, spec, 0)

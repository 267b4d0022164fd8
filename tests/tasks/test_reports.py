"""Summaries and reports of a task's results: they name its loss."""

import json

import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.evaluation.report import write_report
from tests.helpers.report_examples import bounds_of, operating_point, report_of
from tests.helpers.trained_task_cascades import TASKS, cascade, labelled


@pytest.mark.parametrize("kind", ["multilabel", "pixels"])
def test_a_report_names_the_loss(kind, tmp_path):
    made = cascade(kind)
    results = made.judge(labelled(kind, 200, seed=3))
    threshold = float(np.median(results.scores))
    summary = kc.evaluation.summarize(results, threshold)
    delegated = results.scores < threshold
    right = np.where(
        delegated, results.teacher_correct, results.student_correct
    )
    assert summary["at_threshold"]["accuracy"] == pytest.approx(right.mean())
    reason = "the task is not one class per example"
    assert summary["undefined"]["per_class"] == reason

    report = report_of(
        results,
        operating_point(threshold),
        bounds_of(made.judge(labelled(kind, 200, seed=2))),
        class_names=[],
    )
    page = write_report(tmp_path, report, results).read_text("utf-8")
    words = " ".join(page.split())
    assert f"Accuracy is 100 % less the {TASKS[kind].loss_name}." in words
    assert words.count(f"Undefined: {reason}.") == 2  # mistakes and classes
    assert "the labels are not known" not in words
    assert (tmp_path / "deferral_curve.png").stat().st_size > 10_000
    written = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert written["loss_name"] == TASKS[kind].loss_name

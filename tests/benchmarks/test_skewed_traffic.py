"""The arithmetic of `benchmarks.skewed_traffic`, and one small run of it."""

import keras
import numpy as np
import pytest
from scipy import stats

import keras_cascade as kc
from benchmarks.banking77 import Banking77
from benchmarks.skewed_traffic import task as tasks
from benchmarks.skewed_traffic.comparison import (
    BEST_BASELINE,
    OWN_GATE,
    compared,
    paired,
    tuned,
)
from benchmarks.skewed_traffic.contenders import (
    ABSTAIN,
    CLASS_SPECIFIC,
    CROSS_ENTROPY,
    T1,
    LabelSmoothing,
    contenders,
)
from benchmarks.skewed_traffic.one_run import (
    accuracies_at,
    run,
    signed_margin,
)
from benchmarks.skewed_traffic.page import page


def small_task():
    """Six classes, of which the first two make 80 % of the traffic."""
    rng = np.random.default_rng(0)

    def part(rows):
        labels = np.arange(rows, dtype="int32") % 6
        token_ids = rng.integers(20, 40, (rows, 8)).astype("int32")
        token_ids[:, 0] = 2 + labels
        logits = 4.0 * np.eye(6, dtype="float32")[labels]
        return tasks.Part(token_ids, labels, logits)

    return tasks.Task(
        seed=0,
        head=[0, 1],
        mix=kc.TrafficMix([0.4, 0.4, 0.05, 0.05, 0.05, 0.05]),
        words=40,
        classes=6,
        teacher="from scratch",
        train=part(600),
        validation=part(60),
        test=part(60),
    )


def test_paired_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    one, other = rng.random((5, 3)), rng.random((5, 3))
    for place, found in enumerate(paired(one, other)):
        test = stats.ttest_rel(100 * one[:, place], 100 * other[:, place])
        low, high = test.confidence_interval(0.95)
        assert found["low"] == pytest.approx(low)
        assert found["high"] == pytest.approx(high)
        assert found["difference"] == pytest.approx((low + high) / 2)


def test_signed_margin_is_the_margin_of_the_top_class():
    logits = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
    probabilities = np.asarray(keras.ops.softmax(logits))
    gate = kc.gates.MarginGate()
    np.testing.assert_allclose(
        signed_margin(probabilities, logits.argmax(axis=1)),
        np.asarray(gate(logits)),
        atol=1e-6,
    )
    # Abstaining is at 0.6, the answer at 0.3.
    found = signed_margin(np.array([[0.3, 0.1, 0.6]]), np.array([0]))
    assert found[0] == pytest.approx(-0.3)


def test_accuracies_at_the_rates():
    # Ten rows in the order of their scores; the student has the five lowest
    # wrong, the teacher none: every delegated row mends one.
    right = np.arange(10) >= 5
    found = accuracies_at(
        np.arange(10.0), right, np.ones(10, bool), np.ones(10)
    )
    assert found == pytest.approx([0.6, 0.7, 0.8])


def test_label_smoothing_targets():
    policy = LabelSmoothing(0.3)
    targets = policy.targets([1], keras.ops.zeros((1, 3)))
    # 0.7 on the label, and 0.3 / 3 on every class.
    np.testing.assert_allclose(np.asarray(targets), [[0.1, 0.8, 0.1]])


def test_tuned_on_validation_alone():
    def at(validation, test):
        return {"validation": [validation] * 3, "test": [test] * 3}

    runs = {
        (CROSS_ENTROPY, ""): {5: {"margin": at(0.6, 0.9)}},
        (T1, ""): {
            5: {"margin": at(0.5, 0.1)},
            10: {"margin": at(0.7, 0.2)},
        },
        (CLASS_SPECIFIC, "a"): {5: {"margin": at(0.8, 0.3)}},
        (CLASS_SPECIFIC, "b"): {5: {"margin": at(0.7, 0.9)}},
        (ABSTAIN, ""): {5: {"margin": at(0.4, 0.4), "abstain": at(0.9, 0.5)}},
    }
    picks = tuned(runs)
    assert picks[T1]["epochs"] == 10
    assert picks[BEST_BASELINE]["family"] == T1
    assert picks[CLASS_SPECIFIC]["setting"] == "a"
    assert picks[ABSTAIN]["test"] == [0.4] * 3
    assert picks[OWN_GATE]["test"] == [0.5] * 3


def test_students_learn_and_the_page_says_so():
    task = small_task()
    every = {
        (family, setting): policy
        for family, settings in contenders(task.head).items()
        for setting, policy in settings.items()
    }
    # 1 + 3 + 1 + 1, five α at two T, and two abstain students.
    assert len(every) == 6 + 10 + 2
    runs = {name: _fake(name) for name in every}
    real = (T1, "")
    runs[real] = run(task, every[real], 4, (10, 20))
    # The first word is the label: a bag of words can learn it all.
    assert np.mean(runs[real][20]["margin"]["test"]) > 0.95
    abstain = (ABSTAIN, "T=1")
    runs[abstain] = run(task, every[abstain], 4, (20,))
    assert set(runs[abstain][20]) == {"margin", "abstain"}
    result = compared([runs, runs])
    text = page(
        {
            "teacher": "from scratch",
            "teacher_accuracy": 1.0,
            "widths": {"4": result},
            "rates": (0.1, 0.2, 0.3),
            "seeds": 2,
            "head_classes": 2,
            "head_traffic": 0.8,
            "examples": {"train": 600, "validation": 60, "test": 60},
            "date": "2026-01-01",
        }
    )
    # Twice the same seed: the interval is a point, and below the baseline.
    assert "above it in 0 of 3 intervals, below it in 3" in text
    assert "at 10/20/30 % delegation" in text


def _fake(name):
    accuracies = {"validation": [0.2] * 3, "test": [0.2] * 3}
    gates = ["margin", "abstain"] if name[0] == ABSTAIN else ["margin"]
    return {20: dict.fromkeys(gates, accuracies)}


def test_task_from_texts(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"word{number}" for number in range(12)]
    labels = np.arange(240, dtype="int32") % 3

    def texts(of):
        return [
            f"class{label} {' '.join(rng.choice(words, 3))}" for label in of
        ]

    data = Banking77(
        texts(labels), labels, texts(labels[:30]), labels[:30], list("abc")
    )
    original = tasks.text_teacher
    monkeypatch.setattr("benchmarks.text_teacher.FOLDS", 2)
    monkeypatch.setattr(tasks, "HEAD_CLASSES", 1)
    monkeypatch.setattr(
        tasks,
        "text_teacher",
        lambda *args: original(*args, scratch=True),
    )
    task = tasks.make_task(data, seed=0)
    assert task.teacher == "from scratch"
    # 60 of 240 are held out; the teacher has a word that names the class.
    assert [len(p.labels) for p in (task.train, task.validation)] == [180, 60]
    for part in (task.train, task.validation, task.test):
        right = part.teacher_logits.argmax(axis=1) == part.labels
        assert right.mean() > 0.9
    weights = task.mix.weights(task.test.labels)
    inside = np.isin(task.test.labels, task.head)
    assert weights[inside].sum() / weights.sum() == pytest.approx(0.8)

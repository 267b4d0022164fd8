"""Metrics of qualities that are fractions, against loops and definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.bootstrap import ResampledCurve
from keras_cascade.evaluation.report.mistakes import hardest_mistakes
from keras_cascade.evaluation.report.numbers import slider_values
from keras_cascade.evaluation.teacher_remarks import teacher_remarks

seeds = st.integers(0, 10_000)


def qualities(seed, n=40, digits=1):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), digits)
    student = np.round(np.clip(scores + rng.normal(0, 0.2, n), 0, 1), 2)
    teacher = np.round(np.clip(0.8 + rng.normal(0, 0.2, n), 0, 1), 2)
    return scores, student, teacher, rng.integers(1, 4, n).astype(float)


def area(rates, values):
    order = np.argsort(rates, kind="stable")
    return np.trapezoid(np.asarray(values)[order], np.asarray(rates)[order])


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_the_curve_is_the_mean_quality_of_the_answers(seed):
    scores, student, teacher, weight = qualities(seed)
    curve = kc.evaluation.deferral_curve(scores, student, teacher, weight)
    for index, threshold in enumerate(curve.thresholds):
        delegated = scores < threshold
        answer = np.where(delegated, teacher, student)
        assert curve.accuracy[index] == pytest.approx(
            np.average(answer, weights=weight)
        )
        assert curve.delegation_rate[index] == pytest.approx(
            np.average(delegated, weights=weight)
        )


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_no_order_of_delegation_is_above_the_oracle(seed):
    scores, student, teacher, weight = qualities(seed)
    oracle = kc.evaluation.oracle_curve(student, teacher, weight)
    # The largest sum of gains of a weight is that of the largest gains.
    gain = teacher - student
    order = np.argsort(-gain)
    reached = np.cumsum((weight * gain)[order]) / weight.sum()
    rates = np.cumsum(weight[order]) / weight.sum()
    assert np.interp(rates, oracle.delegation_rate, oracle.accuracy) == (
        pytest.approx(oracle.student_accuracy + reached)
    )
    score = kc.evaluation.deferral_score(scores, student, teacher, weight)
    assert score <= 1 + 1e-12
    ideal = kc.evaluation.deferral_score(-gain, student, teacher, weight)
    assert ideal == pytest.approx(1)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_resamples_measure_as_the_functions_do(seed):
    scores, student, teacher, weight = qualities(seed)
    curve = ResampledCurve(scores, student, teacher, weight, [0.3], 0.45)
    counts = np.random.default_rng(seed).integers(0, 3, (4, len(scores)))
    measured = curve.measure(counts)
    for row, count in enumerate(counts):
        columns = scores, student, teacher, weight * count
        assert measured["score"][row] == pytest.approx(
            kc.evaluation.deferral_score(*columns)
        )
        one = kc.evaluation.deferral_curve(*columns)
        assert measured["area"][row] == pytest.approx(
            kc.evaluation.deferral_area(one)
        )
        answer = np.where(scores < 0.45, teacher, student)
        assert measured["accuracy"][row] == pytest.approx(
            np.average(answer, weights=weight * count)
        )


def test_bootstrap_intervals_of_a_mean_are_no_exact_ones_of_a_share():
    scores, student, teacher, _ = qualities(1, 400, digits=6)
    measured = kc.evaluation.bootstrap_curve(
        scores, student, teacher, threshold=0.4, resamples=2_000
    )
    answer = np.where(scores < 0.4, teacher, student)
    interval = measured["accuracy"]
    assert interval["value"] == pytest.approx(answer.mean())
    # The normal interval of a mean; Clopper and Pearson's is twice as wide.
    half = 1.96 * answer.std() / 20
    assert interval["low"] == pytest.approx(answer.mean() - half, abs=0.003)
    assert interval["high"] == pytest.approx(answer.mean() + half, abs=0.003)


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_selective_metrics_are_means_over_accepted_examples(seed):
    scores, student, teacher, weight = qualities(seed)
    selective = kc.evaluation.selective_accuracy(
        scores, student, teacher, weight
    )
    for index, threshold in enumerate(selective.thresholds):
        kept = scores >= threshold
        assert selective.student_accuracy[index] == pytest.approx(
            np.average(student[kept], weights=weight[kept])
        )
    # Distinct scores: the mean risk of the k surest, over k.
    distinct = np.random.default_rng(seed).permutation(len(scores)) / 100
    losses = (1 - student)[np.argsort(-distinct)]
    risks = np.cumsum(losses) / np.arange(1, len(losses) + 1)
    assert kc.evaluation.aurc(distinct, student) == pytest.approx(risks.mean())
    silent = np.append(0, np.cumsum(losses)) / len(losses)
    assert kc.evaluation.augrc(distinct, student) == pytest.approx(
        area(np.linspace(0, 1, len(silent)), silent)
    )


def test_delegating_helps_where_the_teacher_is_better():
    scores, student, teacher, _ = qualities(3)
    helps = teacher > student
    pairs = [
        (low < high) + 0.5 * (low == high)
        for low in scores[helps]
        for high in scores[~helps]
    ]
    assert kc.evaluation.auroc_delegating_helps(
        scores, student, teacher
    ) == pytest.approx(np.mean(pairs))
    with pytest.raises(UndefinedMetricError, match="fraction"):
        kc.evaluation.auroc_student_right(scores, student)


def test_classes_have_mean_qualities():
    rows = kc.evaluation.per_class(
        [0, 0, 1], [0.5, 0.7, 1.0], [True, True, False], [False, True, False]
    )
    assert rows[0]["student_accuracy"] == pytest.approx(0.6)
    assert rows[0]["cascade_accuracy"] == pytest.approx(0.75)
    assert rows[1]["teacher_accuracy"] == 0


def test_a_summary_says_what_is_undefined():
    scores, student, teacher, weight = qualities(5, 200)
    results = kc.evaluation.ExampleResults(
        scores, student, teacher, weight, student_confidence=scores,
        loss_name="Hamming loss",
    )  # fmt: skip
    summary = kc.evaluation.summarize(results, 0.4, resamples=100)
    answer = np.where(scores < 0.4, teacher, student)
    at = summary["at_threshold"]
    assert at["accuracy"] == pytest.approx(np.average(answer, weights=weight))
    kept = scores >= 0.4
    assert at["student_accuracy_accepted"] == pytest.approx(
        np.average(student[kept], weights=weight[kept])
    )
    assert summary["calibration"] is None
    assert "fraction" in summary["undefined"]["calibration"]
    assert summary["auroc"]["student_right"] is None
    assert "fraction" in summary["undefined"]["auroc.student_right"]
    assert summary["bootstrap"]["score"]["value"] == pytest.approx(
        summary["deferral"]["score"]
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_a_comparison_of_equals_shows_no_difference(weighted):
    scores, student, teacher, weight = qualities(6, 200)
    one = kc.evaluation.ExampleResults(
        scores, student, teacher, weight if weighted else None
    )
    worse = kc.evaluation.ExampleResults(
        scores, 0.8 * student, teacher, weight if weighted else None
    )
    same = kc.evaluation.compare(one, one, (0.4, 0.4), resamples=100)
    assert not any(row["differs"] for row in same["differences"])
    other = kc.evaluation.compare(one, worse, (0.4, 0.4), resamples=100)
    rows = {row["quantity"]: row for row in other["differences"]}
    kept = 1.0 * (scores >= 0.4)
    lost = 0.2 * student * kept
    average = np.average(lost, weights=weight if weighted else None)
    assert rows["accuracy"]["difference"] == pytest.approx(average)
    assert rows["accuracy"]["differs"]
    assert not rows["delegation_rate"]["differs"]


def test_remarks_and_reports():
    scores, student, teacher, _ = qualities(7, 100)
    results = kc.evaluation.ExampleResults(
        scores, student, teacher, labels=np.arange(100) % 2,
        student_labels=np.zeros(100, int), student_confidence=scores,
    )  # fmt: skip
    assert teacher_remarks(results) == []
    mistakes = hardest_mistakes(results, 0.5, most=100)
    rows = sorted(one["row"] for one in mistakes)
    expected = np.flatnonzero((student < 1) & (scores >= 0.5))
    assert rows == expected.tolist()
    bounds = kc.calibration.SimultaneousBounds(scores, student, teacher)
    guarantees = [
        {"quantity": "expected_loss", "at_most": 0.1, "confidence": 0.95},
        {"quantity": "loss_increase", "at_most": 0.1, "confidence": 0.95},
    ]
    values = slider_values(results, 0.5, guarantees, bounds=bounds)
    assert [one["stands"] for one in values["guarantees"]] == ["above"] * 2
    assert max(values["accuracy_drop_bound"]) <= 1


def test_the_plot_is_of_the_loss_where_it_has_a_name():
    scores, student, teacher, _ = qualities(8)
    curve = kc.evaluation.deferral_curve(
        scores, student, teacher, loss_name="Hamming loss"
    )
    axes = curve.plot(point=(0.5, 0.8))
    assert axes.get_ylabel() == "Hamming loss"
    steps = axes.get_lines()[0].get_ydata()
    np.testing.assert_allclose(steps, 1 - curve.accuracy)
    plain = kc.evaluation.deferral_curve(scores, student, teacher).plot()
    assert plain.get_ylabel() == "accuracy (%)"

"""AURC over every order of the ties, AUGRC over every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from keras_cascade.evaluation import augrc, aurc
from tests.helpers.example_columns import columns, orders, repeated


@given(columns(max_rows=6, weights="none"))
@settings(max_examples=60, deadline=None)
def test_aurc_is_the_mean_over_all_orders_of_tied_examples(case):
    scores, student, _, _ = case
    risks = []
    for order in orders(-scores):
        wrong = np.cumsum(~student[order])
        risks.append(np.mean(wrong / np.arange(1, len(order) + 1)))
    assert aurc(scores, student) == pytest.approx(np.mean(risks), abs=1e-12)


@given(columns())
@settings(max_examples=200, deadline=None)
def test_weighted_aurc_by_hand(case):
    scores, student, _, weight = case
    found = aurc(scores, student, weight)
    weight = np.ones(len(scores)) if weight is None else weight
    kept = wrong = area = 0.0
    for score in sorted(set(scores[weight > 0]), reverse=True):
        tied = (scores == score) & (weight > 0)
        for _ in range(tied.sum()):
            step = weight[tied].mean()
            kept += step
            wrong += (weight * ~student)[tied].mean()
            area += step * wrong / kept
    assert found == pytest.approx(area / weight.sum(), abs=1e-12)


@given(columns())
@settings(max_examples=200, deadline=None)
def test_augrc_is_a_mean_over_pairs(case):
    # Draw an example and, on its own, another whose score is the threshold:
    # the first is wrong and kept. Of equal scores, half is kept.
    scores, student, _, weight = case
    found = augrc(scores, student, weight)
    weight = np.ones(len(scores)) if weight is None else weight
    kept = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = weight[:, None] * weight
    expected = (pairs * kept * ~student[:, None]).sum() / pairs.sum()
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 <= found <= 0.5


@given(columns(max_rows=40))
@settings(max_examples=200, deadline=None)
def test_augrc_from_auroc(case):
    # arXiv 2407.01032: (1 - AUROC) acc (1 - acc) + (1 - acc)² / 2.
    scores, student, _, weight = case
    found = augrc(scores, student, weight)
    scores, student, _ = repeated(scores, student, student, weight)
    accuracy = student.mean()
    if 0 < accuracy < 1:
        overlap = (1 - roc_auc_score(student, scores)) * accuracy
    else:
        overlap = 0
    expected = overlap * (1 - accuracy) + (1 - accuracy) ** 2 / 2
    assert found == pytest.approx(expected, abs=1e-12)


@given(columns(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_and_scale_do_not_matter(case, random):
    scores, student, _, weight = case
    order = list(range(len(scores)))
    random.shuffle(order)
    weight = np.ones(len(scores)) if weight is None else weight
    for metric in (aurc, augrc):
        assert metric(scores, student, weight) == pytest.approx(
            metric(scores[order], student[order], 7 * weight[order]), abs=1e-12
        )


@pytest.mark.parametrize("metric", [aurc, augrc])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "at least one example"),
        (([np.nan, 1], [1, 1]), "NaN or infinity in 1 of 2"),
        (([0.1, 0.2], [1]), "equally long"),
        (([0.1], [1.5]), "hold booleans"),
        (([0.1], [1], [0.0]), "sample_weight"),
    ],
)
def test_bad_input(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)

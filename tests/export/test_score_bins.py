"""Score bins are valid for any scores and robust to rounding."""

import json

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from keras_cascade.export.score_bins import score_bins

numbers = st.floats(-1e6, 1e6, width=32)
tied = st.sampled_from([-0.5, 0.0, 0.25, 1.0])


@given(
    st.lists(numbers, min_size=1, max_size=200)
    | st.lists(tied, min_size=1, max_size=200),
    numbers,
)
def test_any_scores(scores, threshold):
    scores = np.array(scores, dtype="float32")
    bins = score_bins(scores, threshold)
    assert (np.diff(bins["edges"]) > 0).all()
    assert len(bins["edges"]) <= 49
    assert len(bins["counts"]) == len(bins["edges"]) + 1
    assert sum(bins["counts"]) == len(scores) - len(scores) // 2
    assert bins["examples"] == len(scores)
    assert bins["delegated"] == sum(s < np.float32(threshold) for s in scores)
    assert json.loads(json.dumps(bins, allow_nan=False)) == bins
    assert score_bins(scores, threshold) == bins


def test_the_counted_are_not_those_that_placed_the_edges():
    scores = np.random.default_rng(0).normal(size=4000)
    bins = score_bins(scores, 0.0)
    assert len(bins["counts"]) == 50
    assert sum(bins["counts"]) == 3000
    # 1000 examples place edges, 1/48 of them in a bin. The bin's true share
    # then has the variance 1/48/1000, and 3000 fresh examples fall into it
    # with the mean 62.5 and the variance 62.5 + 3000 ** 2 / 48 / 1000 = 250:
    # 4 times the mean, give or take 20 % (48 bins). Were examples counted
    # that placed the edges, it would be near 0.
    counts = np.array(bins["counts"][1:-1])
    assert 2.0 < counts.var() / counts.mean() < 7.0


def test_more_examples_are_counted_than_place_edges():
    bins = score_bins(np.random.default_rng(0).random(10_000), 0.5)
    assert sum(bins["counts"]) == 9000
    # The edges are the quantiles of 1000 uniform draws: k/48, with a standard
    # error of at most 0.016.
    inner = np.array(bins["edges"][:-1])
    np.testing.assert_allclose(inner, np.arange(48) / 48, atol=0.08)


def test_another_processors_rounding_changes_no_bin():
    rng = np.random.default_rng(0)
    values = np.round(rng.random(150), 3).astype("float32")
    scores = rng.choice(np.r_[values, np.float32(1.0)], 3000)
    edges = score_bins(scores, 0.5)["edges"]
    expected = np.searchsorted(edges, scores, side="right")
    for moved in (scores * (1 - 3e-7), scores * (1 + 3e-7)):
        found = np.searchsorted(edges, moved, side="right")
        np.testing.assert_array_equal(found, expected)


def test_scores_that_are_all_the_same():
    bins = score_bins(np.full(100, 0.7, "float32"), 0.5)
    low, high = bins["edges"]
    assert low < np.float32(0.7) < high
    assert bins["counts"] == [0, 50, 0]
    assert score_bins([0.0] * 4, 0.5)["counts"] == [0, 2, 0]
    assert score_bins([0.3], 0.5) == {
        "edges": [], "counts": [1], "examples": 1, "delegated": 1,
    }  # fmt: skip


def test_weights_are_a_traffic_that_examples_are_drawn_from():
    # A fifth of the examples (score 1) makes 80 % of the traffic.
    scores = np.repeat([0.0, 0.0, 0.0, 0.0, 1.0], 2000)
    weight = np.where(scores == 1, 4.0, 0.25)
    bins = score_bins(scores, 0.5, weight)
    # All 2000 of weight 4, and each of 8000 with probability 1/16.
    drawn = bins["examples"] - 2000
    assert scipy.stats.binomtest(drawn, 8000, 1 / 16).pvalue > 0.01
    assert bins["delegated"] == drawn
    none = score_bins(scores, 0.5, (scores == 1).astype(float))
    assert (none["examples"], none["delegated"]) == (2000, 0)
    even = score_bins(scores, 0.5, np.full(10_000, 3.0))
    assert (even["examples"], even["delegated"]) == (10_000, 8000)
    assert sum(even["counts"]) == 9000


@pytest.mark.parametrize("threshold", [0.1, np.float32(0.1)])
def test_a_score_at_the_threshold_is_kept(threshold):
    scores = np.array([0.1, 0.05], dtype="float32")
    assert score_bins(scores, float(threshold))["delegated"] == 1

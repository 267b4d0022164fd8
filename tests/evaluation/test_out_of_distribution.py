"""Gates on inputs that no class is right for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_cascade.evaluation import out_of_distribution as out_of_distribution
from keras_cascade.evaluation import threshold_against

SCORES = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@settings(deadline=None)
@given(SCORES, SCORES, st.integers(0, 10))
def test_against_counting(ours, ood, threshold):
    found = out_of_distribution(ours, ood, threshold - 0.5)
    wins = [(a > b) + 0.5 * (a == b) for a in ours for b in ood]
    assert found.auroc == pytest.approx(np.mean(wins))
    assert found.delegated == np.mean([b < threshold - 0.5 for b in ood])
    assert found.delegation_rate == np.mean([a < threshold - 0.5 for a in ours])


def test_the_interval_is_clopper_and_pearson_s():
    """Quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k)."""
    found = out_of_distribution(
        [1.0], [0.0] * 8 + [1.0] * 2, 0.5, confidence=0.9
    )
    low, high = stats.beta.ppf(0.05, 8, 3), stats.beta.ppf(0.95, 9, 2)
    assert found.delegated_interval == pytest.approx((low, high))


@settings(deadline=None)
@given(SCORES, st.floats(0.05, 0.95))
def test_the_threshold_is_the_lowest_that_will_do(ood, share):
    ood = np.array(ood, float)
    threshold = threshold_against(ood, share)
    assert (ood < threshold).mean() >= share
    below = ood[ood < threshold].max()
    assert (ood < below).mean() < share


@pytest.mark.parametrize("count", [1, 7, 10, 100, 1000])
def test_the_rank_is_that_of_whole_numbers(count):
    """Of n distinct scores, the ceil(p·n / 100)-th is the last delegated."""
    for percent in range(1, 100):
        rank = -(-percent * count // 100)
        threshold = threshold_against(np.arange(count), percent / 100)
        assert rank - 1 < threshold < rank
    assert threshold_against(np.arange(100), 0.07) == 6.5


def test_all_scores_equal():
    for share in (0.01, 0.5, 0.99):
        threshold = threshold_against([0.5] * 10, share)
        assert 0.5 < threshold < 0.5 + 1e-6


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_in_the_precision_of_the_gate(scale):
    ood = np.arange(1, 41, dtype="float32") * np.float32(scale)
    for share in (0.5, 0.99):
        threshold = threshold_against(ood, share)
        assert out_of_distribution([0.0], ood, threshold).delegated >= share


def test_the_guarantee_is_kept_as_often_as_it_says():
    """For uniform scores the share delegated is the threshold itself."""
    rng = np.random.default_rng(0)
    kept = [
        threshold_against(rng.random(100), 0.9, confidence=0.9) >= 0.9
        for _ in range(2_000)
    ]
    # At least 0.9, and a binomial that jumps by 0.13 at most near its mode.
    assert 0.88 <= np.mean(kept) <= 0.99


def test_as_few_as_it_takes():
    """log(0.05) / log(0.9) is 28.4."""
    threshold_against(np.arange(29), 0.9, confidence=0.95)
    with pytest.raises(
        ValueError, match="at least 29 out-of-distribution inputs"
    ):
        threshold_against(np.arange(28), 0.9, confidence=0.95)


@pytest.mark.parametrize("scores", [[], [np.nan], [0.1, np.inf]])
def test_bad_scores(scores):
    with pytest.raises(ValueError, match="at least one score"):
        out_of_distribution([0.5], scores, 0.5)
    with pytest.raises(ValueError, match="at least one score"):
        threshold_against(scores, 0.5)


@pytest.mark.parametrize("share", [0, 1, -1])
def test_bad_shares(share):
    with pytest.raises(ValueError, match="Expected `share`"):
        threshold_against([0.1], share)

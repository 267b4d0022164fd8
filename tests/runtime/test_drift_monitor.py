"""The drift monitor: its false alarm rate, its alarms and its state."""

import copy
import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import check_manifest
from keras_cascade.export.score_bins import score_bins
from keras_cascade.runtime import DriftMonitor, EdgeCascade
from keras_cascade.runtime.drift.calibrated_scores import CalibratedScores
from keras_cascade.runtime.drift.conformal_p_values import ConformalPValues
from keras_cascade.runtime.drift.drift_tests import (
    CUTS,
    rate_bets,
    score_bets,
    score_outcomes,
)
from keras_cascade.runtime.drift.jumper_martingale import JumperMartingale


def bundle_of(bins, threshold=0.5, guarantees=None, student="0"):
    """A bundle without files: its manifest has all that a monitor reads."""
    point = {
        "name": "default",
        "threshold": threshold,
        "delegation_rate": bins["delegated"] / bins["examples"],
    }
    if guarantees is not None:
        point["guarantees"] = guarantees
    manifest = {
        "student": {"sha256": student * 64},
        "operating_points": [point],
        "calibration": {"score_bins": bins},
    }
    return Bundle(Path("memory"), manifest)


def draw(rng, examples, kind="float"):
    """Draws scores: continuous, or int8-like with 13 tied values."""
    scores = rng.beta(2, 1, examples)
    return np.round(scores * 12) / 12 if kind == "tied" else scores


def calibrated_bundle(rng, examples=600, kind="float", **kwargs):
    scores = draw(rng, examples, kind)
    threshold = float(np.quantile(scores, 0.3))
    return bundle_of(score_bins(scores, threshold), threshold, **kwargs)


#: No bins to speak of, so that only the delegation rate can drift:
#: 300 of 1000 calibration examples lie below 0.5.
ONLY_THE_RATE = {
    "edges": [], "counts": [500], "examples": 1000, "delegated": 300,
}  # fmt: skip


def slow_p_values(edges, counts, scores, rng):
    """P-values by their definition, one example after another."""
    seen = [i for i, count in enumerate(counts) for _ in range(count)]
    found = []
    for score in scores:
        mine = sum(edge <= score for edge in edges)
        seen.append(mine)
        less, equal = sum(b < mine for b in seen), seen.count(mine)
        found.append((less + rng.random() * equal) / len(seen))
    return found


def slow_log_capital(bets, outcomes, jump, patience, inactive):
    """Log-capital by the definition, without normalization."""
    experts = 1 + len(bets[0])
    capital = [inactive] + [(1 - inactive) / (experts - 1)] * (experts - 1)
    path = []
    for t, outcome in enumerate(outcomes):
        rates = [jump / (1 + t / patience)] + [jump] * (experts - 1)
        released = sum(r * c for r, c in zip(rates, capital, strict=True))
        pays = [1.0, *bets[outcome]]
        capital = [
            pay * (c - r * c + released / experts)
            for pay, r, c in zip(pays, rates, capital, strict=True)
        ]
        path.append(math.log(sum(capital)))
    return path


def test_p_values_are_those_of_the_definition():
    edges, counts = [0.2, 0.4, 0.8], [3, 0, 5, 2]
    scores = np.r_[
        np.random.default_rng(0).random(1100), 0.2, 0.8, -5.0, 5.0, np.inf
    ]
    p_values = ConformalPValues(edges, counts, np.random.default_rng(1))
    found = [p_values.update(scores[:7]), p_values.update(scores[7:])]
    np.testing.assert_allclose(
        np.concatenate(found),
        slow_p_values(edges, counts, scores, np.random.default_rng(1)),
        rtol=1e-12,
    )
    assert p_values.counts.sum() == 10 + len(scores)
    assert p_values.update(np.empty(0)).shape == (0,)


@pytest.mark.parametrize("kind", ["float", "tied"])
def test_p_values_are_uniform_and_independent_when_nothing_drifts(kind):
    found = []
    for seed in range(300):
        rng = np.random.default_rng([seed, 1])
        bins = score_bins(draw(rng, 40, kind), 0.5)
        p_values = ConformalPValues(
            bins["edges"], bins["counts"], np.random.default_rng(seed)
        )
        found.append(p_values.update(draw(rng, 40, kind)))
    found = np.array(found)
    assert scipy.stats.kstest(found.ravel(), "uniform").pvalue > 0.01
    pairs = np.histogram2d(
        found[:, :-1].ravel(), found[:, 1:].ravel(), bins=4, range=[[0, 1]] * 2
    )[0]
    assert scipy.stats.chisquare(pairs.ravel()).pvalue > 0.01


def test_every_bet_is_fair():
    # p-values are uniform: a piece's probability is its length.
    lengths = np.diff(np.r_[0.0, CUTS, 1.0])
    bets = score_bets()
    assert bets.min() > 0
    np.testing.assert_allclose(lengths @ bets, 1.0, rtol=1e-12)
    assert len(np.unique(bets, axis=1).T) == bets.shape[1]
    assert score_outcomes([0.0, 0.0999, 0.1, 0.6, 0.999]).tolist() == [
        0, 0, 1, 3, 5,
    ]  # fmt: skip
    for highest in (0.01, 0.3, 0.99, 1.0):
        bets = rate_bets(highest)
        assert bets.min() > 0
        for rate in (highest, highest / 2, 0.0):
            mean = np.array([1 - rate, rate]) @ bets
            assert (mean <= 1 + 1e-12).all()
        np.testing.assert_allclose([1 - highest, highest] @ bets, 1.0)


def test_the_jumper_is_mapies_simple_jumper():
    from mapie.exchangeability_testing import OnlineMartingaleTest

    p_values = np.random.default_rng(0).beta(1, 1.4, 400)
    theirs = OnlineMartingaleTest(task="regression", jump_size=0.02)
    expected = [theirs.update_simple_jumper_martingale(p) for p in p_values]
    # Their experts are 1 + e (p - 1/2), e = -1, 0, 1; e = 0 is the
    # inactive bet.
    bets = 1 + np.outer(p_values - 0.5, [-1.0, 1.0])
    mine = JumperMartingale(bets, jump=0.02, patience=math.inf, inactive=1 / 3)
    found = mine.update(np.arange(400))
    np.testing.assert_allclose(found, np.log(expected), atol=1e-9)


def test_the_jumper_is_the_sum_of_its_experts():
    outcomes = np.random.default_rng(0).integers(0, 6, 500)
    martingale = JumperMartingale(score_bets())
    found = np.r_[
        martingale.update(outcomes[:123]), martingale.update(outcomes[123:])
    ]
    expected = slow_log_capital(
        score_bets().tolist(), outcomes.tolist(), 0.01, 50.0, 0.5
    )
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert martingale.log_capital == found[-1]


def test_capital_outlives_a_long_quiet_time():
    # Bets that lose everything: the inactive bet alone remains. Of its part
    # 1/2 it gives up at most 0.01 / (1 + t / 50) at outcome t, and sum_t of
    # that is at most 0.01 + 0.5 log(1 + 20000 / 50) = 3.01;
    # log(1 - h) > -1.01 h.
    martingale = JumperMartingale(np.full((1, 3), 1e-12))
    martingale.update([0] * 20_000)
    assert martingale.log_capital > math.log(0.5) - 1.01 * 3.01


def test_the_interval_of_the_rate_is_the_dkw_inequality():
    for examples in (30, 1000):
        half = examples // 2
        bins = {**ONLY_THE_RATE, "examples": examples, "delegated": half}
        bins["counts"] = [half]
        calibrated = CalibratedScores.of(bundle_of(bins))
        low, high = calibrated.rate_interval(0.05)
        assert low + high == pytest.approx(1.0)
        # The exact chance that the largest deviation over all thresholds is
        # beyond it: at most 0.05, and not much less.
        missed = scipy.stats.kstwo.sf(high - 0.5, examples)
        assert 0.03 < missed <= 0.05
    everything = {**ONLY_THE_RATE, "delegated": 1000}
    assert CalibratedScores.of(bundle_of(everything)).rate_interval(0.1)[1] == 1


@pytest.mark.parametrize("kind", ["float", "tied"])
def test_false_alarms_come_no_more_often_than_stated(kind):
    streams, rate = 150, 0.2
    alarms = 0
    for seed in range(streams):
        rng = np.random.default_rng([seed, 2])
        monitor = DriftMonitor(calibrated_bundle(rng, 80, kind), rate, seed)
        alarms += not monitor.update(draw(rng, 400, kind)).guarantee_holds
    error = math.sqrt(rate * (1 - rate) / streams)
    assert alarms / streams <= rate + 2 * error


@pytest.mark.parametrize("kind", ["float", "tied"])
@pytest.mark.parametrize("quiet", [0, 5000])
@pytest.mark.parametrize(
    "drift",
    [
        lambda scores: scores - 0.2,
        lambda scores: scores + 0.2,
        lambda scores: 0.7 * scores,
        lambda scores: 0.67 + 1.5 * (scores - 0.67),  # wider, same middle
        lambda scores: np.where(np.arange(len(scores)) % 3, scores, 0.02),
    ],
)
def test_a_drift_is_found(kind, quiet, drift):
    rng = np.random.default_rng(5)
    monitor = DriftMonitor(calibrated_bundle(rng, 2000, kind))
    before = monitor.update(draw(rng, quiet, kind))
    assert before.guarantee_holds and before.reason is None
    after = monitor.update(drift(draw(rng, 500, kind)))
    assert not after.guarantee_holds
    assert after.examples == quiet + 500


@pytest.mark.parametrize(
    ("rate", "words", "test"),
    [
        (0.5, "rate is higher than", "higher_delegation_rate"),
        (0.1, "rate is lower than", "lower_delegation_rate"),
    ],
)
def test_another_delegation_rate_is_found(rate, words, test):
    guarantees = [
        {"quantity": "accuracy_drop", "at_most": 0.01},
        {"quantity": "delegation_rate", "at_most": 0.35, "confidence": 0.95},
    ]
    monitor = DriftMonitor(bundle_of(ONLY_THE_RATE, guarantees=guarantees))
    delegated = np.random.default_rng(0).random(1500) < rate
    status = monitor.update(np.where(delegated, 0.49, 0.5))
    assert status.e_values[test] > status.alarm_thresholds[test] == 800
    assert words in status.reason
    assert status.delegation_rate == delegated.mean()
    assert status.calibrated_delegation_rate == 0.3
    examples = int(status.reason.split()[1])
    share = f"{100 * delegated[:examples].mean():.1f} % of them"
    last = f"{100 * delegated[max(0, examples - 200) : examples].mean():.1f} %"
    assert share in status.reason and f"{last} of the last" in status.reason
    exceeded = "exceeded" if rate > 0.35 else "kept so far"
    assert status.reason.endswith(f"guaranteed cap of 35.0 % is {exceeded}.")
    # One example fewer, and there was no alarm yet.
    again = DriftMonitor(bundle_of(ONLY_THE_RATE, guarantees=guarantees))
    scores = np.where(delegated, 0.49, 0.5)
    assert again.update(scores[: examples - 1]).guarantee_holds
    assert not again.update(scores[examples - 1 : examples]).guarantee_holds


def test_without_a_guaranteed_cap_none_is_mentioned():
    monitor = DriftMonitor(bundle_of(ONLY_THE_RATE))
    assert "guaranteed" not in monitor.update(np.zeros(400)).reason


def test_an_alarm_stays_until_reset():
    rng = np.random.default_rng(0)
    monitor = DriftMonitor(calibrated_bundle(rng))
    reason = monitor.update(np.zeros(100)).reason
    assert reason
    assert monitor.update(draw(rng, 500)).reason == reason
    monitor.reset()
    assert monitor.status.guarantee_holds
    assert monitor.status.examples == 0
    assert monitor.status.delegation_rate is None
    assert set(monitor.status.e_values.values()) == {1.0}
    assert not monitor.update(np.zeros(100)).guarantee_holds


def test_updates_may_be_cut_anywhere_and_a_device_may_restart():
    rng = np.random.default_rng(3)
    bundle = calibrated_bundle(rng)
    live = np.r_[draw(rng, 300), draw(rng, 300) - 0.1]
    whole = DriftMonitor(bundle, seed=4)
    expected = whole.update(live)
    monitor = DriftMonitor(bundle, seed=4)
    for part in np.split(live, [1, 2, 50, 310, 599]):
        monitor.update(part)
        state = json.loads(json.dumps(monitor.to_dict(), allow_nan=False))
        monitor = DriftMonitor.from_dict(bundle, state)
        assert monitor.to_dict() == state
    assert monitor.status == expected
    assert not expected.guarantee_holds
    assert monitor.to_dict() == whole.to_dict()


def test_scores_that_are_none_change_nothing():
    rng = np.random.default_rng(0)
    monitor = DriftMonitor(calibrated_bundle(rng))
    monitor.update(draw(rng, 10))
    before = copy.deepcopy(monitor.to_dict())
    with pytest.raises(ValueError, match="Received: 1 NaN among 3"):
        monitor.update([0.1, np.nan, 0.3])
    for wrong in ([["a"]], ["a"], 0.5, [[0.1]], [[1], [1, 2]], [True], None):
        with pytest.raises(ValueError, match="float array"):
            monitor.update(wrong)
    assert monitor.to_dict() == before
    assert monitor.update(np.empty(0)).examples == 10


def test_bundles_that_cannot_be_compared_with():
    bins = {**ONLY_THE_RATE, "edges": [0.5], "counts": [10, 10]}
    DriftMonitor(bundle_of(bins))
    for part in (
        {"edges": [0.5, 0.5], "counts": [1, 1, 1]},
        {"edges": [math.inf]},
        {"counts": [20]},
        {"counts": [0, 0]},
        {"counts": [1000, 1000]},
        {"delegated": 1001},
    ):
        with pytest.raises(BundleError, match="Export it again"):
            DriftMonitor(bundle_of({**ONLY_THE_RATE, **bins, **part}))
    without = bundle_of(bins)
    del without.manifest["calibration"]["score_bins"]
    with pytest.raises(BundleError, match="which has none"):
        DriftMonitor(without)
    for rate in (0, 1, "a", None, math.nan):
        with pytest.raises(ValueError, match="`false_alarm_rate` between"):
            DriftMonitor(bundle_of(bins), rate)


def test_a_state_of_another_bundle_or_a_damaged_one_is_refused():
    bundle = bundle_of(ONLY_THE_RATE)
    monitor = DriftMonitor(bundle)
    monitor.update([0.1, 0.9])
    state = monitor.to_dict()
    others = [
        bundle_of(ONLY_THE_RATE, student="1"),
        bundle_of(ONLY_THE_RATE, threshold=0.4),
        bundle_of({**ONLY_THE_RATE, "counts": [499]}),
    ]
    for other in others:
        with pytest.raises(ValueError, match="the bundle's fingerprint"):
            DriftMonitor.from_dict(other, state)
    tests = state["tests"]
    shares = tests["martingales"]["score_distribution"]["shares"]
    for damaged in (
        None,
        {},
        {**state, "version": 2},
        {**state, "examples": 3},
        {**state, "tests": {**tests, "counts": [499]}},
        {**state, "tests": {**tests, "counts": [500, 2]}},
        {**state, "tests": {**tests, "counts": [10**30]}},
        {**state, "tests": {**tests, "counts": "many"}},
        {**state, "tests": {**tests, "rng": {}}},
        {**state, "false_alarm_rate": 2},
        {**state, "tests": {**tests, "martingales": {}}},
    ):
        with pytest.raises(ValueError, match="Start a new `DriftMonitor`"):
            DriftMonitor.from_dict(bundle, damaged)
    del bundle.manifest["calibration"]["score_bins"]
    with pytest.raises(BundleError, match="which has none"):
        DriftMonitor.from_dict(bundle, state)
    bundle = bundle_of(ONLY_THE_RATE)
    for name, value in (
        ("shares", shares[1:]),
        ("shares", [2 * share for share in shares]),
        ("shares", [-shares[0], *shares[1:]]),
        ("log_capital", math.nan),
    ):
        damaged = copy.deepcopy(state)
        damaged["tests"]["martingales"]["score_distribution"][name] = value
        with pytest.raises(ValueError, match="a finite capital"):
            DriftMonitor.from_dict(bundle, damaged)


def test_threads_share_one_monitor():
    monitor = DriftMonitor(bundle_of(ONLY_THE_RATE))

    def work():
        for _ in range(50):
            monitor.update([0.1, 0.9, 0.9])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.status.examples == 8 * 50 * 3
    assert monitor.status.delegation_rate == pytest.approx(1 / 3)


def test_from_the_exported_bundle_to_the_alarm(bundle_path, blobs):
    edge = EdgeCascade.load(bundle_path)
    monitor = DriftMonitor(bundle_path)
    # The draws that follow the 900 examples of the fixture are fresh ones of
    # the same kind.
    live = edge.predict(blobs(400, seed=11)[0])
    status = monitor.update(live)
    assert status.guarantee_holds, status.reason
    assert status.delegation_rate == live.delegation_rate
    point = edge.bundle.operating_point()
    assert status.calibrated_delegation_rate == point["delegation_rate"]
    status = monitor.update(edge.predict(0.2 * blobs(400, seed=12)[0]))
    assert not status.guarantee_holds
    assert status.examples == 800


def test_the_exported_bins_are_those_of_the_shipped_scores(bundle_path):
    manifest = Bundle.load(bundle_path).manifest
    bins = manifest["calibration"]["score_bins"]
    point = manifest["operating_points"][0]
    assert bins["examples"] == manifest["calibration"]["examples"] == 500
    assert bins["delegated"] == round(500 * point["delegation_rate"])
    assert sum(bins["counts"]) == 250
    check_manifest(manifest)
    for part in ({"counts": []}, {"counts": [-1]}, {"edges": ["a"]}):
        contradictory = copy.deepcopy(manifest)
        contradictory["calibration"]["score_bins"].update(part)
        with pytest.raises(BundleError, match="score_bins"):
            check_manifest(contradictory)
    del manifest["calibration"]["score_bins"]
    check_manifest(manifest)


def test_the_monitor_needs_numpy_alone(bundle_path):
    code = (
        "import sys, keras_cascade as kc\n"
        f"monitor = kc.DriftMonitor({str(bundle_path)!r})\n"
        "monitor.update([0.1, 0.9])\n"
        "names = ('keras', 'tensorflow', 'scipy', 'sklearn')\n"
        "print([m for m in names if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    assert found.stdout.strip() == "[]"

"""Costs in milliseconds, timed on the exported files."""

import time

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.export import costs_from_latency, latency_costs


def test_what_is_timed_is_what_is_said(cascade, blobs, monkeypatch):
    # A clock on which every student pass takes 2 ms, every teacher pass 5 ms,
    # and the third of each ten times as long.
    now, durations = [0.0], {"student": [], "teacher": []}

    def passing(name, milliseconds):
        def run(self, inputs):
            assert {k: v.shape for k, v in inputs.items()} == {"input": (1, 6)}
            durations[name].append(milliseconds)
            slow = len(durations[name]) == latency_costs.WARM_UP + 3
            now[0] += (10 if slow else 1) * milliseconds / 1000

        return run

    monkeypatch.setattr(
        latency_costs.StudentInterpreter, "run", passing("student", 2.0)
    )
    monkeypatch.setattr(
        latency_costs.SavedModelTeacher, "logits", passing("teacher", 5.0)
    )
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    costs = costs_from_latency(cascade, blobs(4)[0], network=30.0, runs=11)
    assert costs.student == pytest.approx(2.0)
    assert costs.teacher == pytest.approx(5.0)
    # The 0.99 quantile of ten 2s and one 20, linearly between the two.
    assert costs.student_p99 == pytest.approx(20 - 0.1 * 18)
    assert costs.teacher_p99 == pytest.approx(50 - 0.1 * 45)
    assert costs.unit == "ms"
    # 2 + 0.5 · (5 + 30).
    assert costs.amortized(0.5) == pytest.approx(19.5)
    assert "LiteRT" in costs.how_measured
    assert "network 30 ms" in costs.how_measured
    assert len(durations["student"]) == latency_costs.WARM_UP + 11


def test_a_bundle_is_timed_too(bundle_path):
    costs = costs_from_latency(bundle_path, np.zeros((1, 6), "float32"), runs=3)
    assert 0 < costs.student <= costs.student_p99
    assert 0 < costs.teacher <= costs.teacher_p99


def test_costs_travel(cascade, blobs, tmp_path):
    cascade.fit(*blobs(64, seed=2), verbose=0)
    cascade.costs = kc.evaluation.Costs(
        0.002, 0.1, "EUR", "given", network=0.05, student_p99=0.003
    )
    point = cascade.calibrate(
        blobs(300, seed=3), kc.MaxCost(0.05, tolerance=0.2)
    )
    assert point.amortized_cost == pytest.approx(
        0.002 + point.delegation_rate * 0.15
    )
    assert point.amortized_cost <= 0.05 + 1e-12
    cascade.save(tmp_path / "c.keras")
    assert keras.models.load_model(tmp_path / "c.keras").costs == cascade.costs
    bundle = cascade.export(tmp_path / "bundle")
    assert bundle.manifest["costs"]["network"] == 0.05
    assert bundle.operating_point()["amortized_cost"] == point.amortized_cost


def test_runs_must_be_positive(cascade, blobs):
    with pytest.raises(ValueError, match="at least 1"):
        costs_from_latency(cascade, blobs(1)[0], runs=0)

"""Metrics of the deferral curve against the curve of all examples."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc


def columns(rows, seed, levels):
    """Scores of few levels, so that many tie, and both models' answers."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, rows).astype("float32") - levels / 2
    student, teacher = rng.random((2, rows)) < 0.6
    return scores, student, teacher, rng.random(rows).astype("float32") + 0.1


def filled(metric, parts, batch=7):
    for start in range(0, len(parts[0]), batch):
        metric.update_state(*(p[start : start + batch] for p in parts))
    return float(metric.result())


@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    levels=st.sampled_from([1, 3, 50]),
    rate=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_metrics_are_those_of_the_curve(rows, seed, levels, rate):
    parts = columns(rows, seed, levels)
    curve = kc.evaluation.deferral_curve(*parts)
    at_rate = filled(kc.metrics.CascadeAccuracyAt(rate, capacity=64), parts)
    area = filled(kc.metrics.DeferralArea(capacity=64), parts)
    # A rate within float32's rounding of the limit counts as within it.
    allowed = {curve.accuracy_at(rate), curve.accuracy_at(rate + 1e-6)}
    assert min(abs(at_rate - one) for one in allowed) < 1e-5
    assert area == pytest.approx(kc.evaluation.deferral_area(curve), abs=1e-5)


def test_the_last_examples_count_where_there_are_too_many():
    parts = columns(500, 1, 1000)
    metric = kc.metrics.CascadeAccuracyAt(0.3, capacity=64)
    last = kc.evaluation.deferral_curve(*(p[-64:] for p in parts))
    assert filled(metric, parts) == pytest.approx(
        last.accuracy_at(0.3), abs=1e-5
    )
    # One batch that is larger than the buffer.
    metric.reset_state()
    assert filled(metric, parts, batch=500) == pytest.approx(
        last.accuracy_at(0.3), abs=1e-5
    )


def test_a_score_that_is_not_a_number_is_delegated_first():
    metric = kc.metrics.CascadeAccuracyAt(0.5, capacity=8)
    metric.update_state([np.nan, 1.0], [False, True], [True, False])
    assert float(metric.result()) == 1.0


def test_metrics_in_training(cascade, blobs, tmp_path):
    held_out = blobs(100, seed=3)
    cascade.compile(
        "adam",
        metrics=[
            "accuracy",
            kc.metrics.CascadeAccuracyAt(0.2),
            kc.metrics.DeferralArea(),
        ],
    )
    history = cascade.fit(
        *blobs(128, seed=2),
        validation_data=held_out,
        epochs=3,
        verbose=0,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras",
                monitor="val_cascade_accuracy_at_0.2",
                mode="max",
            ),
            keras.callbacks.EarlyStopping(
                "val_deferral_area", mode="max", patience=5
            ),
        ],
    ).history
    curve = cascade.judge(held_out).deferral_curve()
    assert history["val_cascade_accuracy_at_0.2"][-1] == pytest.approx(
        curve.accuracy_at(0.2), abs=1e-5
    )
    assert history["val_deferral_area"][-1] == pytest.approx(
        kc.evaluation.deferral_area(curve), abs=1e-5
    )
    assert "accuracy" in history and "deferral_area" in history
    # Whatever the threshold is.
    cascade.threshold = -10.0
    results = cascade.evaluate(*held_out, verbose=0, return_dict=True)
    assert results["cascade_accuracy_at_0.2"] == pytest.approx(
        curve.accuracy_at(0.2), abs=1e-5
    )
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    again = loaded.evaluate(*held_out, verbose=0, return_dict=True)
    assert again["deferral_area"] == pytest.approx(
        results["deferral_area"], abs=1e-6
    )


def test_the_callback_writes_into_the_logs(cascade, blobs, tmp_path):
    held_out = blobs(100, seed=3)
    best = keras.callbacks.EarlyStopping(
        "val_cascade_accuracy_at_0.2", mode="max", patience=0
    )
    history = cascade.fit(
        *blobs(128, seed=2),
        epochs=1,
        verbose=0,
        callbacks=[
            kc.callbacks.DeferralCurveCallback(held_out, tmp_path),
            best,
        ],
    ).history
    curve = cascade.judge(held_out).deferral_curve()
    assert history["val_cascade_accuracy_at_0.2"] == [curve.accuracy_at(0.2)]
    assert history["val_deferral_area"] == [kc.evaluation.deferral_area(curve)]
    assert best.best == curve.accuracy_at(0.2)


@pytest.mark.parametrize("capacity", [0, -1, 2.5])
def test_a_capacity_that_is_no_number_of_examples(capacity):
    with pytest.raises(ValueError, match="capacity"):
        kc.metrics.DeferralArea(capacity=capacity)

"""Judging and calibrating from cached answers: the live teacher's numbers."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade import prediction


@pytest.fixture
def pair(dense_model):
    """A teacher and a student of one hidden layer, unlike each other."""
    return dense_model(16), dense_model(3)


def by_hand(model, x):
    """Probabilities of such a model in float64, from its weights."""
    w1, b1, w2, b2 = (w.astype("float64") for w in model.get_weights())
    logits = np.maximum(x.astype("float64") @ w1 + b1, 0.0) @ w2 + b2
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("form", ["arrays", "weighted", "dataset", "generator"])
@pytest.mark.parametrize("settings", [{}, {"dtype": "float32"}, {"top_k": 2}])
def test_columns_are_those_computed_by_hand(pair, blobs, form, settings):
    teacher, student = pair
    x, y = blobs(150)
    # More examples than are scored, in another order.
    cache = kc.cache_teacher_logits(x[::-1], teacher, **settings)
    x, y = x[20:], y[20:]
    weight = np.linspace(0.5, 2.0, len(x)) if form == "weighted" else None
    data = (x, y) if weight is None else (x, y, weight)
    if form == "dataset":
        data = tf.data.Dataset.from_tensor_slices(data).batch(40)
    if form == "generator":
        data = ((x[i : i + 40], y[i : i + 40]) for i in range(0, len(x), 40))
    cascade = kc.Cascade(teacher, student)
    results = cascade.judge(data, teacher_logits=cache)

    theirs, own = by_hand(teacher, x), by_hand(student, x)
    top = np.sort(own, axis=1)
    assert np.array_equal(results.teacher_labels, theirs.argmax(axis=1))
    assert np.array_equal(results.teacher_correct, theirs.argmax(axis=1) == y)
    assert np.array_equal(results.student_correct, own.argmax(axis=1) == y)
    np.testing.assert_allclose(
        results.scores, top[:, -1] - top[:, -2], atol=1e-5
    )
    tolerance = 1e-5 if settings.get("dtype") == "float32" else 2e-3
    np.testing.assert_allclose(
        results.teacher_confidence, theirs.max(axis=1), atol=tolerance
    )
    if weight is None:
        assert results.sample_weight is None
    else:
        np.testing.assert_allclose(results.sample_weight, weight)


@pytest.mark.parametrize("gate", ["margin", "entropy", "energy", "class"])
def test_no_gate_sees_a_difference(pair, blobs, gate):
    x, y = blobs(100)
    if gate == "class":
        gate = kc.gates.ClassGate([0, 1])
    cascade = kc.Cascade(*pair, gate=gate)
    cache = kc.cache_teacher_logits((x, y), pair[0])
    live = cascade.judge((x, y), keep_outputs=True)
    found = cascade.judge((x, y), keep_outputs=True, teacher_logits=cache)
    for name in ("scores", "teacher_correct", "student_outputs", "labels"):
        assert np.array_equal(getattr(live, name), getattr(found, name))
    assert found.examples.hexdigest() == live.examples.hexdigest()


def test_traffic_and_calibration_are_the_live_teachers(pair, blobs):
    x, y = blobs(400)
    cascade = kc.Cascade(*pair)
    cache = kc.cache_teacher_logits((x, y), pair[0])
    traffic = kc.TrafficMix([0.4, 0.3, 0.2, 0.1])
    for objective in (
        kc.MaxDelegationRate(0.3),
        kc.MaxAccuracyDrop(0.2, confidence=0.9),
    ):
        points = [
            cascade.calibrate(
                (x, y), objective, traffic=traffic, teacher_logits=logits
            )
            for logits in (None, cache)
        ]
        assert points[0] == points[1]
        assert cascade.operating_point == points[1]
    cascade.compile()
    with pytest.raises(ValueError, match="calibrat"):  # they are remembered
        cascade.evaluate(x, y, verbose=0)


def test_the_teacher_runs_for_the_spot_check_only(pair, blobs, monkeypatch):
    x, y = blobs(300)
    cache = kc.cache_teacher_logits((x, y), pair[0])
    asked, inference = [], prediction.inference

    def counting(model):
        run = inference(model)

        def counted(rows):
            asked.extend(rows if model is pair[0] else ())
            return run(rows)

        return counted

    monkeypatch.setattr(prediction, "inference", counting)
    cascade = kc.Cascade(*pair)
    for options, rows in (
        ({"teacher_logits": cache}, 32),
        ({"teacher_logits": cache, "spot_check": False}, 0),
        ({}, 300),
    ):
        asked.clear()
        cascade.judge((x, y), **options)
        assert len(asked) == rows


def test_an_example_that_is_not_there(pair, blobs):
    x, y = blobs(100)
    cache = kc.cache_teacher_logits((x[:99], y[:99]), pair[0])
    cascade = kc.Cascade(*pair)
    with pytest.raises(ValueError, match="1 of 100 examples have no logits"):
        cascade.judge((x, y), batch_size=100, teacher_logits=cache)
    before = cascade.threshold
    with pytest.raises(ValueError, match="examples have no logits"):
        cascade.calibrate(
            (x, y), kc.MaxDelegationRate(0.3), teacher_logits=cache
        )
    assert cascade.threshold == before and cascade.operating_point is None


def test_another_teachers_answers_are_refused(pair, dense_model, blobs):
    x, y = blobs(64)
    teacher, student = pair
    cache = kc.cache_teacher_logits((x, y), teacher)
    cascade = kc.Cascade(teacher, student)
    teacher.set_weights([w + 0.5 for w in teacher.get_weights()])
    for spot_check in (True, False):
        with pytest.raises(ValueError, match="other weights"):
            cascade.judge((x, y), teacher_logits=cache, spot_check=spot_check)

    def build():
        model = dense_model(4)
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return model

    crossed = kc.cross_fit_teacher_logits(build, (x, y), folds=2)
    with pytest.raises(ValueError, match="can train a student, and judges"):
        cascade.judge((x, y), teacher_logits=crossed)


def test_changed_preprocessing_is_seen(pair, blobs):
    # Equal weights, so that only the live comparison can tell.
    teacher, student = pair
    doubled = keras.Sequential(
        [keras.Input((6,)), keras.layers.Rescaling(2.0), *teacher.layers[1:]]
    )
    x, y = blobs(64)
    cache = kc.cache_teacher_logits((x, y), doubled)
    with pytest.raises(ValueError, match="differ from the teacher's"):
        kc.Cascade(teacher, student).judge((x, y), teacher_logits=cache)


def test_answers_to_augmented_views_judge_nobody(pair, blobs):
    x, y = blobs(64)
    cache = kc.cache_teacher_logits(
        x, pair[0], augment=lambda example, seed: 2 * example
    )
    with pytest.raises(ValueError, match="the examples themselves"):
        kc.Cascade(*pair).judge((x, y), teacher_logits=cache)


def test_a_teacher_that_is_a_cascade(pair, dense_model, blobs):
    x, y = blobs(200)
    inner = kc.Cascade(*pair)
    inner.calibrate((x, y), kc.MaxDelegationRate(0.5))
    outer = kc.Cascade(inner, dense_model(2))
    cache = kc.cache_teacher_logits((x, y), inner)
    results = outer.judge((x, y), teacher_logits=cache)
    theirs, own = (by_hand(model, x) for model in pair)
    top = np.sort(own, axis=1)
    asked = top[:, -1] - top[:, -2] < inner.threshold
    expected = np.where(asked, theirs.argmax(axis=1), own.argmax(axis=1))
    # A float32 score may fall on the other side of its own threshold.
    assert np.mean(results.teacher_labels == expected) >= 0.995
    inner.threshold = 0.0
    with pytest.raises(ValueError, match="other weights"):
        outer.judge((x, y), teacher_logits=cache)


def test_a_temporary_cache_goes_with_the_object(pair, blobs):
    cache = kc.cache_teacher_logits(blobs(32), pair[0])
    folder = cache.path.parent
    assert cache.path.exists()
    del cache
    gc.collect()
    assert not folder.exists()


def test_a_cache_that_fails_leaves_no_folder(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bad = np.full((8, 6), np.nan, "float32")
    with pytest.raises(ValueError, match="finite"):
        kc.cache_teacher_logits(bad, pair[0])
    assert not list(tmp_path.iterdir())

"""Training, gate, calibration and test data: each used for one thing."""

import keras
import numpy as np
import pytest

import keras_cascade as kc


@pytest.fixture
def fitted(cascade, blobs):
    cascade.fit(*blobs(200, seed=1), epochs=8, verbose=0)
    return cascade


PARTS = {"training": 1, "gate": 2, "calibration": 3}


def use_all(cascade, blobs):
    cascade.fit_temperature(blobs(200, seed=2))
    cascade.calibrate(
        blobs(200, seed=3), kc.MaxDelegationRate(0.3, tolerance=0.3)
    )


@pytest.mark.parametrize("part", PARTS)
def test_evaluate_refuses_what_something_was_fitted_on(fitted, blobs, part):
    use_all(fitted, blobs)
    seen = blobs(200, seed=PARTS[part])
    names = {"gate": "gate-fitting"}
    with pytest.raises(ValueError, match=f"with the {names.get(part, part)} "):
        fitted.evaluate(*seen, verbose=0)
    fitted.evaluate(*seen, verbose=0, allow_training_data=True)
    fitted.evaluate(*blobs(200, seed=4), verbose=0)
    assert fitted.data_record.test.examples == 200


def test_calibrate_and_fit_gate_refuse_what_came_before(fitted, blobs):
    use_all(fitted, blobs)
    objective = kc.MaxDelegationRate(0.3, tolerance=0.3)
    with pytest.raises(ValueError, match="with the training set"):
        fitted.fit_temperature(blobs(200, seed=1))
    with pytest.raises(ValueError, match="with the training set"):
        fitted.calibrate(blobs(200, seed=1), objective)
    with pytest.raises(ValueError, match="with the gate-fitting set"):
        fitted.calibrate(blobs(200, seed=2), objective)
    # The same step again may use its own examples again.
    fitted.fit_temperature(blobs(200, seed=2))
    fitted.calibrate(blobs(200, seed=3), objective)
    fitted.calibrate(blobs(200, seed=3), objective)


def test_a_new_fit_frees_the_calibration_set(fitted, blobs):
    use_all(fitted, blobs)
    fitted.fit(*blobs(200, seed=1), verbose=0)
    assert fitted.operating_point is None
    fitted.evaluate(*blobs(200, seed=3), verbose=0)


def test_one_in_a_hundred_may_be_a_duplicate(fitted, blobs):
    x, y = blobs(200, seed=4)
    seen = blobs(200, seed=1)[0]
    x[:2] = seen[:2]
    fitted.evaluate(x, y, verbose=0)
    x[:4] = seen[:4]
    with pytest.raises(ValueError, match=r"some of its own \(2\.0% of 200"):
        fitted.evaluate(x, y, verbose=0)


def test_the_record_is_saved(fitted, blobs, tmp_path):
    mix = kc.TrafficMix({0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1})
    fitted.fit_temperature(blobs(200, seed=2))
    fitted.calibrate(
        blobs(400, seed=3),
        [
            kc.MaxAccuracyDrop(0.5, confidence=0.9),
            kc.MaxDelegationRate(0.9, confidence=0.95),
        ],
        traffic=mix,
        seed=7,
    )
    fitted.save(tmp_path / "c.keras")
    again = keras.models.load_model(tmp_path / "c.keras")
    assert again.operating_point == fitted.operating_point
    assert again.data_record.traffic.get_config() == mix.get_config()
    assert again.data_record.seed == 7
    for seed, name in ((1, "training"), (2, "gate-fitting")):
        with pytest.raises(ValueError, match=f"with the {name} set"):
            again.calibrate(blobs(200, seed=seed), kc.MinAccuracy(0.1))


def test_traffic_in_calibration_and_evaluation(fitted, blobs):
    mix = kc.TrafficMix({0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1})
    x, y = blobs(600, seed=5)
    point = fitted.calibrate(
        (x, y), kc.MaxDelegationRate(0.3, tolerance=0.1), traffic=mix
    )
    weights = mix.weights(y)
    score = fitted.predict(x, verbose=0)["score"]
    rate = np.average(score < np.float32(point.threshold), weights=weights)
    assert point.delegation_rate == pytest.approx(rate)
    assert point.traffic == mix.get_config()
    assert point.effective_examples == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )
    x, y = blobs(600, seed=6)
    found = fitted.evaluate(x, y, verbose=0, return_dict=True, traffic=mix)
    weights = mix.weights(y)
    right = fitted.predict(x, verbose=0)["probabilities"].argmax(axis=1) == y
    assert found["cascade_accuracy"] == pytest.approx(
        np.average(right, weights=weights), abs=1e-5
    )
    summary = kc.evaluation.summarize(
        fitted.judge((x, y), traffic=mix), point.threshold, resamples=0
    )
    assert summary["at_threshold"]["accuracy"] == pytest.approx(
        found["cascade_accuracy"], abs=1e-5
    )


def test_calibration_data_of_one_class_only(fitted, blobs):
    x, y = blobs(200, seed=3)
    with pytest.raises(ValueError, match="of several classes"):
        fitted.calibrate((x[y == 1], y[y == 1]), kc.MaxAccuracyDrop(0.1))


def test_what_was_validated_on_cannot_carry_a_guarantee(cascade, blobs):
    held_out = blobs(200, seed=3)
    cascade.fit(*blobs(200, seed=1), validation_data=held_out, verbose=0)
    guarantee = kc.MaxAccuracyDrop(0.9, confidence=0.9)
    with pytest.raises(ValueError, match="with the validation set"):
        cascade.calibrate(held_out, guarantee)
    cascade.calibrate(held_out, kc.MaxAccuracyDrop(0.9))
    cascade.calibrate(held_out, guarantee, allow_training_data=True)
    x, y = blobs(200, seed=5)
    cascade.fit(x, y, validation_split=0.5, verbose=0)
    with pytest.raises(ValueError, match="with the validation set"):
        cascade.calibrate((x[100:], y[100:]), guarantee)


def test_repeats_are_no_independent_examples(fitted, blobs):
    x, y = blobs(100, seed=3)
    x, y = np.tile(x, (4, 1)), np.tile(y, 4)
    with pytest.raises(UserWarning, match="Only 25% of the 400"):
        fitted.calibrate((x, y), kc.MaxAccuracyDrop(0.9, confidence=0.9))


def test_a_threshold_set_on_the_gate_ends_the_calibration(fitted, blobs):
    fitted.calibrate(
        blobs(200, seed=3), kc.MaxDelegationRate(0.3, tolerance=0.3)
    )
    point = fitted.operating_point
    fitted.gate.threshold = point.threshold + 0.01
    assert fitted.operating_point is None
    fitted.gate.threshold = point.threshold
    assert fitted.operating_point == point

"""Further operating points are fitted on the file, stated and verified."""

import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.runtime import StudentInterpreter


@pytest.fixture
def calibrated(cascade, blobs):
    cascade.fit(*blobs(300, seed=5), verbose=0)
    cascade.calibrate(blobs(500, seed=6), kc.MaxDelegationRate(0.3))
    return cascade


def test_each_is_fitted_on_the_files_own_scores(calibrated, blobs, tmp_path):
    points = {
        "saver": kc.MaxDelegationRate(0.5),
        "sure": kc.MaxAccuracyDrop(0.05, confidence=0.9),
    }
    bundle = calibrated.export(
        tmp_path / "bundle", quantization="dynamic", operating_points=points
    )
    x, y = blobs(500, seed=6)
    out = StudentInterpreter(bundle.student_file).run({"input": x})
    teacher = calibrated.teacher.predict(x, verbose=0).argmax(axis=1) == y
    student = out["probabilities"].argmax(axis=1) == y
    for name, objective in points.items():
        point = bundle.operating_point(name)
        expected = kc.calibration.fit_threshold(
            out["score"], student, teacher, objective
        )
        assert point["threshold"] == expected.threshold
        delegated = out["score"] < np.float32(point["threshold"])
        assert point["delegation_rate"] == pytest.approx(delegated.mean())
    assert bundle.operating_point()["name"] == "default"
    assert bundle.operating_point("sure")["guarantees"][0]["confidence"] == 0.9
    card = (bundle.path / "README.md").read_text()
    assert "| saver |" in card

    checks, _ = check_bundle(bundle.path, [(x, y, None)])
    assert all(check.passed for check in checks)
    assert {"saver: numbers", "sure: guarantee on accuracy_drop"} <= {
        check.name for check in checks
    }


def test_what_cannot_be_met_is_no_bundle(calibrated, tmp_path):
    with pytest.raises(ValueError, match="'perfect', so nothing was written"):
        calibrated.export(
            tmp_path / "bundle",
            operating_points={"perfect": kc.MinAccuracy(1.0, confidence=0.95)},
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["default", "", "a b", "../up", 3.5])
def test_bad_names(calibrated, tmp_path, name):
    with pytest.raises(ValueError, match="names of operating points"):
        calibrated.export(
            tmp_path / "bundle",
            operating_points={name: kc.MaxDelegationRate(0.2)},
        )


def test_a_guarantee_refuses_what_fit_validated_on(cascade, blobs, tmp_path):
    validation = blobs(400, seed=7)
    cascade.fit(*blobs(300, seed=5), validation_data=validation, verbose=0)
    cascade.calibrate(validation, kc.MaxDelegationRate(0.3))
    sure = {"sure": kc.MaxDelegationRate(0.5, confidence=0.9)}
    with pytest.raises(ValueError, match="the validation set"):
        cascade.export(tmp_path / "bundle", operating_points=sure)
    cascade.export(
        tmp_path / "bundle", operating_points=sure, allow_training_data=True
    )


def test_joint_points_split_the_error(cascade, blobs, tmp_path):
    cascade.fit(*blobs(300, seed=5), verbose=0)
    data = blobs(500, seed=6)
    cascade.calibrate(data, kc.MaxDelegationRate(0.4, confidence=0.95))
    bundle = cascade.export(
        tmp_path / "bundle",
        joint=True,
        operating_points={
            "sure": kc.MaxAccuracyDrop(0.2, confidence=0.95),
            "plain": kc.MaxDelegationRate(0.5),
        },
    )
    default, sure, plain = map(
        bundle.operating_point, ("default", "sure", "plain")
    )
    assert default["confidence"] == sure["confidence"] == 0.975
    assert plain["confidence"] is None
    # The cascade keeps what it was calibrated for.
    assert cascade.operating_point.confidence == 0.95

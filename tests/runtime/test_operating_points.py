"""Operating points switched at run time."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_cascade.bundle import BundleError
from keras_cascade.evaluation import delegated_at
from keras_cascade.runtime import EdgeCascade
from keras_cascade.runtime.operating_points import (
    default_name,
    delegation_rules,
)
from tests.helpers.scripted_teacher import ScriptedTeacher, sums


def bundle_with(**thresholds):
    points = [{"name": k, "threshold": t} for k, t in thresholds.items()]
    return SimpleNamespace(manifest={"operating_points": points})


def test_another_point_decides_by_its_own_threshold(
    with_points, blobs, students_answer
):
    x, _ = blobs(80)
    scores = students_answer(x)["score"]
    # A threshold that is one of the scores: that row is kept.
    tie = np.sort(scores)[40]
    edge = EdgeCascade.load(
        with_points(half=tie, all=1e300, none=-1e300),
        teacher=ScriptedTeacher(sums),
    )
    assert edge.operating_points == ["default", "half", "all", "none"]
    assert edge.operating_point["name"] == "default"
    edge.use("half")
    found = edge.predict(x)
    np.testing.assert_array_equal(found.source == "cloud", scores < tie)
    assert found.operating_point == "half"
    assert edge.operating_point["threshold"] == float(tie)
    edge.use("all")
    assert set(edge.predict(x).source) == {"cloud"}
    edge.use("none")
    assert set(edge.predict(x).source) == {"edge"}
    edge.use("default")
    np.testing.assert_array_equal(
        edge.predict(x).source == "cloud", students_answer(x)["delegate"]
    )


def test_the_default_follows_its_threshold(bundle_path, blobs, students_answer):
    x, _ = blobs(400)
    edge = EdgeCascade.load(bundle_path)
    found = students_answer(x)
    np.testing.assert_array_equal(
        found["delegate"],
        delegated_at(found["score"], edge.operating_point["threshold"]),
    )


def test_a_point_to_begin_with(with_points):
    path = with_points(other=0.5)
    edge = EdgeCascade.load(path, operating_point="other")
    assert edge.operating_point["name"] == "other"
    with pytest.raises(BundleError, match=r"out of \['default', 'other'\]"):
        edge.use("nothing")
    assert edge.operating_point["name"] == "other"
    with pytest.raises(BundleError, match="out of"):
        EdgeCascade.load(path, operating_point="nothing")


def test_default_name():
    rules = delegation_rules(bundle_with(a=0.1, default=0.2))
    assert default_name(rules) == "default"
    assert default_name(delegation_rules(bundle_with(a=0.1, b=0.2))) == "a"


@given(
    hnp.arrays("float32", 6, elements=st.floats(width=32, allow_nan=True)),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 5),
    st.booleans(),
)
def test_the_same_rule_as_in_evaluation(scores, threshold, row, tie):
    """Two independent implementations: the device's and the reports'."""
    if tie and np.isfinite(scores[row]):
        threshold = float(scores[row])
    decision = delegation_rules(bundle_with(p=threshold))["p"]
    np.testing.assert_array_equal(
        decision.delegated({"score": scores}), delegated_at(scores, threshold)
    )


def test_not_a_number_is_delegated():
    decision = delegation_rules(bundle_with(p=-1e308))["p"]
    found = decision.delegated({"score": np.array([np.nan, 0], "float32")})
    assert found.tolist() == [True, False]

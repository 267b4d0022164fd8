"""Splits of arrays: by class, and equal inputs together."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.datasets import array_splits
from keras_cascade.datasets.array_splits import (
    splits_from_arrays,
    stratified_parts,
)

PARTS = ("train", "calibration", "test")


def rows(splits):
    """Dict of part to the list of its inputs."""
    return {
        part: [
            x.decode() if isinstance(x, bytes) else int(x)
            for x, _ in getattr(splits, part).as_numpy_iterator()
        ]
        for part in PARTS
    }


@given(
    values=st.lists(st.integers(0, 60), min_size=60, max_size=120),
    seed=st.integers(0, 50),
)
@settings(max_examples=20, deadline=None)
def test_equal_inputs_are_in_one_split_and_none_is_lost(values, seed):
    x = np.array([*range(16), *values])
    parts = rows(splits_from_arrays("x", x, x % 2, ["even", "odd"], seed))
    assert sorted(
        [*parts["train"], *parts["calibration"], *parts["test"]]
    ) == sorted(x.tolist())
    for one in PARTS:
        for other in PARTS:
            assert one == other or not set(parts[one]) & set(parts[other])


def test_texts_that_repeat_themselves():
    texts = np.array([f"text {i % 50}" for i in range(400)], object)
    labels = np.arange(400) % 50 % 2
    splits = splits_from_arrays("texts", texts, labels, ["a", "b"])
    assert "350 repeated inputs" in splits.how
    assert sum(splits.sizes.values()) == 400
    parts = rows(splits)
    assert len(set(parts["train"])) == 26  # 50 - 2 * round(50 / 4)
    assert len(parts["train"]) == 8 * 26


def test_what_the_test_split_holds_is_left_out_of_the_others():
    x = np.arange(100)
    test = (np.arange(90, 130), np.arange(90, 130) % 2)
    splits = splits_from_arrays("x", x, x % 2, ["a", "b"], test=test)
    parts = rows(splits)
    assert not set(parts["test"]) & {*parts["train"], *parts["calibration"]}
    assert len(parts["train"]) + len(parts["calibration"]) == 90
    assert "10 that the test split holds are left out" in splits.how


def test_without_repeats_the_splits_are_those_of_before():
    x = np.arange(1000, 1200)
    parts = rows(splits_from_arrays("x", x, x % 2, ["a", "b"], seed=3))
    shares = {"calibration": 0.25, "test": 0.25}
    for part, index in stratified_parts(x % 2, shares, 3).items():
        assert parts[part] == x[index].tolist()


def test_too_few_different_inputs_are_split_all_the_same():
    # One text cannot be in three splits: repeats are told apart by row.
    x = np.array(["a"] * 10 + ["b", "c", "d", "e"] * 3, object)
    y = np.array([0] * 10 + [1] * 12)
    splits = splits_from_arrays("x", x, y, ["first", "second"])
    assert sum(splits.sizes.values()) == 22
    assert "equal examples are in several splits" in splits.how


def test_every_class_is_calibrated_however_many_there_are(monkeypatch):
    monkeypatch.setattr(array_splits, "MOST_CALIBRATION", 10)
    x = np.arange(150)
    splits = splits_from_arrays(
        "x", x, x % 30, [f"class {c}" for c in range(30)],
        test=(x + 150, x % 30),
    )  # fmt: skip
    assert sorted(splits.arrays("calibration")[1].tolist()) == list(range(30))
    few = splits_from_arrays(
        "x", x, x % 2, ["a", "b"], test=(x + 150, x % 2)
    )  # fmt: skip
    assert few.sizes["calibration"] == 10

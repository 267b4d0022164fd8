"""Class names: their order, and their match with a model's."""

import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.datasets.class_names import matching_labels, ordered_names

DIGITS = [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["10", "9", "1", "9"], ["1", "9", "10"]),
        (["2.5", "-1", "10"], ["-1", "2.5", "10"]),
        (["b", "a", "a"], ["a", "b"]),
        (["9", "10", "ten"], ["10", "9", "ten"]),
        (["nan", "1"], ["1", "nan"]),
    ],
)
def test_order(values, expected):
    assert ordered_names(values) == expected


@pytest.mark.parametrize(
    ("found", "expected", "labels"),
    [
        (["ant", "cow"], ["ant", "bee", "cow"], [0, 2]),
        (["cow", "ant"], ["ant", "bee", "cow"], [2, 0]),
        (["3", "7"], DIGITS, [3, 7]),
        (["cafe\u0301", "tea"], ["tea", "caf\u00e9"], [1, 0]),
        # Indices, as of an npz: file, and a model that nobody named.
        (["0", "1"], ["ant", "bee", "cow"], [0, 1]),
        (["ant", "bee"], ["0", "1"], [0, 1]),
    ],
)
def test_labels_of_a_model(found, expected, labels):
    assert matching_labels(found, expected, "csv:a.csv").tolist() == labels


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (["ant", "dog"], ["ant", "bee", "cow"]),
        (["0", "1", "2"], ["ant", "bee"]),
        # Which two of three is not known.
        (["ant", "bee"], ["0", "1", "2"]),
        (["0", "1"], ["1", "2", "3"]),
    ],
)
def test_other_classes_are_named(found, expected):
    with pytest.raises(ValueError, match=r"csv:a\.csv.*differ in their class"):
        matching_labels(found, expected, "csv:a.csv")


def test_splits_take_over_a_model_s_labels(tmp_path):
    file = tmp_path / "a.csv"
    rows = [f"text {n},{'cow' if n % 2 else 'ant'}" for n in range(40)]
    file.write_text("\n".join(["text,label", *rows]))
    splits = kc.datasets.load(f"csv:{file}").matched(["bee", "cow", "ant"])
    assert splits.class_names == ["bee", "cow", "ant"]
    for part in ("train", "calibration", "test"):
        x, y = splits.arrays(part)
        expected = [1 if int(text.split()[1]) % 2 else 2 for text in x]
        assert y.tolist() == expected
    shuffled = {int(y) for _, y in splits.shuffled.as_numpy_iterator()}
    assert shuffled == {1, 2}


def test_numbers_in_a_table_keep_their_order(tmp_path):
    file = tmp_path / "a.csv"
    rows = [f"text {n},{n % 12}" for n in range(120)]
    file.write_text("\n".join(["text,label", *rows]))
    splits = kc.datasets.load(f"csv:{file}")
    assert splits.class_names == [str(number) for number in range(12)]
    x, y = splits.arrays("train")
    np.testing.assert_array_equal([int(t.split()[1]) % 12 for t in x], y)

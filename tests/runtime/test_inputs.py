"""`prepare_inputs`: validation against a manifest."""

import numpy as np
import pytest

from keras_cascade.runtime.inputs import prepare_inputs

ONE = [{"name": "input", "shape": [None, 2, 3], "dtype": "float32"}]
TWO = [
    {"name": "ids", "shape": [None, 4], "dtype": "int32"},
    {"name": "mask", "shape": [None, None], "dtype": "float32"},
]


def test_a_batch_one_example_and_a_name():
    batch = np.ones((5, 2, 3))
    assert prepare_inputs(batch, ONE)["input"].dtype == np.float32
    assert prepare_inputs(batch[0], ONE)["input"].shape == (1, 2, 3)
    assert prepare_inputs({"input": batch}, ONE)["input"].shape == (5, 2, 3)
    assert prepare_inputs(batch.tolist(), ONE)["input"].shape == (5, 2, 3)


def test_named_inputs_with_a_free_size():
    found = prepare_inputs(
        {"mask": np.ones((2, 9)), "ids": np.ones((2, 4), "int64")}, TWO
    )
    assert found["ids"].dtype == np.int32
    assert found["mask"].shape == (2, 9)


@pytest.mark.parametrize(
    ("x", "specs", "message"),
    [
        (np.ones((5, 3, 2)), ONE, r"shape \['batch', 2, 3\].*\[5, 3, 2\]"),
        (np.ones((2, 2, 2, 3)), ONE, "shape"),
        (np.ones((0, 2, 3)), ONE, "at least one row"),
        (np.full((1, 2, 3), np.nan), ONE, "NaN or infinity"),
        (np.full((1, 2, 3), 1e300), ONE, "NaN or infinity"),
        ([["a"]], ONE, "to hold float32"),
        ([[1, 2], [3]], ONE, "different lengths"),
        (None, ONE, "to hold float32"),
        ({"other": 1}, ONE, r"Expected the inputs \['input'\]"),
        (np.ones((2, 4)), TWO, "dict with the inputs"),
        (
            {"ids": np.ones((2, 4)), "mask": np.ones((2, 4))},
            TWO,
            "'ids' to hold int32",
        ),
        (
            [[300, -1]],
            [{"name": "input", "shape": [None, 2], "dtype": "uint8"}],
            "to fit into uint8. Received values from -1 to 300",
        ),
        (
            {"ids": np.ones((2, 4), int), "mask": np.ones((3, 4))},
            TWO,
            "same number of rows",
        ),
    ],
)
def test_bad_inputs(x, specs, message):
    with pytest.raises(ValueError, match=message):
        prepare_inputs(x, specs)


def test_a_server_does_not_guess_the_batch():
    with pytest.raises(ValueError, match="shape"):
        prepare_inputs(np.ones((2, 3)), ONE, allow_single=False)

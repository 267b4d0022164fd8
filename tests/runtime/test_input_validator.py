"""`InputValidator`: the fast path gives what `prepare_inputs` gives."""

import numpy as np
import pytest

from keras_cascade.runtime.inputs import InputValidator, prepare_inputs

IMAGE = [{"name": "input", "shape": [None, 2, 3], "dtype": "float32"}]
IDS = [{"name": "ids", "shape": [None, 4], "dtype": "int32"}]
SCALAR = [{"name": "input", "shape": [None], "dtype": "float32"}]
FREE = [{"name": "input", "shape": [None, None, 3], "dtype": "float32"}]
TWO = [*IMAGE, *IDS]


def test_an_array_that_fits_is_passed_on_as_it_is():
    x = np.ones((5, 2, 3), "float32")
    assert InputValidator(IMAGE)(x)["input"] is x


@pytest.mark.parametrize(
    ("specs", "x"),
    [
        (IMAGE, np.ones((2, 3), "float32")),
        (IMAGE, np.ones((5, 2, 3))),
        (IMAGE, np.ones((5, 2, 3), "int8")),
        (IMAGE, np.ones((3, 2, 5), "float32").T),
        (IMAGE, {"input": np.ones((5, 2, 3), "float32")}),
        (IMAGE, np.ones((5, 2, 3), ">f4")),
        (IDS, np.arange(8, dtype="int32").reshape(2, 4)),
        (SCALAR, np.float32(3)),
        (SCALAR, np.ones((), "float32")),
        (SCALAR, np.ones(4, "float32")),
        (FREE, np.ones((2, 7, 3), "float32")),
        (TWO, {"input": np.ones((2, 2, 3)), "ids": np.ones((2, 4), int)}),
    ],
)
def test_both_ways_lead_to_the_same(specs, x):
    found, expected = InputValidator(specs)(x), prepare_inputs(x, specs)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize(
    "x",
    [
        np.ones((0, 2, 3), "float32"),
        np.ones((1, 3, 2), "float32"),
        np.full((1, 2, 3), np.nan, "float32"),
        np.full((2, 3), -np.inf, "float32"),
        np.float32(1),
        np.array(None),
    ],
)
def test_inputs_that_do_not_fit_are_rejected(x):
    with pytest.raises(ValueError, match="Expected"):
        InputValidator(IMAGE)(x)

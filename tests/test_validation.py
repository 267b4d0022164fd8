"""Checks of arguments: their results and their error messages."""

import numpy as np
import pytest

from keras_cascade.utils import validation


def test_checked_values_come_back_in_one_type():
    assert type(validation.check_number("x", 1, 0, 2)) is float
    assert validation.check_booleans("x", [1, 0]).tolist() == [True, False]
    assert validation.check_weight(None, 2).tolist() == [1.0, 1.0]
    assert validation.check_weight([0, 3]).dtype == np.float64
    labels = validation.check_labels([[2.0], [0.0]])
    assert labels.dtype == np.int64 and labels.tolist() == [2, 0]
    assert validation.check_scores([[1], [2]]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("check", "arguments", "message"),
    [
        ("check_number", ("x", True, 0, 1), "`x` to be a number in .0, 1."),
        ("check_number", ("x", np.nan, 0, 1), "Received: nan"),
        ("check_number", ("x", 95, 0, 1), r"Write 95 % as 0\.95"),
        ("check_column", ("x", [[1.0]], 1), r"for each of 1.*\(1, 1\)"),
        ("check_column", ("x", [1.0, np.inf], 2), "infinity in 1 of 2"),
        ("check_booleans", ("x", [True], 2), "for each of 2"),
        ("check_booleans", ("x", [0, 2]), r"booleans.*\[0, 2\]"),
        ("check_weight", ([1.0], 2), "to hold 2 numbers"),
        ("check_weight", ([[1.0]],), "one number an example"),
        ("check_weight", ([-1.0, 2.0],), "finite numbers >= 0"),
        ("check_weight", ([0.0, 0.0],), "not all 0"),
        ("check_weight", ([1.0, np.nan],), "finite numbers >= 0"),
        ("check_frequencies", ([], "class"), ">= 0 for each class"),
        ("check_labels", ([],), "at least one label"),
        ("check_labels", ([0.5],), "integers >= 0"),
        ("check_labels", ([0, 1], 3), "labels to hold one value for each of 3"),
        ("check_labels", ([0, 3], 2, 3), "from 0 to 2.*from 0 to 3"),
        ("check_scores", ([np.nan, 1.0],), "2, 1 not finite"),
    ],
)
def test_bad_arguments(check, arguments, message):
    with pytest.raises(ValueError, match=message):
        getattr(validation, check)(*arguments)

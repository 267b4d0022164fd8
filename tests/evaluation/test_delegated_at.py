"""Delegation decisions in the precision of the scores."""

import numpy as np
import pytest

from keras_cascade.evaluation import delegated_at


def test_a_threshold_is_compared_in_the_precision_of_the_scores():
    # 0.7 as float32 is below 0.7 as float64: on the device they are equal.
    score = np.array([0.7], "float32")
    assert not delegated_at(score, 0.7)[0]
    assert delegated_at(score, np.nextafter(score, np.float32(1))[0])[0]
    assert delegated_at(score, 1e300)[0]
    assert delegated_at([1, 2], 2).tolist() == [True, False]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite threshold"):
            delegated_at(score, bad)

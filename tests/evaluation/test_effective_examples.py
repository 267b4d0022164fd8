"""Kish's effective sample size against numbers by hand."""

import numpy as np
import pytest

from keras_cascade.evaluation import effective_examples


def test_effective_examples():
    # Kish: (3 + 1)² / (9 + 1).
    assert effective_examples([3.0, 1.0, 0.0]) == pytest.approx(1.6)
    assert effective_examples([1e-200] * 5) == pytest.approx(5)
    assert effective_examples([1e200, 1e200]) == pytest.approx(2)
    for bad in ([], [-1.0, 2.0], [0.0], [np.nan], [[1.0]]):
        with pytest.raises(ValueError, match="sample_weight"):
            effective_examples(bad)

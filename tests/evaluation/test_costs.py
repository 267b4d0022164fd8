"""Costs and counted operations against counts by hand."""

import keras
import numpy as np
import pytest

from keras_cascade.evaluation import Costs
from keras_cascade.evaluation.flops import (
    costs_from_flops,
    count_flops,
)


def test_amortized_cost_is_the_formula():
    costs = Costs(2.0, 10.0, "ms", "given")
    assert costs.amortized(0.25) == 2.0 + 0.25 * 10.0


@pytest.mark.parametrize("pair", [(-1, 1), (1, 0), (np.nan, 1), (1, np.inf)])
def test_bad_costs(pair):
    with pytest.raises(ValueError, match="student cost >= 0"):
        Costs(*pair, "ms", "given")


def test_flops_of_a_dense_layer():
    # 5·3 multiply-adds count as 30, plus 3 additions of the bias.
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    assert count_flops(model, np.zeros((7, 5), "float32")) == 33


def test_flops_of_a_convolution():
    # 4×4 outputs, 2 channels, 3·3·1 multiply-adds each, plus the bias.
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3, padding="same")]
    )
    expected = 4 * 4 * 2 * (2 * 9 + 1)
    assert count_flops(model, np.zeros((1, 4, 4, 1), "float32")) == expected


def test_costs_are_in_teacher_passes():
    small = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    large = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(3)]
    )
    costs = costs_from_flops(small, large, np.zeros((1, 5), "float32"))
    # 5·7·2 + 7 + 7·3·2 + 3 = 122.
    assert costs.student == 33 / 122
    assert costs.teacher == 1.0
    assert "student 33, teacher 122" in costs.how_measured


def test_what_cannot_be_counted_says_so():
    words = keras.layers.TextVectorization(max_tokens=10)
    words.adapt(["a b", "c d"])
    model = keras.Sequential(
        [
            keras.Input((), dtype="string"),
            words,
            keras.layers.Embedding(10, 4),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(2),
        ]
    )
    costs = costs_from_flops(model, model, np.array(["a b"], dtype=object))
    assert costs.student == 1.0
    assert costs.how_measured.startswith(("numbers of weights", "floating"))

"""Reference models output logits and have the stated size."""

import keras
import numpy as np
import pytest

from keras_cascade import models


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (33, 20, 3)])
@pytest.mark.parametrize("make", [models.image_student, models.image_teacher])
def test_logits_of_any_image_size(make, shape):
    model = make(shape, classes=7, width=4)
    x = np.random.default_rng(0).random((3, *shape)).astype("float32")
    logits = model.predict(x, verbose=0)
    assert logits.shape == (3, 7)
    assert logits.min() < 0


def test_size_of_the_student():
    # 3·3·1·8 + 8, 3·3·8·16 + 16, and 2·2·16·10 + 10 on an 8×8 image.
    expected = 80 + 1168 + 650
    assert models.image_student((8, 8, 1), 10).count_params() == expected


@pytest.mark.parametrize(
    "maker",
    [models.text_bag, models.text_cnn, models.text_transformer],
)
def test_two_of_a_kind_in_one_model(maker):
    ids = keras.Input((None,), dtype="int32")
    members = [maker(20, 3, name=name) for name in ("one", "other")]
    both = keras.Model(ids, keras.layers.average([m(ids) for m in members]))
    x = np.array([[1, 2, 3, 0], [4, 4, 0, 0]], "int32")
    np.testing.assert_allclose(
        both.predict(x, verbose=0),
        sum(m.predict(x, verbose=0) for m in members) / 2,
        atol=1e-6,
    )


@pytest.mark.parametrize("maker", [models.image_student, models.image_teacher])
def test_a_name_of_ones_own(maker):
    assert maker((8, 8, 1), 3, name="mine").name == "mine"

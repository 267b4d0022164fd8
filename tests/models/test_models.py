"""Reference models output logits and have the stated size."""

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

"""A file that does not answer as Keras does says what to try instead."""

import pytest

from keras_cascade.errors import ExportError
from keras_cascade.export import verification


@pytest.mark.parametrize(
    ("quantization", "gap", "distance", "advice"),
    [
        ("int8", 0.9, 0.56, "Try 'dynamic'.*'qat' with `training_data`"),
        ("dynamic", 0.9, 0.3, "Try 'float16'"),
        ("float16", 0.2, 0.1, "Export without `quantization`"),
        ("float32", 0.01, 0.001, "The file was not kept.$"),
    ],
)
def test_next_step(quantization, gap, distance, advice):
    with pytest.raises(ExportError, match=advice):
        verification._check_answers(quantization, gap, distance)

"""A file that does not answer as Keras does says what to try instead."""

import pytest

from keras_cascade.errors import ExportError
from keras_cascade.export import verification
from keras_cascade.utils.answer_form import AnswerForm


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
    gaps = verification._AnswerGaps(AnswerForm((3,)))
    gaps.largest, gaps._distance, gaps._rows = gap, 5 * distance, 5
    with pytest.raises(ExportError, match=advice):
        gaps.check(quantization)

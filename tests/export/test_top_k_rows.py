"""Examples of a fine-tuning job with many classes, there and back."""

import numpy as np

from keras_cascade.export.optimization.fine_tuner import Examples
from keras_cascade.export.optimization.job_folder import (
    read_examples,
    write_examples,
)
from keras_cascade.utils.numpy_top_k import (
    TopKRows,
    dense_logits,
    top_k_arrays,
)


class Graph:
    inputs = ["input"]

    def arrays(self, inputs):
        return {"input": inputs}


def test_batches_are_dense(tmp_path):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 50)).astype("float32")
    x = rng.normal(size=(12, 3)).astype("float32")
    parts = [top_k_arrays(part, 5) for part in np.split(logits, 3)]
    rows = TopKRows.joined(parts, 50)
    assert rows.shape == (12, 50) and len(rows) == 12
    labels = logits.argmax(axis=1).astype("int32")
    write_examples(tmp_path, Graph(), x, labels, rows, None)
    examples = Examples(**read_examples(tmp_path, 1))
    index = np.array([7, 0, 11])
    (inputs,), found, teacher, weight = examples.batch(index)
    expected = dense_logits(**top_k_arrays(logits[index], 5), size=50)
    np.testing.assert_array_equal(teacher, expected)
    np.testing.assert_array_equal(inputs, x[index])
    np.testing.assert_array_equal(found, labels[index])
    assert weight is None

"""Labels in the forms that people have them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_cascade.datasets.input_checks import class_label_check
from keras_cascade.datasets.label_reader import LabelReader
from keras_cascade.datasets.labelled_data import LabelledData

Y = np.array([2, 0, 1, 1, 2, 0, 0, 2])
NAMES = ["owl", "cat", "dog"]
FORMS = {
    "one-hot": np.eye(3)[Y],
    "names": np.array(NAMES)[Y],
    "column of names": np.array(NAMES, object)[Y][:, None],
    "bytes": np.array(NAMES, "S")[Y],
    "integers": Y,
}


class Batches(keras.utils.PyDataset):
    def __init__(self, y):
        super().__init__()
        self.y = y

    @property
    def num_batches(self):
        return 2

    def __getitem__(self, index):
        rows = slice(4 * index, 4 * index + 4)
        return np.ones((4, 1)), self.y[rows], np.ones(4)


def containers(y):
    x = np.ones((8, 1))
    objects = y.astype("S") if y.dtype.kind in "OU" else y
    yield LabelledData(x, y)
    yield LabelledData(
        tf.data.Dataset.from_tensor_slices((x, objects)).batch(4)
    )
    yield LabelledData(Batches(y))
    yield LabelledData((x[i : i + 4], y[i : i + 4]) for i in (0, 4))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_container(form):
    for data in containers(FORMS[form]):
        read = data.with_indices(LabelReader(3, NAMES))
        # What was read once is not read again.
        read = LabelledData.from_argument(read).with_indices(LabelReader(3))
        labels = [
            y.ravel() for _, y, _ in read.checked_batches(class_label_check(3))
        ]
        np.testing.assert_array_equal(np.concatenate(labels), Y)


def test_labels_from_one():
    reader = LabelReader(3)
    data = LabelledData(np.ones((8, 1)), Y + 1).with_indices(reader)
    np.testing.assert_array_equal(data.y, Y)
    assert reader.first == 1
    # Later data without the last class are read in the same way.
    later = LabelReader(3, first=reader.first)
    few = LabelledData(np.ones((2, 1)), [1, 2]).with_indices(later)
    np.testing.assert_array_equal(few.y, [0, 1])
    with pytest.raises(ValueError, match="labels from 1 to 3, as in the data"):
        LabelledData(np.ones((2, 1)), [0, 2]).with_indices(later)


def test_labels_that_could_begin_with_either():
    many = LabelledData(np.ones((96, 1)), np.tile([1, 2, 3], 32))
    with pytest.raises(ValueError, match="Labels from 1 to 3 are ambiguous"):
        many.with_indices(LabelReader(4), strict=True)
    for reader in (LabelReader(4, list("abcd")), LabelReader(4, first=0)):
        read = many.with_indices(reader, strict=True)
        np.testing.assert_array_equal(read.y, many.y)


@pytest.mark.parametrize(
    ("y", "names", "message"),
    [
        (np.array(["a", "b"]), None, r"names \['a', 'b'\], and the order"),
        (np.array(["a", "b"]), ["a", "c"], r"Received: \['b'\]"),
        (np.array([[0.5, 0.5], [0, 1]]), None, "that are shares"),
        (np.eye(3)[:2], None, r"one-hot ones of shape \(batch, 2\)"),
        (np.ones((2, 2)), None, "several classes per example"),
    ],
)
def test_what_is_refused(y, names, message):
    for container in range(2):
        data = LabelledData(np.ones((2, 1)), y)
        if container:
            dataset = tf.data.Dataset.from_tensor_slices((np.ones((2, 1)), y))
            data = LabelledData(dataset.batch(2))
        with pytest.raises(ValueError, match=message):
            list(
                data.with_indices(LabelReader(2, names)).checked_batches(
                    class_label_check(2)
                )
            )

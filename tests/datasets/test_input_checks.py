"""What training and measuring refuse of text."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cascade.datasets.input_checks import (
    check_class_labels,
    check_inputs,
    class_label_check,
)
from keras_cascade.datasets.labelled_data import LabelledData


@pytest.mark.parametrize(
    "x",
    [
        np.array(["one", "zwölf"]),
        np.array(["one", "zwölf"], object),
        np.array([b"one", "zwölf".encode()], object),
        {"premise": np.array(["a", "b"]), "ids": np.ones((2, 3), "int32")},
        (np.array(["a", "b"]), np.ones((2, 3), "float32")),
    ],
)
def test_text_is_taken(x):
    check_inputs(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array(["a", "", ""]), "text in x. Received an empty string in row"),
        (np.array([b"a", b" "], object), "x. Received white space.* in row 1"),
        (np.array(["a", None], object), "x.*Received: None in row 1"),
        (np.array([b"a", b"\xff"], object), "x. Received bytes.*in row 1"),
        (np.array([b"a", b"\xff"]), "x. Received bytes that are no UTF-8"),
        (np.array(["a", "\ud800"]), "x. Received half a surrogate"),
        (
            {"premise": np.array(["a"]), "hypothesis": np.array([""])},
            "text in hypothesis. Received an empty string in row 0",
        ),
    ],
)
def test_what_is_no_text(x, message):
    with pytest.raises(ValueError, match=message):
        check_inputs(x)


def test_texts_of_tf_data():
    """They come as bytes; the row is the batch's."""
    texts = ["a", "ö", "c", "d", ""]
    dataset = tf.data.Dataset.from_tensor_slices((texts, range(5))).batch(3)
    batches = LabelledData(dataset).checked_batches(class_label_check(5))
    assert next(batches)[0].tolist() == [b"a", "ö".encode(), b"c"]
    with pytest.raises(ValueError, match="empty string in row 1"):
        next(batches)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.eye(5)[:4], r"one-hot ones of shape \(batch, 4\).*y.argmax"),
        (np.full((4, 4), 0.25), "that are shares, such as"),
        (np.ones((4, 4), int), "several classes per.*task='multilabel'"),
        (np.array([1, 0.5, 2, 3]), r"such as \[0.5\].*tasks.Regression"),
        (np.array([1, np.nan, 2, np.nan]), "NaN, in 2 of 4 examples"),
        (np.array(["a", "b", "a", "c"]), "return_inverse=True"),
        (np.array([b"a", b"b", b"a", b"c"], object), "return_inverse=True"),
    ],
)
def test_labels_of_other_tasks(y, message):
    with pytest.raises(ValueError, match=message):
        check_class_labels(y, 4)


@pytest.mark.parametrize("kind", ["int8", "uint64", "float32", "bool"])
def test_labels_of_every_kind(kind):
    check_class_labels(np.array([0, 1]).astype(kind), 2)
    check_class_labels(np.array([[0], [1]]).astype(kind), 2)

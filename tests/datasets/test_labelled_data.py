"""Arrays and batches in forms that Keras itself does not take, or not all."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.datasets.array_forms import as_arrays, as_column
from keras_cascade.datasets.labelled_data import LabelledData


class Tensor:
    """A tensor of PyTorch, as far as it is used here."""

    def __init__(self, array):
        self.array = array

    def detach(self):
        return self

    def cpu(self):
        return self

    def numpy(self):
        return self.array


class Loader:
    """Batches that are iterated, as by PyTorch's `DataLoader`."""

    def __init__(self, x, y, size=8):
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __iter__(self):
        for start in range(0, len(self.x), self.size):
            rows = slice(start, start + self.size)
            yield [Tensor(self.x[rows]), Tensor(self.y[rows])]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i4", "f4", "f8", "u2"])
def test_byte_orders_become_this_machines(order, kind):
    array = as_arrays(np.arange(6, dtype=order + kind).reshape(3, 2))
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, [[0, 1], [2, 3], [4, 5]])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1.5, 2.5]), [[1.5], [2.5]]),
        (pd.Series([1, 2], dtype="Int64"), [[1], [2]]),
        (pd.Series([1, None], dtype="Int64"), [[1.0], [np.nan]]),
        (pd.Series([True, False]), [[True], [False]]),
        (pd.Series([True, False], dtype="boolean"), [[True], [False]]),
        (pd.Series([3, 4], dtype="category"), [[3], [4]]),
        (pd.Series(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, 1]}), [[1, 0.5], [2, 1]]),
        (pd.DataFrame({"a": [1, 2], "b": [True, False]}), [[1, 1], [2, 0]]),
        (
            pd.DataFrame({"a": [1, 2], "b": [3, 4]}, dtype="Int64"),
            [[1, 3], [2, 4]],
        ),
        (pd.DataFrame({"a": ["x", "y"]}), [["x"], ["y"]]),
        (np.array([[1], [2]], object), [[1], [2]]),
        (np.array([["a"], ["b"]], object), [["a"], ["b"]]),
        (["a", "b"], ["a", "b"]),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
        (tf.constant([[1], [2]]), [[1], [2]]),
        (tf.constant(["a", "b"]), ["a", "b"]),
    ],
)
def test_columns_become_arrays(column, expected):
    array = as_arrays(column)
    assert isinstance(array, np.ndarray)
    assert array.dtype.kind == "O" or array.dtype.kind in "biuf"
    expected = np.array(expected)
    assert (array.dtype.kind == "O") == (expected.dtype.kind == "U")
    np.testing.assert_array_equal(array, expected)
    assert LabelledData(column).size == 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [0, 1, 2]),
        ([[0], [1]], [[0], [1]]),
        ([False, True], [0, 1]),
        (pd.Series([0, 1], dtype="Int64"), [0, 1]),
        (pd.DataFrame({"label": [0, 1]}), [[0], [1]]),
        (np.array([0, 1], object), [0, 1]),
        (tf.constant([0, 1]), [0, 1]),
        (np.array([0, 1], ">i4"), [0, 1]),
    ],
)
def test_labels_become_arrays(values, expected):
    column = as_column(values)
    assert column.dtype.kind in "iub"
    np.testing.assert_array_equal(column.reshape(np.shape(expected)), expected)


@pytest.mark.parametrize(
    "mixed",
    [
        pd.DataFrame({"age": [1, 2], "name": ["a", "b"]}),
        np.array([["a", 1], ["b", 2]], object),
    ],
)
def test_texts_beside_numbers_are_refused(mixed):
    with pytest.raises(ValueError, match="Pass a dict of columns"):
        as_arrays(mixed)


def test_batches_that_can_be_iterated_are_trained_on_in_every_epoch(
    cascade, blobs
):
    x, y = blobs(44)
    loader = Loader(x, y)
    cascade.fit(loader, epochs=2, verbose=0)
    assert int(cascade.optimizer.iterations) == 12
    assert cascade.data_record.training.examples == 44
    for whole, loaded in (
        (cascade.judge((x, y)), cascade.judge(loader)),
        (cascade.judge((x, y)), cascade.judge(loader)),
    ):
        np.testing.assert_allclose(whole.scores, loaded.scores, atol=1e-6)
    np.testing.assert_allclose(
        cascade.predict(loader, verbose=0)["score"], whole.scores, atol=1e-6
    )


@pytest.mark.parametrize(
    "labels", [list, lambda y: pd.Series(y, dtype="Int64")]
)
def test_labels_in_a_list_and_nullable_ones(cascade, blobs, labels):
    x, y = blobs(40)
    cascade.fit(x, labels(y.tolist()), verbose=0)
    other, y = blobs(40, seed=5)
    cascade.calibrate(
        (other, labels(y.tolist())), kc.MaxDelegationRate(0.5, tolerance=0.5)
    )


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        lambda x: np.array(x, object)[:, None],
        lambda x: pd.Series(x, dtype=object),
        lambda x: pd.Series(x, dtype="string"),
        lambda x: pd.DataFrame({"text": x}),
        lambda x: tf.constant(x),
    ],
)
def test_texts_in_every_form(form):
    x = [f"red{i % 3} blue{i % 5} thing{i}" for i in range(24)]
    more = [text.replace("thing", "item") for text in x]
    y = np.arange(24) % 3
    tokenizer = kc.text.train_tokenizer(x)
    teacher, student = (
        kc.text.TextModel(
            kc.models.text_bag(tokenizer.vocabulary_size, classes=3), tokenizer
        )
        for _ in range(2)
    )
    cascade = kc.Cascade(teacher, student)
    cascade.compile("sgd", run_eagerly=True)
    cascade.fit(form(x), y, verbose=0)
    np.testing.assert_allclose(cascade.scores(form(more)), cascade.scores(more))
    cascade.calibrate((form(more), y), kc.MaxDelegationRate(0.5, tolerance=0.5))


def test_data_without_an_end_is_refused(cascade, blobs):
    x, y = blobs(16)
    endless = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).repeat()
    with pytest.raises(ValueError, match="Expected data with an end"):
        cascade.judge(endless)
    assert len(list(LabelledData(endless).batches(steps=3))) == 3


def test_a_teacher_whose_logits_are_in_a_dict(dense_model, blobs):
    class Named(keras.Model):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def call(self, inputs):
            return {"logits": self.model(inputs), "hidden": inputs}

    plain = dense_model(8)
    x, y = blobs(40)
    answers = []
    for teacher in (plain, Named(plain)):
        keras.utils.set_random_seed(2)
        cascade = kc.Cascade(teacher, dense_model(3))
        cascade.compile("sgd")
        cascade.threshold = 2.0
        answers.append(cascade.predict(x, verbose=0)["probabilities"])
        answers.append(
            cascade.evaluate(x, y, verbose=0, return_dict=True)[
                "teacher_accuracy"
            ]
        )
        cache = kc.cache_teacher_logits(x, teacher, dtype="float32")
        answers.append(cache.logits(x))
        cascade.fit(x, y, verbose=0, teacher_logits=cache)
        cascade.fit(x, y, verbose=0)
    for one, other in zip(answers[:3], answers[3:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_teacher_logits_of_batches_of_several_lengths(tmp_path):
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, rng.integers(2, 6)) for _ in range(40)]
    data = tf.data.Dataset.from_generator(
        lambda: iter(rows), output_signature=tf.TensorSpec((None,), "int64")
    ).padded_batch(4)
    teacher = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(10, 4, mask_zero=True),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3),
        ]
    )
    cache = kc.cache_teacher_logits(
        data, teacher, tmp_path / "c", "float32", batch_size=8
    )
    for batch in data:
        expected = keras.ops.softmax(teacher(batch), axis=-1)
        np.testing.assert_allclose(
            cache.probabilities(batch.numpy()), expected, atol=1e-5
        )


def test_lengths_that_differ_are_one_error(cascade, blobs):
    x, y = blobs(60)
    for act in (cascade.fit, cascade.evaluate, lambda x, y: LabelledData(x, y)):
        with pytest.raises(ValueError, match=r"same length.*\[59, 60\]"):
            act(x, y[:-1])
    with pytest.raises(ValueError, match=r"same length.*\[60, 61\]"):
        LabelledData(x, y, np.ones(61))


def test_a_generator_of_lists_is_one_error(cascade, blobs):
    x, y = blobs(16)
    batches = ((x[i : i + 8].tolist(), y[i : i + 8].tolist()) for i in (0, 8))
    with pytest.raises(ValueError, match="arrays with a batch axis"):
        cascade.fit(batches, verbose=0)


def test_rows_of_several_lengths_in_one_tensor_are_refused(cascade):
    """Keras's own answers to them are not those to zeros at the end."""
    ragged = tf.ragged.constant([[1], [2, 3]])
    batches = tf.data.Dataset.from_tensor_slices((ragged, [0, 1])).batch(2)
    for data in ((ragged, np.array([0, 1])), batches, iter(batches)):
        with pytest.raises(ValueError, match=r"x\.to_tensor\(\)"):
            list(LabelledData.from_argument(data).batches())
    with pytest.raises(ValueError, match=r"mask_zero=True"):
        cascade.fit(batches, verbose=0)

"""Batches, labelled data and fingerprints."""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.cli.trainer import batched
from keras_cascade.datasets import batches, fingerprint
from keras_cascade.datasets.fingerprint import Fingerprint, example_hashes
from keras_cascade.datasets.input_checks import class_label_check
from keras_cascade.datasets.labelled_data import (
    ExampleObserver,
    LabelledData,
    original_error,
)

X = {"a": np.arange(20.0).reshape(10, 2), "b": np.arange(10)}
Y = np.arange(10) % 3


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        rows = slice(4 * i, 4 * i + 4)
        return batches.take_rows(X, rows), Y[rows]


def sources():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    return {
        "arrays": (X, Y),
        "tf.data": (dataset, None),
        "PyDataset": (Sequence(), None),
        "generator": ((Sequence()[i] for i in range(3)), None),
    }


@pytest.mark.parametrize("kind", list(sources()))
def test_every_kind_gives_the_same_batches(kind):
    data = LabelledData(*sources()[kind], batch_size=4)
    np.testing.assert_array_equal(data.first_rows(2)["b"], [0, 1])
    found = list(data.batches())
    assert [batches.rows_of(b[0]) for b in found] == [4, 4, 2]
    whole = batches.concatenate_rows([b[0] for b in found])
    np.testing.assert_array_equal(whole["a"], X["a"])
    np.testing.assert_array_equal(np.concatenate([b[1] for b in found]), Y)
    assert all(b[2] is None for b in found)
    if kind != "generator":
        assert data.number_of_batches() == 3
        assert data.number_of_batches(steps=2) == 2


def test_looking_at_a_generator_draws_nothing_from_it():
    data = LabelledData(Sequence()[i] for i in range(3))
    assert batches.rows_of(data.first_rows()) == 4
    assert len(list(data.batches())) == 3


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"Received lengths: \[9, 10\]"):
        list(batches.iterate_batches(X, Y[:9]))
    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    with pytest.raises(ValueError, match="separate `y`"):
        list(batches.iterate_batches(dataset, Y))


@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 1000),
    size=st.integers(1, 20),
)
@settings(max_examples=50, deadline=None)
def test_a_fingerprint_ignores_order_and_batching(rows, seed, size):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype("float32")
    one, other = Fingerprint(), Fingerprint()
    one.update(x)
    shuffled = x[rng.permutation(rows)]
    for start in range(0, rows, size):
        other.update(shuffled[start : start + size])
    assert one.hexdigest() == other.hexdigest()
    assert one.examples == other.examples == rows


def test_overlap_is_counted(monkeypatch):
    x = np.random.default_rng(0).normal(size=(4000, 3))
    for size in (65_536, 500):  # whole, and as a sample
        monkeypatch.setattr(fingerprint, "SKETCH_SIZE", size)
        train, held_out = Fingerprint(), Fingerprint()
        train.update(x[:3000])
        held_out.update(x[2000:])
        share = held_out.share_seen_in(train)
        if size == 65_536:
            assert share == 0.5
        else:
            assert 0.35 < share < 0.65
            assert len(train.hashes) == 500
        assert Fingerprint().share_seen_in(train) == 0.0


def test_bytes_and_floats_of_the_same_image_are_one_example():
    image = np.arange(12, dtype=np.uint8).reshape(1, 12)
    np.testing.assert_array_equal(
        example_hashes(image), example_hashes(image.astype("float64"))
    )


def test_texts_and_dictionaries_are_hashed():
    texts = np.array(["a", "b", "a"], dtype=object)
    hashes = example_hashes(texts)
    assert hashes[0] == hashes[2] != hashes[1]
    as_bytes = np.array([t.encode() for t in texts], dtype=object)
    np.testing.assert_array_equal(hashes, example_hashes(as_bytes))
    assert len(set(example_hashes(X).tolist())) == 10


@pytest.mark.parametrize("kind", list(sources()))
def test_observing_changes_nothing_and_sees_every_batch(kind):
    examples = Fingerprint()
    observer = ExampleObserver(class_label_check(3), on_inputs=examples.update)
    data = LabelledData(*sources()[kind], batch_size=4).observed(observer)
    found = list(data.batches())
    np.testing.assert_array_equal(
        batches.concatenate_rows([b[0] for b in found])["a"], X["a"]
    )
    np.testing.assert_array_equal(np.concatenate([b[1] for b in found]), Y)
    assert examples.examples == 10


@pytest.mark.parametrize("kind", list(sources()))
def test_the_original_error_comes_through(kind):
    observer = ExampleObserver(class_label_check(2))
    with (
        pytest.raises(ValueError, match=r"labels from 0 to 1.*from 0 to 2"),
        original_error(observer),
    ):
        data = LabelledData(*sources()[kind], batch_size=4).observed(observer)
        list(data.batches())


def test_an_observed_pydataset_keeps_its_hooks_and_size():
    calls = []

    class Hooked(Sequence):
        def on_epoch_begin(self):
            calls.append("begin")

        def on_epoch_end(self):
            calls.append("end")

    hooked = LabelledData(Hooked(workers=2, max_queue_size=5))
    observed = hooked.observed(ExampleObserver(class_label_check(3))).x
    assert observed.num_batches == 3
    assert (observed.workers, observed.max_queue_size) == (2, 5)
    observed.on_epoch_begin()
    observed.on_epoch_end()
    assert calls == ["begin", "end"]


def test_an_endless_iterable_is_cut():
    endless = (Sequence()[0] for _ in itertools.count())
    assert len(list(batches.iterate_batches(endless, steps=5))) == 5


@pytest.mark.parametrize(
    ("mebibytes", "sizes"), [(20, [3, 3, 3, 1]), (80, [1] * 10), (1, [10])]
)
def test_own_passes_take_rows_by_their_bytes(mebibytes, sizes):
    """64 MiB at a time, at least a row, at most 32 rows."""
    row = np.zeros(1, "float32")
    x = np.broadcast_to(row, (10, mebibytes * 2**20 // row.itemsize))
    parts = batches.iterate_batches(x, np.arange(10))
    assert [len(labels) for _, labels, _ in parts] == sizes


@pytest.mark.parametrize(
    ("side", "size"),
    # 6 MiB of float32, at most 128 rows, at least 8.
    [(224, 10), (64, 128), (96, 56), (512, 8)],
)
def test_commands_take_images_by_their_bytes(side, size):
    one = tf.data.Dataset.from_tensors((tf.zeros((side, side, 3)), 0))
    examples = one.repeat(150)
    splits = SimpleNamespace(
        train=examples, shuffled=examples, calibration=examples, test=examples
    )
    for part in batched(splits).values():
        x, _ = next(iter(part))
        assert len(x) == size

"""The data record: an example counts once the step that used it has run."""

import itertools
import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.data_record import DataRecord
from keras_cascade.datasets.fingerprint import Fingerprint

BATCH = 16


class StopsAt(keras.callbacks.Callback):
    """Raises when a step begins or ends."""

    def __init__(self, begin=None, end=None):
        super().__init__()
        self.begin, self.end = begin, end

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.begin:
            raise RuntimeError("stopped")

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.end:
            raise RuntimeError("stopped")


def as_tf_data(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


def as_generator(x, y):
    return (
        (x[start : start + BATCH], y[start : start + BATCH])
        for start in range(0, len(x), BATCH)
    )


IN_ORDER = pytest.mark.parametrize("batches", [as_tf_data, as_generator])


def recorded(cascade, x):
    """Share of `x` that counts as trained on."""
    examples = Fingerprint()
    examples.update(x)
    return examples.share_seen_in(cascade.data_record.training)


def test_without_compile_nothing_is_recorded(dense_model, blobs):
    x, y = blobs(200)
    cascade = kc.Cascade(dense_model(8), dense_model(3))
    with pytest.raises(ValueError, match="compile"):
        cascade.fit(x, y, validation_data=blobs(50, seed=1), verbose=0)
    assert cascade.data_record.training.examples == 0
    assert cascade.data_record.validation.examples == 0
    cascade.compile()
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=0.5))


# Keras warns of every generator that ends.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_every_example_of_a_whole_fit_is_recorded_once(cascade, blobs):
    x, y = blobs(10 * BATCH)
    held_out = blobs(60, seed=3)
    for data in ((x, y), (as_tf_data(x, y),), (as_generator(x, y),)):
        cascade.forget_data()
        cascade.fit(*data, validation_data=held_out, verbose=0)
        assert cascade.data_record.training.examples == 10 * BATCH
        assert cascade.data_record.validation.examples == 60
        assert recorded(cascade, x) == 1


@pytest.mark.parametrize("as_data", [None, as_tf_data, as_generator])
def test_before_the_first_step_nothing_is_recorded(cascade, blobs, as_data):
    x, y = blobs(200)
    point = cascade.calibrate(
        blobs(200, seed=5), kc.MaxDelegationRate(0.5, tolerance=0.5)
    )
    data = (x, y) if as_data is None else (as_data(x, y),)
    with pytest.raises(RuntimeError, match="stopped"):
        cascade.fit(*data, callbacks=[StopsAt(begin=0)], verbose=0)
    assert cascade.data_record.training.examples == 0
    assert cascade.operating_point == point
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=0.5))


@IN_ORDER
@pytest.mark.parametrize("stop", [{"begin": 3}, {"end": 2}])
def test_a_stopped_epoch_records_the_steps_that_ran(
    cascade, blobs, batches, stop
):
    x, y = blobs(10 * BATCH)
    with pytest.raises(RuntimeError, match="stopped"):
        cascade.fit(batches(x, y), callbacks=[StopsAt(**stop)], verbose=0)
    assert int(cascade.optimizer.iterations) == 3
    assert recorded(cascade, x[: 3 * BATCH]) == 1
    assert recorded(cascade, x[3 * BATCH :]) == 0
    assert cascade.data_record.training.examples == 3 * BATCH


@IN_ORDER
def test_training_that_a_callback_ends_early(cascade, blobs, batches):
    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    x, y = blobs(10 * BATCH)
    cascade.fit(batches(x, y), callbacks=[Enough()], verbose=0)
    assert recorded(cascade, x[: 3 * BATCH]) == 1
    assert recorded(cascade, x[3 * BATCH :]) == 0


@IN_ORDER
def test_a_bad_batch_is_not_recorded_nor_what_follows(cascade, blobs, batches):
    x, y = blobs(10 * BATCH)
    y[2 * BATCH] = 99
    with pytest.raises(ValueError, match="labels from"):
        cascade.fit(batches(x, y), verbose=0)
    assert recorded(cascade, x[: 2 * BATCH]) == 1
    assert recorded(cascade, x[2 * BATCH :]) == 0


def test_arrays_are_shuffled_so_the_first_step_records_all(cascade, blobs):
    x, y = blobs(10 * BATCH)
    with pytest.raises(RuntimeError, match="stopped"):
        cascade.fit(
            x, y, batch_size=BATCH, callbacks=[StopsAt(begin=1)], verbose=0
        )
    assert recorded(cascade, x) == 1


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_later_epochs_that_draw_on_are_recorded(
    dense_model, blobs, steps_per_execution
):
    x, y = blobs(12 * BATCH)
    cascade = kc.Cascade(dense_model(8), dense_model(3))
    cascade.compile(steps_per_execution=steps_per_execution)
    cascade.fit(as_tf_data(x, y), steps_per_epoch=4, epochs=2, verbose=0)
    assert recorded(cascade, x[: 8 * BATCH]) == 1
    assert recorded(cascade, x[8 * BATCH :]) == 0


def test_metrics_that_keras_builds_with_a_pass_of_its_own(dense_model, blobs):
    x, y = blobs(10 * BATCH)
    cascade = kc.Cascade(dense_model(8), dense_model(3))
    cascade.compile(metrics=["accuracy"])
    with pytest.raises(RuntimeError, match="stopped"):
        cascade.fit(as_tf_data(x, y), callbacks=[StopsAt(begin=2)], verbose=0)
    assert recorded(cascade, x[: 2 * BATCH]) == 1
    assert recorded(cascade, x[2 * BATCH :]) == 0


def test_a_cached_fit_is_recorded_alike(cascade, blobs):
    x, y = blobs(10 * BATCH)
    cache = kc.cache_teacher_logits((x, y), cascade.teacher)
    for data in ((x, y), (as_tf_data(x, y),)):
        cascade.forget_data()
        cascade.fit(*data, teacher_logits=cache, epochs=2, verbose=0)
        assert cascade.data_record.training.examples == 10 * BATCH
        assert recorded(cascade, x) == 1


def test_a_batch_that_failed_is_not_recorded(cascade, blobs):
    x, y = blobs(BATCH)
    with pytest.raises(ValueError, match="labels from"):
        cascade.train_on_batch(x, y + 9)
    assert cascade.data_record.training.examples == 0
    cascade.train_on_batch(x, y)
    assert recorded(cascade, x) == 1


def test_forgotten_data_may_be_used_again(cascade, blobs):
    x, y = blobs(200)
    objective = kc.MaxDelegationRate(0.5, tolerance=0.5)
    cascade.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="with the training set"):
        cascade.calibrate((x, y), objective)
    weights, threshold = cascade.student.get_weights(), cascade.threshold
    cascade.forget_data()
    assert cascade.operating_point is None
    assert cascade.threshold == threshold
    for before, after in zip(
        weights, cascade.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, after)
    cascade.calibrate((x, y), objective)


# Slips of the first page.


def test_labels_beside_the_inputs(cascade, blobs):
    cascade.fit(*blobs(256, seed=9), epochs=5, verbose=0)
    x, y = blobs(200)
    objective = kc.MaxDelegationRate(0.5, tolerance=0.5)
    together = cascade.judge((x, y))
    beside = cascade.judge(x, y)
    np.testing.assert_array_equal(together.scores, beside.scores)
    np.testing.assert_array_equal(
        together.student_correct, beside.student_correct
    )
    point = cascade.calibrate(x, objective, y=y)
    assert point == cascade.calibrate((x, y), objective)
    assert cascade.fit_temperature(x, y=y) is cascade.gate
    evaluated = [
        cascade.evaluate(*data, verbose=0, allow_training_data=True)
        for data in ((x, y), ((x, y),))
    ]
    assert evaluated[0] == evaluated[1]


def test_slips_are_told_what_to_write(cascade, blobs):
    x, y = blobs(50)
    with pytest.raises(ValueError, match=r"as `calibrate\(\(x, y\), obj"):
        cascade.calibrate(x, y)
    with pytest.raises(ValueError, match="Expected an objective, such as"):
        cascade.calibrate(x, y=y)
    with pytest.raises(ValueError, match=r"`compile\('adam', metrics="):
        cascade.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="`batch_size=256`"):
        cascade.judge((x, y), 256)
    with pytest.raises(ValueError, match=r"or by name, `y=y`"):
        cascade.calibrate(x, kc.MaxDelegationRate(0.5), y)
    with pytest.raises(ValueError, match="Received inputs only"):
        cascade.judge(x)
    batches = itertools.repeat((x, y), 1)
    with pytest.raises(ValueError, match="separate `y`"):
        cascade.judge(batches, y)


# Files of 0.1.0, whose hashes are of float32 values.


def as_of_0_1_0(folder, tmp_path, x):
    """A record whose training examples 0.1.0 hashed."""
    old = Fingerprint()
    old.update(x.astype("float32"))
    record = DataRecord()
    record.training = old
    record.save(folder)
    state = json.loads((folder / "cascade.json").read_text())
    del state["of_float32"]
    (folder / "cascade.json").write_text(json.dumps(state))
    for file in folder.glob("*.cast.npy"):
        file.unlink()
    loaded = DataRecord()
    loaded.load(folder)
    return loaded


@pytest.mark.parametrize("saved_again", [False, True])
def test_what_a_record_of_0_1_0_can_still_tell(tmp_path, saved_again):
    def refused(record, x):
        examples = Fingerprint()
        examples.update(x)
        record.refuse(examples, "training")

    rng = np.random.default_rng(0)
    plain, wide = (
        rng.normal(size=(50, 3)).astype("float32"),
        10**9 + 2 * (np.arange(50)[:, None]),
    )
    records = []
    for number, x in enumerate((plain, wide)):
        folder = tmp_path / str(number)
        folder.mkdir()
        record = as_of_0_1_0(folder, tmp_path, x)
        if saved_again:
            record.save(folder)
            record = DataRecord()
            record.load(folder)
        records.append(record)
    exact, rounded = records
    with pytest.raises(ValueError, match="the training set itself") as error:
        refused(exact, plain)
    assert "0.1.0" not in str(error.value)
    refused(exact, plain + 1)
    for x in (wide, wide + 1):  # it cannot tell which
        with pytest.raises(ValueError, match=r"of keras_cascade 0\.1\.0, whi"):
            refused(rounded, x)
    refused(rounded, wide + 10**6)
    # What is recorded from here on is told apart.
    rounded.forget()
    rounded.training.update(wide)
    refused(rounded, wide + 1)


def test_a_record_keeps_what_float64_is_cast_to(tmp_path):
    x = np.random.default_rng(0).normal(size=(40, 3))
    record = DataRecord()
    record.training.update(x)
    record.save(tmp_path)
    loaded = DataRecord()
    loaded.load(tmp_path)
    for copy in (x, x.astype("float32")):
        examples = Fingerprint()
        examples.update(copy)
        with pytest.raises(ValueError, match="the training set itself"):
            loaded.refuse(examples, "training")


# Numbers that float32 cannot hold.


def hashed_ids():
    inputs = keras.Input((1,), dtype="int64")
    x = keras.layers.Embedding(50, 4)(keras.ops.mod(inputs, 47))
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def wide_numbers():
    days = 739_000.0 + np.arange(400)[:, None] / 720
    return {
        "user ids": (
            hashed_ids,
            10**9 + 2 * np.arange(400)[:, None],
            10**9 + 1 + 2 * np.arange(400)[:, None],
        ),
        "Unix times": (
            hashed_ids,
            1_700_000_000 + 3600 * np.arange(400)[:, None],
            1_700_000_030 + 3600 * np.arange(400)[:, None],
        ),
        "days": (
            lambda: keras.Sequential(
                [
                    keras.Input((1,)),
                    keras.layers.Rescaling(1.0, -739_000.0),
                    keras.layers.Dense(3),
                ]
            ),
            days,
            days + 0.0007,
        ),
    }


# JAX has no 64-bit types unless asked for; it says so, and takes 32 bits.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("name", list(wide_numbers()))
def test_disjoint_data_is_not_taken_for_training_data(name):
    make, x, other = wide_numbers()[name]
    y = np.arange(400) % 3
    cascade = kc.Cascade(make(), make())
    cascade.compile()
    cascade.fit(x, y, verbose=0)
    objective = kc.MaxDelegationRate(0.5, tolerance=1.0)
    cascade.calibrate((other, y), objective)
    with pytest.raises(ValueError, match="the training set itself"):
        cascade.calibrate((x, y), objective)

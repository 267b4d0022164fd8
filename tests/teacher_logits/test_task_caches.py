"""Caches of a task's outputs: raw, of any shape, as good as the teacher."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from tests.helpers.pixel_task import Pixels
from tests.helpers.trained_task_cascades import TASKS, cascade, labelled, models

KINDS = ["multilabel", "regression", "pixels"]


def cached(kind, data, teacher, **arguments):
    return kc.cache_teacher_logits(
        data, teacher, task=TASKS[kind], batch_size=16, **arguments
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_outputs_are_the_teachers_own(kind, dtype):
    x, y = labelled(kind, 100)
    teacher, _ = models(kind)
    cache = cached(kind, (x, y), teacher, dtype=dtype, chunk_examples=32)
    live = teacher.predict(x, verbose=0)
    assert cache.shape == live.shape[1:]
    assert cache.classes == live.shape[-1]
    assert cache.activation == TASKS[kind].activation
    # Half precision has 11 significant bits; below 6e-5 its steps are 6e-8.
    close = {"rtol": 0, "atol": 1e-6}
    if dtype == "float16":
        close = {"rtol": 2.0**-11, "atol": 1e-6}
    order = np.random.default_rng(1).permutation(100)
    np.testing.assert_allclose(cache.logits(x[order]), live[order], **close)


def test_precision_that_is_chosen_without_being_asked(blobs, dense_model):
    found = {
        kind: cached(kind, labelled(kind, 8), models(kind)[0]).info["dtype"]
        for kind in KINDS
    }
    assert found == {
        "multilabel": "float16",
        "regression": "float32",
        "pixels": "float16",
    }
    plain = kc.cache_teacher_logits(blobs(8), dense_model(4))
    assert plain.info["dtype"] == "float16"
    # The files of classifiers are as they were.
    assert not {"activation", "shape"} & set(plain.info)
    assert plain.activation is None
    assert plain.shape == (4,)


class Batches(keras.utils.PyDataset):
    """Batches of 32 rows."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x) // 32

    def __getitem__(self, index):
        rows = slice(32 * index, 32 * index + 32)
        return self.x[rows], self.y[rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["arrays", "dataset", "py_dataset"])
def test_training_from_the_cache_is_training_with_the_teacher(kind, form):
    x, y = labelled(kind, 96)
    policy = kc.distillation.StandardDistillation(
        temperature=2.0, student_loss_weight=0.3
    )
    made = cascade(kind, distillation=policy)
    made.compile(keras.optimizers.SGD(0.1))
    cache = cached(kind, x, made.teacher, dtype="float32")
    first = made.student.get_weights()
    found = []
    for logits in (None, cache):
        made.student.set_weights(first)
        data = (x, y)
        if form == "dataset":
            data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(32),)
        if form == "py_dataset":
            data = (Batches(x, y),)
        history = made.fit(
            *data, epochs=2, shuffle=False, verbose=0, teacher_logits=logits
        )
        found.append((made.student.get_weights(), history.history))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for name, values in found[0][1].items():
        np.testing.assert_allclose(values, found[1][1][name], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_judging_and_calibrating_are_those_of_the_live_teacher(kind):
    made = cascade(kind)
    x, y = labelled(kind, 200)
    cache = cached(kind, x[::-1], made.teacher, dtype="float32")
    live = made.judge((x, y))
    found = made.judge((x, y), teacher_logits=cache)
    for name in ("scores", "student_correct", "teacher_correct"):
        np.testing.assert_allclose(getattr(found, name), getattr(live, name))
    assert found.loss_name == TASKS[kind].loss_name
    asked = kc.MaxDelegationRate(0.4)
    threshold = made.calibrate((x, y), asked).threshold
    made.threshold = 0.123
    made.calibrate((x, y), asked, teacher_logits=cache)
    assert made.threshold == threshold


def test_a_cascade_gives_the_outputs_of_its_answers():
    inner = cascade("regression")
    x, y = labelled("regression", 64)
    _, student = models("regression")
    outer = kc.Cascade(inner, student, task=TASKS["regression"])
    outer.compile(keras.optimizers.SGD(0.1))
    cache = cached("regression", x, inner)
    np.testing.assert_allclose(
        cache.logits(x), inner.predict(x, verbose=0)["values"], atol=1e-5
    )
    live = outer.judge((x, y))
    found = outer.judge((x, y), teacher_logits=cache)
    np.testing.assert_array_equal(found.teacher_correct, live.teacher_correct)


def test_it_goes_on_after_a_stop(tmp_path):
    x, _ = labelled("pixels", 96)
    teacher, _ = models("pixels")
    settings = {"chunk_examples": 32, "path": tmp_path / "stopped"}

    def batches(stop):
        for start in range(0, 96, 16):
            if start == stop:
                raise RuntimeError("stopped")
            yield (x[start : start + 16],)

    with pytest.raises(RuntimeError, match="stopped"):
        cached("pixels", batches(48), teacher, **settings)
    with pytest.raises(ValueError, match="unfinished"):
        kc.TeacherLogitsCache(tmp_path / "stopped")
    cache = cached("pixels", batches(None), teacher, **settings)
    whole = cached("pixels", x, teacher, chunk_examples=32)
    assert len(cache) == 96
    np.testing.assert_array_equal(cache.logits(x), whole.logits(x))
    # A stop behind the last chunk leaves only the settings to be written.
    info = {**cache.info, "complete": False}
    del info["classes"], info["shape"], info["format"], info["version"]
    cache._store.write_info(info)
    again = cached("pixels", x, teacher, **settings)
    assert again.shape == (4, 4, 2)


@pytest.mark.parametrize(
    ("kind", "other"),
    [("multilabel", None), ("regression", "multilabel"), ("pixels", None)],
)
def test_a_cache_of_another_task_is_refused(kind, other, dense_model):
    made = cascade(kind)
    data = labelled(kind, 32)
    if other is None:
        x = data[0].reshape(32, -1)
        plain = dense_model(4, features=x.shape[1])
        cache = kc.cache_teacher_logits(x, plain)
    else:
        cache = cached(other, data[0], made.teacher)
    for use in (
        lambda: made.fit(*data, verbose=0, teacher_logits=cache),
        lambda: made.judge(data, teacher_logits=cache),
        lambda: made.calibrate(
            data, kc.MaxDelegationRate(0.5), teacher_logits=cache
        ),
    ):
        with pytest.raises(ValueError, match="cache of outputs for"):
            use()


def test_a_cascade_of_classes_refuses_the_cache_of_a_task(dense_model, blobs):
    x, y = blobs(32)
    teacher = dense_model(8)
    cache = kc.cache_teacher_logits(x, teacher, task="multilabel")
    made = kc.Cascade(teacher, dense_model(3))
    made.compile()
    with pytest.raises(ValueError, match="activation 'sigmoid'"):
        made.fit(x, y, verbose=0, teacher_logits=cache)
    for read in (cache.probabilities, cache.answers):
        with pytest.raises(ValueError, match=r"read them with `logits\(x\)`"):
            read(x)
    with pytest.raises(ValueError, match="one class per example"):
        cache.margins()


def test_losses_of_one_activation_share_a_cache():
    made = cascade("multilabel")
    x, y = labelled("multilabel", 32)
    cache = kc.cache_teacher_logits(x, made.teacher, task="multilabel")
    results = made.judge((x, y), teacher_logits=cache)
    assert results.loss_name == "share of examples with a wrong label"


def test_what_cannot_be_cached(tmp_path, blobs):
    x, _ = labelled("regression", 16)
    teacher, _ = models("regression")
    with pytest.raises(ValueError, match="no `top_k`"):
        cached("regression", x, teacher, top_k=2)
    with pytest.raises(ValueError, match=r"a `keras\.Model` with"):
        cached("regression", x, lambda batch: batch[:, :2])
    cached("regression", x, teacher, path=tmp_path / "c")
    with pytest.raises(ValueError, match="made for another task"):
        kc.cache_teacher_logits(
            x, teacher, tmp_path / "c", "float32", batch_size=16
        )
    kernel, bias = teacher.layers[-1].get_weights()
    teacher.layers[-1].set_weights([kernel, bias + 70_000])
    with pytest.raises(ValueError, match="other weights"):
        cached("regression", x, teacher, path=tmp_path / "c")
    with pytest.raises(ValueError, match="dtype='float32'"):
        cached("regression", x, teacher, dtype="float16")
    teacher.layers[-1].set_weights([kernel, bias + np.nan])
    with pytest.raises(ValueError, match="NaN or infinity"):
        cached("regression", x, teacher)


def test_a_row_of_nan_is_found_in_every_batch():
    inputs = keras.Input((2,))
    teacher = keras.Model(inputs, keras.ops.log(inputs) + 3.0)
    x = np.random.default_rng(0).uniform(1.0, 9.0, (64, 2)).astype("float32")
    x[-1] = -1.0
    with pytest.raises(ValueError, match="NaN or infinity"):
        kc.cache_teacher_logits(x, teacher, task="multilabel", batch_size=16)


def test_outputs_of_several_sizes_are_refused():
    inputs = keras.Input((None, None, 2))
    teacher = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    batches = [np.ones((2, size, size, 2), "float32") for size in (4, 6)]
    with pytest.raises(ValueError, match="of one shape for every example"):
        kc.cache_teacher_logits(
            ((batch,) for batch in batches), teacher, task=Pixels()
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_spot_check_sees_other_outputs_and_no_rounding(kind, dtype):
    made = cascade(kind)
    teacher = made.teacher
    last = teacher.layers[-1]
    kernel, bias = last.get_weights()
    # Far from 0, where half precision is coarse: at 60 by up to 1/64.
    last.set_weights([kernel, bias + 60 if kind != "multilabel" else bias])
    x, y = labelled(kind, 64)
    cache = cached(kind, x, teacher, dtype=dtype)
    made.judge((x, y), teacher_logits=cache)
    live = made.two_stage_pass()
    with pytest.raises(ValueError, match="differ from the teacher's"):
        cache.spot_check(
            lambda batch: live.ask_teacher(1.2 * batch), x[:32], live.answers
        )


def test_augmented_views_of_pixels():
    made = cascade("pixels")
    x, y = labelled("pixels", 32)

    def brighter(example, seed):
        return example + 0.1 * tf.cast(seed[1], "float32")

    cache = cached(
        "pixels", x, made.teacher, dtype="float32", views=2, augment=brighter
    )
    np.testing.assert_allclose(
        cache.logits(x, view=1),
        made.teacher.predict(x + np.float32(0.1), verbose=0),
        atol=1e-5,
    )
    made.fit(x, y, epochs=2, verbose=0, teacher_logits=cache)


class Mean(keras.Model):
    """Outputs the mean label of its training data, whatever the input."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def build(self, shape):
        self.mean = self.add_weight(shape=(self.size,), name="mean")

    def call(self, inputs):
        return self.mean + 0.0 * inputs[:, : self.size]

    def fit(self, x, y, **arguments):
        self(x)
        self.mean.assign(y.mean(axis=0))


def test_cross_fitted_outputs_are_of_other_folds():
    x, y = labelled("regression", 30)
    # Labels that say their row: the mean of those that are left out is known.
    y = np.stack([np.arange(30.0), np.ones(30)], axis=1).astype("float32")
    cache = kc.cross_fit_teacher_logits(
        lambda: Mean(2), (x, y), 3, task=TASKS["regression"]
    )
    found = cache.logits(x)
    np.testing.assert_allclose(found[:, 1], 1.0)
    for mean in np.unique(found[:, 0]):
        rows = np.flatnonzero(found[:, 0] == mean)
        assert len(rows) == 10
        others = np.setdiff1d(np.arange(30), rows)
        np.testing.assert_allclose(mean, others.mean(), rtol=1e-6)
    made = cascade("regression")
    made.fit(x, y, verbose=0, teacher_logits=cache)
    with pytest.raises(ValueError, match="cross-fitted"):
        made.judge((x, y), teacher_logits=cache)

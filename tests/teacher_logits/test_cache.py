"""Cached logits: the teacher's own, found by example, whole after a crash."""

import gc
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.fitting import margin_summary
from keras_cascade.teacher_logits import cross_fitted_logits
from keras_cascade.teacher_logits.compressed_logits import compress, expand


@pytest.fixture
def teacher(dense_model):
    return dense_model(16, batch_norm=True)


def softmax(logits):
    return scipy.special.softmax(np.asarray(logits, "float64"), axis=1)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_logits_are_the_teachers_in_any_order(teacher, blobs, tmp_path, dtype):
    x, y = blobs(300)
    cache = kc.cache_teacher_logits(
        (x, y), teacher, tmp_path / "c", dtype, batch_size=32, chunk_examples=64
    )
    assert len(cache) == 300
    order = np.random.default_rng(0).permutation(300)[:100]
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(
        softmax(cache.logits(x[order])),
        softmax(teacher.predict(x[order], verbose=0)),
        atol=tolerance,
    )
    np.testing.assert_allclose(cache.logits(x).max(axis=1), 0, atol=1e-6)


def test_every_kind_of_data_and_no_example_twice(teacher, blobs, tmp_path):
    x, y = blobs(100)
    twice = tf.data.Dataset.from_tensor_slices((x, y)).repeat(2).batch(30)
    cache = kc.cache_teacher_logits(twice, teacher, tmp_path / "c")
    assert len(cache) == 100
    np.testing.assert_allclose(
        softmax(cache.logits(x)),
        softmax(teacher.predict(x, verbose=0)),
        atol=2e-3,
    )


@given(
    rows=st.integers(1, 20),
    classes=st.integers(3, 30),
    seed=st.integers(0, 999),
    scale=st.sampled_from([0.1, 3.0, 50.0]),
)
@settings(max_examples=100, deadline=None)
def test_top_k_keeps_the_softmax_of_what_it_keeps(rows, classes, seed, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(rows, classes))
    top_k = int(rng.integers(2, classes))
    found = softmax(expand(compress(logits, "float32", top_k), classes))
    expected = softmax(logits)
    best = np.argsort(-expected, axis=1)[:, :top_k]
    np.testing.assert_allclose(
        np.take_along_axis(found, best, 1),
        np.take_along_axis(expected, best, 1),
        atol=1e-5,
    )
    # What is left is shared evenly.
    rest = np.argsort(-expected, axis=1)[:, top_k:]
    np.testing.assert_allclose(
        np.take_along_axis(found, rest, 1),
        np.repeat(
            np.take_along_axis(expected, rest, 1).mean(axis=1, keepdims=True),
            rest.shape[1],
            axis=1,
        ),
        atol=1e-5,
    )


@pytest.mark.parametrize("as_dataset", [False, True])
def test_training_from_the_cache_is_training_with_the_teacher(
    dense_model, teacher, blobs, tmp_path, as_dataset
):
    x, y = blobs(128)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c", "float32")
    student = dense_model(3)
    first = student.get_weights()
    found = []
    for logits in (None, cache):
        student.set_weights(first)
        cascade = kc.Cascade(teacher, student, distillation="margin")
        cascade.compile(optimizer=keras.optimizers.SGD(0.1))
        data = (x, y)
        if as_dataset:
            data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(32),)
        history = cascade.fit(
            *data, epochs=2, shuffle=False, verbose=0, teacher_logits=logits
        )
        found.append((student.get_weights(), history.history))
    for a, b in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for name, values in found[0][1].items():
        np.testing.assert_allclose(values, found[1][1][name], atol=1e-4)


def test_the_teacher_does_not_run_in_training(dense_model, blobs, tmp_path):
    calls = []

    class Counting(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, inputs):
            calls.append(1)
            return self.dense(inputs)

    teacher, (x, y) = Counting(), blobs(64)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c")
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile(run_eagerly=True)
    cascade.prepare(x)
    before = len(calls)
    cascade.fit(
        x, y, epochs=3, verbose=0, teacher_logits=cache, spot_check=False
    )
    assert len(calls) == before


def test_shuffling_cannot_misalign(dense_model, teacher, blobs, tmp_path):
    x, y = blobs(200)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c", "float32")
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile()
    expected = cascade.evaluate(x, y, verbose=0, return_dict=True)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200)
    history = cascade.fit(
        data.batch(16),
        shuffle=False,
        verbose=0,
        teacher_logits=cache,
    ).history
    assert history["teacher_accuracy"][0] == pytest.approx(
        expected["teacher_accuracy"]
    )


def test_a_stale_cache_is_refused(dense_model, teacher, blobs, tmp_path):
    x, y = blobs(64)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c")
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile()
    teacher.set_weights([w + 0.5 for w in teacher.get_weights()])
    with pytest.raises(ValueError, match="other weights"):
        cascade.fit(x, y, verbose=0, teacher_logits=cache)
    with pytest.raises(ValueError, match="other weights"):
        kc.TeacherLogitsCache(tmp_path / "c", teacher)
    with pytest.raises(ValueError, match="other weights"):
        kc.cache_teacher_logits((x, y), teacher, tmp_path / "c")


def test_the_spot_check_sees_changed_preprocessing(teacher, blobs, tmp_path):
    x, _ = blobs(64)
    cache = kc.cache_teacher_logits(x, teacher, tmp_path / "c")
    cache.spot_check(
        lambda batch: softmax(teacher.predict(batch, verbose=0)), x[:32]
    )
    with pytest.raises(ValueError, match="differ from the teacher's"):
        cache.spot_check(
            lambda batch: softmax(teacher.predict(2 * batch, verbose=0)),
            x[:32],
        )


@pytest.mark.parametrize("as_dataset", [False, True])
def test_examples_that_are_not_there(
    dense_model, teacher, blobs, tmp_path, as_dataset
):
    x, y = blobs(64)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c")
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile()
    noisy = x + np.float32(0.1)
    data = (noisy, y)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices(data).batch(64),)
    with pytest.raises(
        ValueError, match=r"64 of 64 examples have no logits.*augmented"
    ):
        cascade.fit(
            *data,
            verbose=0,
            shuffle=False,
            teacher_logits=cache,
            spot_check=False,
        )


# JAX has no 64-bit types unless asked for; it says so, and takes 32 bits. A
# model in float64 it does not have.
KINDS = ["ids", "float64"] if keras.backend.backend() != "jax" else ["ids"]


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("kind", KINDS)
def test_no_example_gets_the_logits_of_another(tmp_path, kind):
    if kind == "ids":
        x = np.concatenate([np.arange(40), 10**9 + np.arange(360)])[:, None]
        inputs = keras.Input((1,), dtype="int64")
        hidden = keras.layers.Embedding(50, 4)(keras.ops.mod(inputs, 50))
        hidden = keras.layers.Flatten()(hidden)
    else:
        # 400 neighbours in float64, of one float32, of a model in float64.
        x = 1.0 + 1e-9 * np.arange(400)[:, None]
        inputs = keras.Input((1,), dtype="float64")
        hidden = keras.layers.Rescaling(1e9, -1e9, dtype="float64")(inputs)
        hidden = keras.layers.Rescaling(0.01)(hidden)
    logits = keras.layers.Dense(3, kernel_initializer="orthogonal")(hidden)
    teacher = keras.Model(inputs, logits)
    teacher.layers[-1].set_weights(
        [20 * w for w in teacher.layers[-1].get_weights()]
    )
    cache = kc.cache_teacher_logits(x, teacher, tmp_path / "c", "float32")
    assert len(cache) == 400
    live = keras.ops.convert_to_numpy(teacher(x))
    np.testing.assert_allclose(cache.probabilities(x), softmax(live), atol=1e-5)
    with pytest.raises(ValueError, match="400 of 400 examples have no logits"):
        cache.logits(x + (400 if kind == "ids" else 4e-7))


def test_a_copy_in_float32_shares_its_logits(teacher, tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 6))
    for name, cached in (("wide", x), ("cast", x.astype("float32"))):
        cache = kc.cache_teacher_logits(cached, teacher, tmp_path / name)
        np.testing.assert_array_equal(
            cache.logits(x), cache.logits(x.astype("float32"))
        )
        for missing in (x + 1, x.astype("float32") + 1):
            with pytest.raises(ValueError, match="64 of 64 examples"):
                cache.logits(missing)


def jitter(example, seed):
    return example + tf.random.stateless_normal(tf.shape(example), seed)


@pytest.mark.parametrize("as_dataset", [False, True])
def test_teacher_and_student_see_the_same_views(
    dense_model, teacher, blobs, tmp_path, as_dataset
):
    from keras_cascade.datasets.fingerprint import example_hashes
    from keras_cascade.datasets.labelled_data import LabelledData
    from keras_cascade.teacher_logits.cached_data import CachedData
    from keras_cascade.teacher_logits.views import augmented

    x, y = blobs(48)
    cache = kc.cache_teacher_logits(
        (x, y), teacher, tmp_path / "c", "float32", views=3, augment=jitter
    )
    assert len(cache) == 3 * 48
    hashes = example_hashes(x)
    views = [augmented(x, hashes, view, jitter) for view in range(3)]
    assert not np.allclose(views[0], views[1])
    cached = CachedData(cache)
    for epoch in range(4):
        cached.view = epoch
        view = views[epoch % 3]
        data = LabelledData(x, y, batch_size=16)
        if as_dataset:
            dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
            data = LabelledData(dataset)
        batches = cached.joined(data, shuffle=False)
        joined = [batch[0] for batch in batches.x.as_numpy_iterator()]
        inputs, logits = (
            np.concatenate([j[name] for j in joined])
            for name in ("keras_cascade_inputs", "keras_cascade_teacher_logits")
        )
        np.testing.assert_allclose(inputs, view, atol=1e-6)
        np.testing.assert_allclose(
            softmax(logits),
            softmax(teacher.predict(view, verbose=0)),
            atol=1e-5,
        )
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile()
    cascade.fit(x, y, epochs=2, verbose=0, teacher_logits=cache)


def test_one_augmented_view_is_not_taken_for_the_plain_example(
    dense_model, teacher, blobs, tmp_path
):
    x, y = blobs(48)
    cache = kc.cache_teacher_logits(
        (x, y), teacher, tmp_path / "c", "float32", augment=jitter
    )
    cascade = kc.Cascade(teacher, dense_model(3))
    cascade.compile()
    cascade.fit(x, y, verbose=0, teacher_logits=cache)
    with pytest.raises(ValueError, match="Pass the `augment` function"):
        kc.TeacherLogitsCache(tmp_path / "c", teacher)


def test_cross_fitted_logits_come_from_teachers_that_never_saw_the_example(
    dense_model, blobs, tmp_path
):
    x, y = blobs(120)
    seen = []

    class Recording(keras.Sequential):
        def fit(self, x, y, **kwargs):
            seen.append(x)
            return super().fit(x, y, **kwargs)

    made = []

    def build():
        model = Recording([keras.Input((6,)), keras.layers.Dense(4)])
        model.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        made.append(model)
        return model

    cache = kc.cross_fit_teacher_logits(
        build, (x, y), folds=3, path=tmp_path / "c", epochs=2
    )
    assert len(made) == 3
    for row in range(120):
        (own,) = [
            model
            for model, rows in zip(made, seen, strict=True)
            if not (rows == x[row]).all(axis=1).any()
        ]
        np.testing.assert_allclose(
            softmax(cache.logits(x[row : row + 1])),
            softmax(own(x[row : row + 1])),
            atol=1e-5,
        )
    cascade = kc.Cascade(dense_model(16), dense_model(3))
    cascade.compile()
    cascade.fit(x, y, verbose=0, teacher_logits=cache)
    with pytest.raises(ValueError, match="exists already"):
        kc.cross_fit_teacher_logits(build, (x, y), 3, tmp_path / "c")
    temporary = kc.cross_fit_teacher_logits(build, (x, y), 2)
    assert len(temporary) == 120
    folder = temporary.path
    assert folder.is_dir()
    del temporary
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("top_k", [None, 3])
def test_cross_fitted_logits_are_written_in_chunks(
    blobs, tmp_path, monkeypatch, top_k
):
    monkeypatch.setattr(cross_fitted_logits, "CHUNK_VALUES", 64)
    x, y = blobs(120)
    rng = np.random.default_rng(0)
    teachers = []

    class Fixed(keras.Sequential):
        def fit(self, x, y, **kwargs):
            self.set_weights([rng.normal(size=(6, 4)), np.zeros(4)])

    def build():
        teachers.append(Fixed([keras.Input((6,)), keras.layers.Dense(4)]))
        return teachers[-1]

    cache = kc.cross_fit_teacher_logits(
        build, (x, y), 2, tmp_path / "c", batch_size=10, top_k=top_k
    )
    width = top_k or 4
    chunks = sorted((tmp_path / "c").glob("chunk-*"))
    rows = [len(np.load(chunk / "keys.npy")) for chunk in chunks]
    # A chunk ends with the batch of 10 that brings it to 64 values.
    assert sum(rows) == 120
    assert max(rows) == 10 * -(-64 // (10 * width))
    assert cache.top_k == top_k
    answers, confidence = cache.answers(x)
    shares = np.stack([softmax(one.predict(x, verbose=0)) for one in teachers])
    gap = np.abs(shares.max(axis=-1) - confidence).min(axis=0)
    assert gap.max() < 1e-5
    nearest = np.abs(shares.max(axis=-1) - confidence).argmin(axis=0)
    expected = shares[nearest, np.arange(120)].argmax(axis=-1)
    np.testing.assert_array_equal(answers, expected)
    with pytest.raises(ValueError, match="`top_k` from 2 to 3"):
        kc.cross_fit_teacher_logits(build, (x, y), 2, top_k=4)


def test_the_margins_are_shown_before_training(
    dense_model, teacher, blobs, tmp_path, capsys
):
    x, y = blobs(64)
    cache = kc.cache_teacher_logits((x, y), teacher, tmp_path / "c", "float32")
    shares = np.sort(softmax(teacher.predict(x, verbose=0)), axis=1)
    margins = shares[:, -1] - shares[:, -2]
    np.testing.assert_allclose(
        np.sort(cache.margins()), np.sort(margins), atol=1e-5
    )
    policy = kc.distillation.MarginDistillation(float(np.median(margins)))
    text = margin_summary(margins, policy)
    assert "50.0%." in text.splitlines()[-1]
    cascade = kc.Cascade(teacher, dense_model(3), policy)
    cascade.compile()
    cascade.evaluate(*blobs(32, seed=77), verbose=0)  # not in the cache
    cascade.fit(x, y, teacher_logits=cache)
    printed = capsys.readouterr().out
    assert printed.index("Teacher margins of 64") < printed.index("loss")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dtype": "int8"}, "`dtype`"),
        ({"views": 0}, "`views`"),
        ({"views": 2}, "`augment`"),
        ({"top_k": 4}, "`top_k` from 2 to 3"),
        ({"top_k": 1}, "`top_k`"),
    ],
)
def test_bad_arguments(teacher, blobs, tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kc.cache_teacher_logits(blobs(8), teacher, tmp_path / "c", **kwargs)


def test_unfinished_foreign_and_differently_made_caches(
    teacher, blobs, tmp_path
):
    with pytest.raises(ValueError, match="Received: none"):
        kc.TeacherLogitsCache(tmp_path / "nothing")
    kc.cache_teacher_logits(blobs(8), teacher, tmp_path / "c")
    with pytest.raises(ValueError, match="dtype='float16', not 'float32'"):
        kc.cache_teacher_logits(blobs(8), teacher, tmp_path / "c", "float32")
    (tmp_path / "c" / "cache.json").write_text('{"format": "other"}')
    with pytest.raises(ValueError, match="is not a cache of teacher logits"):
        kc.TeacherLogitsCache(tmp_path / "c")


def tree_bytes(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


SCRIPT = """
import sys, keras, numpy as np
import keras_cascade as kc
from keras_cascade.teacher_logits import chunk_store

keras.utils.set_random_seed(5)
teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
x = np.random.default_rng(0).normal(size=(4000, 6)).astype("float32")
append = chunk_store.ChunkStore.append

def counted(store, arrays):
    append(store, arrays)
    print("chunk", flush=True)
    sys.stdin.readline()

if len(sys.argv) > 2:
    chunk_store.ChunkStore.append = counted
kc.cache_teacher_logits(x, teacher, sys.argv[1], batch_size=32,
                        chunk_examples=96)
print("done", flush=True)
"""


def test_killed_and_resumed_gives_the_same_bytes(tmp_path):
    """Killed after a few chunks, with half a chunk left lying about."""
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"

    def start(path, *more):
        return subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(path), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    first = start(whole)
    second = start(resumed, "step")
    for _ in range(5):
        assert second.stdout.readline() == "chunk\n"
        second.stdin.write("\n")
        second.stdin.flush()
    second.send_signal(signal.SIGKILL)
    second.communicate()
    assert first.communicate()[0] == "done\n"
    kept = len(list(resumed.glob("chunk-*")))
    assert 5 <= kept < len(list(whole.glob("chunk-*")))
    half = resumed / f".part-{kept:06d}"
    half.mkdir(exist_ok=True)
    (half / "logits.npy").write_bytes(b"half")
    third = start(resumed)
    assert third.communicate()[0] == "done\n"
    assert tree_bytes(resumed) == tree_bytes(whole)

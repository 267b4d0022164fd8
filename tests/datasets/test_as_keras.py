"""What Keras takes, `Cascade` takes, with the same answers.

Every kind of model meets data in many forms. Keras's own `predict`,
`evaluate` and `fit` are the reference.
"""

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.special
import tensorflow as tf

import keras_cascade as kc

L = keras.layers
ROWS, BATCH, CLASSES = 12, 8, 3
WORDS = np.array(["red", "green", "blue", "dog", "cat", "bird", "one"], object)


def rng():
    return np.random.default_rng(7)


class Subclassed(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.hidden = L.Dense(units, activation="relu")
        self.logits = L.Dense(CLASSES)

    def call(self, inputs):
        return self.logits(self.hidden(inputs))


def numbers(units, first=()):
    return keras.Sequential(
        [keras.Input((4,)), *first, L.Dense(units, "tanh"), L.Dense(CLASSES)]
    )


def normalized(units):
    layer = L.Normalization()
    layer.adapt(points())
    return numbers(units, [layer])


def images(units):
    return keras.Sequential(
        [
            keras.Input((6, 6, 3), dtype="uint8"),
            L.Rescaling(1 / 255.0),
            L.Conv2D(units, 3),
            L.GlobalAveragePooling2D(),
            L.Dense(CLASSES),
        ]
    )


def ids(units):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            L.Embedding(20, units, mask_zero=True),
            L.GlobalAveragePooling1D(),
            L.Dense(CLASSES),
        ]
    )


def strings(units):
    layer = L.TextVectorization(20, output_sequence_length=4)
    layer.adapt(WORDS)
    given = keras.Input((1,), dtype="string")
    x = L.Embedding(20, units)(layer(given))
    return keras.Model(given, L.Dense(CLASSES)(L.Flatten()(x)))


def two_inputs(units, as_list):
    number = keras.Input((4,), name="number")
    word = keras.Input((3,), dtype="int32", name="word")
    x = L.Concatenate()([number, L.Flatten()(L.Embedding(20, units)(word))])
    logits = L.Dense(CLASSES)(L.Dense(units, "tanh")(x))
    names = [number, word] if as_list else {"number": number, "word": word}
    return keras.Model(names, logits)


def columns(units):
    named = {name: keras.Input((1,), name=name) for name in "ab"}
    hidden = L.Dense(units, "tanh")(L.Concatenate()(list(named.values())))
    return keras.Model(named, L.Dense(CLASSES)(hidden))


def points():
    return rng().normal(size=(ROWS, 4)).astype("float32")


def words(length):
    return rng().integers(1, 20, (ROWS, length)).astype("int32")


def texts():
    chosen = rng().choice(WORDS, (ROWS, 3))
    return np.array([" ".join(row) for row in chosen], object)


#: Name of a kind of model: (maker by number of units, inputs).
KINDS = {
    "dense": (numbers, points),
    "normalization": (normalized, points),
    "subclassed": (Subclassed, points),
    "images": (
        images,
        lambda: rng().integers(0, 256, (ROWS, 6, 6, 3)).astype("uint8"),
    ),
    "ids": (ids, lambda: words(5)),
    "strings": (strings, texts),
    "dict": (
        lambda units: two_inputs(units, as_list=False),
        lambda: {"number": points(), "word": words(3)},
    ),
    "list": (
        lambda units: two_inputs(units, as_list=True),
        lambda: [points(), words(3)],
    ),
    "columns": (
        columns,
        lambda: {"a": points()[:, :1], "b": points()[:, 1:2]},
    ),
}


def labels():
    return rng().integers(0, CLASSES, ROWS)


class Given:
    """Data in one form, as the arguments of `fit`, made anew each time.

    Args:
        labelled: function that returns the positional arguments of `fit`.
        inputs: function that returns the argument of `predict`.
        in_order: bool, whether every pass has the order of the arrays.
    """

    def __init__(self, labelled, inputs, in_order=True):
        self.labelled = labelled
        self.inputs = inputs
        self.in_order = in_order


def leafwise(change):
    """A form whose arrays are changed one by one."""

    def form(x, y):
        converted = keras.tree.map_structure(change, x)
        return Given(lambda: (converted, y), lambda: converted)

    return form


def of_labels(change):
    """A form whose labels are changed."""
    return lambda x, y: Given(lambda: (x, change(y)), lambda: x)


def floats(dtype):
    return leafwise(lambda a: a.astype(dtype) if a.dtype.kind == "f" else a)


def strided(array):
    return np.repeat(array, 2, axis=0)[::2]


def as_tf_data(x, y):
    def batches(parts):
        return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)

    x = tuple(x) if isinstance(x, list) else x
    return Given(lambda: (batches((x, y)),), lambda: batches((x,)))


def as_shuffled(x, y):
    def batches(parts):
        data = tf.data.Dataset.from_tensor_slices(parts)
        return data.shuffle(ROWS, reshuffle_each_iteration=True).batch(BATCH)

    x = tuple(x) if isinstance(x, list) else x
    return Given(
        lambda: (batches((x, y)),), lambda: batches((x,)), in_order=False
    )


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts, workers=1):
        super().__init__(workers=workers)
        self.parts = parts

    def __len__(self):
        return -(-ROWS // BATCH)

    def __getitem__(self, number):
        rows = slice(number * BATCH, (number + 1) * BATCH)
        return tuple(
            keras.tree.map_structure(lambda a: a[rows], p) for p in self.parts
        )


def as_py_dataset(workers):
    def form(x, y):
        x = tuple(x) if isinstance(x, list) else x
        return Given(
            lambda: (Batches(x, y, workers=workers),),
            lambda: Batches(x, workers=workers),
        )

    return form


def as_generator(x, y):
    x = tuple(x) if isinstance(x, list) else x

    def drawn(*parts):
        data = Batches(*parts)
        return (data[number] for number in range(len(data)))

    return Given(lambda: (drawn(x, y),), lambda: drawn(x))


def weighted(x, y):
    weight = rng().uniform(0.5, 2.0, ROWS)
    return Given(lambda: (x, y, weight), lambda: x)


def frame(dtype=None):
    def form(x, y):
        table = pd.DataFrame(x, columns=list("abcd"))
        if dtype:
            table = table.astype(dtype)
        return Given(lambda: (table, pd.Series(y, name="label")), lambda: table)

    return form


def frames(x, y):
    tables = {name: pd.DataFrame(column) for name, column in x.items()}
    return Given(lambda: (tables, pd.Series(y)), lambda: tables)


def sparse(kind):
    def form(x, y):
        x = np.where(x > 0, x, 0).astype("float32")
        return Given(lambda: (kind(x), y), lambda: kind(x))

    return form


def as_sparse_tf_data(x, y):
    x = np.where(x > 0, x, 0).astype("float32")

    def batches(*parts):
        tensor = tf.sparse.from_dense(x)
        parts = (tensor, *parts)
        return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)

    return Given(lambda: (batches(y),), lambda: batches())


def padded(x, y):
    """Batches of several lengths."""
    lengths = rng().integers(2, 6, ROWS)

    def rows(labelled):
        for row, length in enumerate(lengths):
            ids = x[row, :length]
            yield (ids, y[row]) if labelled else (ids,)

    def batches(labelled):
        spec = (tf.TensorSpec((None,), "int32"), tf.TensorSpec((), "int64"))
        return tf.data.Dataset.from_generator(
            lambda: rows(labelled),
            output_signature=spec if labelled else spec[:1],
        ).padded_batch(BATCH)

    return Given(lambda: (batches(True),), lambda: batches(False))


def generated_images(x, y):
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    def drawn(*parts):
        generator = ImageDataGenerator(dtype="uint8")
        return generator.flow(x, *parts, batch_size=BATCH, shuffle=False)

    return Given(lambda: (drawn(y),), lambda: drawn())


def text_tensor(x, y):
    return leafwise(lambda a: tf.constant(a[:, None]))(x, y)


def of_two_classes(x, y):
    """Labels that say yes or no."""
    return Given(lambda: (x, y > 0), lambda: x)


def bools_in_tf_data(x, y):
    return as_tf_data(x, y > 0)


def columns_of_a_frame(x, y):
    """Each column of a frame as an input, as `dict(frame)` gives them."""
    frame = pd.DataFrame({"a": x["a"][:, 0], "b": x["b"][:, 0]})
    return Given(lambda: (dict(frame), pd.Series(y)), lambda: dict(frame))


def weighted_batches(x, y):
    """A dict of inputs, labels and weights in a `tf.data.Dataset`."""
    weight = rng().uniform(0.5, 2.0, ROWS).astype("float32")

    def batches(*parts):
        return tf.data.Dataset.from_tensor_slices(parts).batch(BATCH)

    return Given(lambda: (batches(x, y, weight),), lambda: batches(x))


def weighted_sequence(x, y):
    weight = rng().uniform(0.5, 2.0, ROWS)
    return Given(
        lambda: (Batches(x, y, weight, workers=2),), lambda: Batches(x)
    )


def weighted_generator(x, y):
    data = Batches(x, y, rng().uniform(0.5, 2.0, ROWS))
    inputs = Batches(x)
    return Given(
        lambda: ((data[number] for number in range(len(data))),),
        lambda: (inputs[number] for number in range(len(inputs))),
    )


NUMBERS = ("dense", "images", "ids", "dict", "list")
EVERY = (*NUMBERS, "strings")
NUMERIC = ("dense", "normalization", "subclassed")
#: Name of a form: (form, kinds of models that meet it).
FORMS = {
    "arrays": (leafwise(np.asarray), tuple(KINDS)),
    "tf.data": (as_tf_data, tuple(KINDS)),
    "shuffled tf.data": (as_shuffled, ("dense", "dict", "images")),
    # Batches of texts in NumPy arrays Keras refuses.
    "PyDataset": (as_py_dataset(1), NUMBERS),
    "PyDataset in threads": (as_py_dataset(2), ("dense", "dict")),
    "generator": (as_generator, NUMBERS),
    "float64": (floats("float64"), (*NUMERIC, "dict", "list")),
    "float16": (floats("float16"), ("dense", "subclassed")),
    "strided arrays": (leafwise(strided), ("dense", "images", "dict")),
    "tensors": (leafwise(tf.constant), EVERY),
    "labels (N, 1)": (of_labels(lambda y: y[:, None]), ("dense", "ids")),
    "labels in float32": (of_labels(lambda y: y.astype("float32")), ("list",)),
    "labels in uint8": (of_labels(lambda y: y.astype("uint8")), ("dense",)),
    "weights": (weighted, ("dense", "dict")),
    "DataFrame": (frame(), NUMERIC),
    "DataFrame in float64": (frame("float64"), NUMERIC),
    "DataFrame of integers": (frame("int64"), ("dense",)),
    "dict of DataFrames": (frames, ("dict",)),
    "scipy.sparse": (sparse(scipy.sparse.coo_matrix), ("dense", "subclassed")),
    "SparseTensor": (sparse(tf.sparse.from_dense), ("dense", "subclassed")),
    "sparse tf.data": (as_sparse_tf_data, ("dense",)),
    "batches of several lengths": (padded, ("ids",)),
    "ImageDataGenerator": (generated_images, ("images",)),
    "texts (N, 1)": (text_tensor, ("strings",)),
    "bool labels": (of_two_classes, ("dense", "dict")),
    "bool labels in tf.data": (bools_in_tf_data, ("dense",)),
    "dict of a frame's columns": (columns_of_a_frame, ("columns",)),
    "weights in tf.data": (weighted_batches, ("dense", "dict")),
    "weights of a PyDataset in threads": (weighted_sequence, ("dense", "dict")),
    "weights of a generator": (weighted_generator, ("dense", "dict")),
}
COMBINATIONS = [
    (kind, form) for form, (_, kinds) in FORMS.items() for kind in kinds
]


@pytest.fixture(scope="module")
def pairs():
    """A function: teacher, student and cascade of a kind, made once."""
    made = {}

    def pair(kind):
        if kind not in made:
            keras.utils.set_random_seed(3)
            make, x = KINDS[kind]
            teacher, student = make(6), make(3)
            for model in (teacher, student):
                model(keras.tree.map_structure(tf.constant, x()))
                model.compile(
                    "sgd",
                    keras.losses.SparseCategoricalCrossentropy(
                        from_logits=True
                    ),
                    weighted_metrics=["accuracy"],
                    run_eagerly=True,
                )
                # Logits that tell classes apart.
                model.set_weights([3 * w for w in model.get_weights()])
            cascade = kc.Cascade(teacher, student)
            cascade.compile("sgd", run_eagerly=True)
            cascade.threshold = float(np.median(cascade.scores(x())))
            made[kind] = teacher, student, cascade
        return made[kind]

    return pair


def probabilities(logits):
    return scipy.special.softmax(np.asarray(logits, "float64"), axis=1)


def test_there_are_combinations_enough():
    assert len(COMBINATIONS) >= 60
    assert len(FORMS) >= 15
    assert len({kind for kind, _ in COMBINATIONS}) >= 8


# Keras warns of every generator that ends.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize(("kind", "form"), COMBINATIONS)
def test_as_keras(pairs, kind, form):
    teacher, student, cascade = pairs(kind)
    given = FORMS[form][0](KINDS[kind][1](), labels())
    weights = student.get_weights()
    cascade.forget_data()

    # Answers before training: the student's, the teacher's where it delegates.
    answers = cascade.predict(given.inputs(), verbose=0, batch_size=BATCH)
    delegated = answers["delegated"]
    assert 0 < delegated.sum() < ROWS
    expected = np.where(
        (delegated if given.in_order else np.zeros(ROWS, bool))[:, None],
        probabilities(teacher.predict(given.inputs(), verbose=0)),
        probabilities(student.predict(given.inputs(), verbose=0)),
    )
    found = answers["probabilities"]
    if not given.in_order:  # every row that the student answered is there
        gap = np.abs(found[~delegated][:, None] - expected[None]).max(axis=-1)
        assert gap.min(axis=1).max() < 1e-5
    else:
        np.testing.assert_allclose(found, expected, atol=1e-5)

    def measured(model):
        x, y, weight = (*given.labelled(), None, None)[:3]
        return model.evaluate(
            x, y, sample_weight=weight, batch_size=BATCH, verbose=0,
            return_dict=True,
        )  # fmt: skip

    # Accuracy: of `evaluate`, `judge` and Keras.
    expected = measured(teacher)["accuracy"]
    accuracy = measured(cascade)["teacher_accuracy"]
    assert accuracy == pytest.approx(expected, abs=1e-6)
    results = cascade.judge(_one(given.labelled()))
    assert np.average(
        results.teacher_correct, weights=results.sample_weight
    ) == pytest.approx(expected, abs=1e-6)
    assert results.examples.examples == ROWS

    # Training: as many steps as Keras takes.
    steps = {}
    for model in (student, cascade):
        x, y, weight = (*given.labelled(), None, None)[:3]
        before = int(model.optimizer.iterations)
        model.fit(
            x, y, sample_weight=weight, batch_size=BATCH, verbose=0,
            shuffle=y is not None,
        )  # fmt: skip
        steps[model] = int(model.optimizer.iterations) - before
        student.set_weights(weights)
    assert steps[student] == steps[cascade] == -(-ROWS // BATCH)
    assert cascade.data_record.training.examples == ROWS
    training = cascade.data_record.training
    assert results.examples.share_seen_in(training) == 1


def _one(arguments):
    """Arguments of `fit` as the one of `judge`."""
    return arguments if len(arguments) > 1 else arguments[0]

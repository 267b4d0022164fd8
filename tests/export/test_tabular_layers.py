"""Students that look up and encode tabular data: shipped whole, or refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_cascade as kc
from keras_cascade.errors import ExportError
from keras_cascade.export.tabular_layers import (
    check_tabular_layers,
    with_built_in_operations,
)
from keras_cascade.runtime import EdgeCascade

COLOURS = ["red", "green", "blue", "gr\u00fcn"]
CODES = [11, 25, 2**40, -7]
ROWS = 400
INT64 = st.integers(-(2**63), 2**63 - 1)


def columns(rows=ROWS, seed=0):
    """Columns of a table, and a label that follows from two of them."""
    rng = np.random.default_rng(seed)
    colour = np.array(COLOURS, dtype=object)[rng.integers(0, 4, rows)]
    size = rng.normal(size=rows).astype("float32")
    x = {
        "colour": colour[:, None],
        "code": np.array(CODES)[rng.integers(0, 4, rows)][:, None],
        "days": rng.integers(0, 7, (rows, 3)).astype("int32"),
        "size": size[:, None],
    }
    return x, ((colour == "red") + (size > 0)).astype("int32")


def table_model(units):
    """Every layer of tabular data that a student may hold."""
    inputs = {
        "colour": keras.Input((1,), dtype="string", name="colour"),
        "code": keras.Input((1,), dtype="int64", name="code"),
        "days": keras.Input((3,), dtype="int32", name="days"),
        "size": keras.Input((1,), name="size"),
    }
    colour, code = inputs["colour"], inputs["code"]
    words = layers.StringLookup(vocabulary=COLOURS)(colour)
    parts = [
        layers.Flatten()(layers.Embedding(5, 3)(words)),
        layers.StringLookup(
            vocabulary=COLOURS[:2], mask_token="blue", output_mode="one_hot"
        )(colour),
        layers.IntegerLookup(vocabulary=CODES, output_mode="one_hot")(code),
        layers.CategoryEncoding(6, "one_hot")(
            layers.IntegerLookup(vocabulary=CODES[:3], mask_token=-7)(code)
        ),
        layers.IntegerLookup(vocabulary=[1, 2], output_mode="multi_hot")(
            inputs["days"]
        ),
        layers.IntegerLookup(vocabulary=[1, 5], output_mode="count")(
            inputs["days"]
        ),
        layers.CategoryEncoding(7, "multi_hot")(inputs["days"]),
        layers.CategoryEncoding(7, "count")(inputs["days"]),
        layers.Discretization([-1.0, 0.0, 1.0], output_mode="one_hot")(
            inputs["size"]
        ),
        layers.Normalization(mean=0.1, variance=2.0)(inputs["size"]),
    ]
    x = layers.Concatenate()(parts)
    x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def as_tensors(*parts):
    """`tf.data.Dataset` in batches; Keras alone takes no array of objects."""
    parts = keras.tree.map_structure(
        lambda a: a.astype(str) if a.dtype == object else a, parts
    )
    return tf.data.Dataset.from_tensor_slices(parts).batch(64)


def trained(make_model, x, y):
    keras.utils.set_random_seed(0)
    teacher = make_model(16)
    teacher.compile(
        keras.optimizers.Adam(2e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(as_tensors(x, y), epochs=3, shuffle=False, verbose=0)
    cascade = kc.Cascade(teacher, make_model(4))
    cascade.compile(keras.optimizers.Adam(2e-2))
    cascade.fit(x, y, epochs=3, verbose=0)
    return cascade


def calibrated(cascade, x, y):
    """Rows of few values repeat: the data sets share some."""
    cascade.calibrate(
        (x, y),
        kc.MaxDelegationRate(0.5, tolerance=1.0),
        allow_training_data=True,
    )
    return cascade


@pytest.fixture(scope="module")
def cascade():
    return calibrated(trained(table_model, *columns()), *columns(seed=1))


def unseen(x):
    """The same rows, with values that are in no vocabulary."""
    x = {name: column.copy() for name, column in x.items()}
    x["colour"][::3] = "mauve"
    x["colour"][1::3] = "\u8d64"
    x["code"][::2] = 2**39
    x["code"][1::4] = -1
    return x


@pytest.mark.parametrize("quantization", [None, "dynamic"])
def test_a_device_answers_as_keras_does(cascade, tmp_path, quantization):
    cascade.export(
        tmp_path / "bundle",
        quantization=quantization,
        allow_training_data=True,
    )
    edge = EdgeCascade.load(tmp_path / "bundle", teacher="local")
    x, _ = columns(90, seed=2)
    for rows in (x, unseen(x)):
        found = edge.predict(rows)
        expected = cascade.predict(rows, verbose=0)
        assert 0 < expected["delegated"].sum() < 90
        close = np.abs(found.probabilities - expected["probabilities"]).max()
        assert close < (1e-4 if quantization is None else 0.05)
        one = {name: column[:1] for name, column in rows.items()}
        np.testing.assert_allclose(
            edge.predict(one).probabilities, found.probabilities[:1], atol=1e-5
        )


def test_integers_in_8_bits(tmp_path):
    """Whose ranges the converter measures, as no string is among them."""

    def make_model(units):
        inputs = keras.Input((1,), dtype="int64")
        x = layers.IntegerLookup(vocabulary=CODES)(inputs)
        x = layers.Flatten()(layers.Embedding(5, 4)(x))
        x = layers.Dense(units, activation="relu")(x)
        return keras.Model(inputs, layers.Dense(3)(x))

    (x, y), (z, w) = columns(), columns(seed=1)
    made = calibrated(trained(make_model, x["code"], y), z["code"], w)
    made.export(tmp_path / "b", quantization="int8", allow_training_data=True)
    edge = EdgeCascade.load(tmp_path / "b", teacher="local")
    codes = unseen(z)["code"]
    gap = edge.predict(codes).probabilities - np.asarray(
        made.predict(codes, verbose=0)["probabilities"]
    )
    assert np.abs(gap).mean() < 0.05


def feature_space(**options):
    """A `FeatureSpace` over the table, as Keras's guide makes one."""
    kind = keras.utils.FeatureSpace
    space = kind(
        features={
            "colour": kind.string_categorical(),
            "code": kind.integer_categorical(max_tokens=5),
            "size": kind.float_normalized(),
            "width": kind.float_discretized(num_bins=4),
            "depth": kind.float_rescaled(scale=0.5),
        },
        output_mode="concat",
        **options,
    )
    x, y = feature_columns()
    space.adapt(as_tensors(x).map(lambda features: features))
    return space, y


def feature_columns(seed=0):
    x, y = columns(seed=seed)
    rng = np.random.default_rng(seed)
    for name in ("width", "depth"):
        x[name] = rng.normal(size=(ROWS, 1)).astype("float32")
    x["code"][x["code"] == 2**40] = 2**30  # it declares int32
    del x["days"]
    return x, y


def model_of(space):
    """A function that makes a model over a `FeatureSpace`."""

    def make_model(units):
        encoded = space.get_encoded_features()
        x = layers.Dense(units, activation="relu")(encoded)
        return keras.Model(dict(space.get_inputs()), layers.Dense(3)(x))

    return make_model


def test_a_feature_space_ships_whole(tmp_path):
    """From raw values to answers, as its inference model takes them."""
    space, _ = feature_space()
    made = trained(model_of(space), *feature_columns())
    calibrated(made, *feature_columns(seed=1))
    made.export(tmp_path / "bundle", allow_training_data=True)
    edge = EdgeCascade.load(tmp_path / "bundle", teacher="local")
    x, _ = feature_columns(seed=2)
    x["colour"][:9] = "mauve"
    np.testing.assert_allclose(
        edge.predict(x).probabilities,
        made.predict(x, verbose=0)["probabilities"],
        atol=1e-4,
    )


def of_strings(*some):
    return keras.Sequential([keras.Input((1,), dtype="string"), *some])


def of_integers(*some):
    return keras.Sequential([keras.Input((2,), dtype="int64"), *some])


REFUSED = [
    (lambda: of_strings(layers.Hashing(9, name="it")), "Hashing.*vocabulary"),
    (lambda: of_integers(layers.Hashing(9, name="it")), "Hashing.*vocabulary"),
    (
        lambda: of_strings(
            layers.StringLookup(vocabulary=["a"], num_oov_indices=0, name="it")
        ),
        "StringLookup.*`num_oov_indices=1`.*Received: 0",
    ),
    (
        lambda: of_integers(
            layers.IntegerLookup(vocabulary=[1], num_oov_indices=3, name="it")
        ),
        "IntegerLookup.*`num_oov_indices=1`.*Received: 3",
    ),
    (
        lambda: of_strings(
            layers.StringLookup(
                vocabulary=["a"], output_mode="multi_hot", name="it"
            )
        ),
        "StringLookup.*`CategoryEncoding` with 'multi_hot'",
    ),
    (
        lambda: of_integers(
            layers.StringLookup(vocabulary=["a"], invert=True, name="it")
        ),
        "StringLookup.*as classes",
    ),
    (
        lambda: of_strings(
            layers.TextVectorization(vocabulary=["a"], name="it")
        ),
        "TextVectorization.*`keras_cascade.text.TextModel",
    ),
]


@pytest.mark.parametrize(("make_model", "message"), REFUSED)
def test_what_no_file_can_hold_is_refused_by_name(make_model, message):
    model = make_model()
    nested = keras.Sequential([model]) if len(model.layers) else model
    for one in (model, nested):
        with pytest.raises(ExportError, match=rf"'it' \({message}"):
            check_tabular_layers(one)


def test_crosses_are_refused_before_the_work(tmp_path, monkeypatch):
    """Of a `FeatureSpace`: nothing is converted, nothing written."""
    cross = keras.utils.FeatureSpace.cross(("colour", "code"), 16)
    space, _ = feature_space(crosses=[cross])
    made = trained(model_of(space), *feature_columns())
    calibrated(made, *feature_columns(seed=1))
    monkeypatch.setattr(
        "keras_cascade.export.signature.Signature.write_endpoints", None
    )
    with pytest.raises(ExportError, match=r"HashedCrossing.*`crosses`"):
        made.export(tmp_path / "bundle", allow_training_data=True)
    assert not list(tmp_path.iterdir())


def test_quantizations_that_train_take_no_lookup(cascade, tmp_path):
    with pytest.raises(ExportError, match=r"StringLookup.*'qat'.*'dynamic'"):
        cascade.export(
            tmp_path / "bundle",
            quantization="qat",
            training_data=columns(),
            allow_training_data=True,
        )


def test_strings_have_no_8_bits(cascade, tmp_path):
    with pytest.raises(ExportError, match=r"^TFLite's converter.*'colour'"):
        cascade.export(
            tmp_path / "bundle", quantization="int8", allow_training_data=True
        )


def test_the_student_is_left_as_it_was(cascade):
    x, _ = columns(20)
    before = cascade.student(x, training=False)
    with pytest.raises(KeyError), with_built_in_operations(cascade.student):
        np.testing.assert_allclose(
            cascade.student(x, training=False), before, atol=1e-6
        )
        raise KeyError
    for layer in cascade.student.layers:
        assert "call" not in vars(layer)
        if isinstance(layer, layers.IntegerLookup):
            assert layer.lookup_table.size() == len(
                layer.get_vocabulary(include_special_tokens=False)
            )
    np.testing.assert_array_equal(cascade.student(x, training=False), before)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(INT64, min_size=1, max_size=6, unique=True),
    st.lists(INT64, min_size=2, max_size=2),
    st.sampled_from(["int", "one_hot", "multi_hot", "count"]),
    st.booleans(),
    st.data(),
)
def test_integers_are_looked_up_as_keras_does(
    vocabulary, others, mode, masked, data
):
    mask = None
    if masked and mode == "int" and len(vocabulary) > 1:
        mask, *vocabulary = vocabulary
    if -1 in vocabulary:  # Keras's name for the unknown
        return
    layer = layers.IntegerLookup(
        vocabulary=vocabulary, mask_token=mask, output_mode=mode
    )
    pool = [*vocabulary, *others, *([] if mask is None else [mask])]
    width = 1 if mode == "one_hot" else 3
    row = st.lists(st.sampled_from(pool), min_size=width, max_size=width)
    x = np.array(data.draw(st.lists(row, min_size=1, max_size=4)), "int64")
    model = keras.Sequential([keras.Input((width,), dtype="int64"), layer])
    expected = keras.ops.convert_to_numpy(layer(x))
    with with_built_in_operations(model):
        found = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(found, expected)

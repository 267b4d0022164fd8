"""Types and sizes of exported files are those that the models declare."""

import functools
import itertools

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import layers

import keras_cascade as kc
from keras_cascade.export import ExportError
from keras_cascade.export.signature import Signature

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
#: The same numbers in other types, as arrays happen to come.
FLOATS = ("float16", "float64", ">f4", ">f8", "int8", "uint8", ">i4", "int64")


class Undeclared(keras.Model):
    """A subclassed model, which declares no input."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def dense(shape=(6,), dtype="float32"):
    """Three logits of one declared input."""
    return keras.Sequential(
        [keras.Input(shape, dtype=dtype), layers.Flatten(), layers.Dense(3)]
    )


@functools.cache
def identity(shape, dtype="float32"):
    """A model that declares one input."""
    inputs = keras.Input(shape, dtype=dtype)
    return keras.Model(inputs, inputs)


def numbers(rows, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 100, (rows, 6)), rng.integers(0, 3, rows)


def exported(cascade, x, y, path, **options):
    cascade.calibrate((x, y), HALF)
    return cascade.export(path, **options)


def entry(bundle):
    (spec,) = bundle.inputs
    return spec["shape"], spec["dtype"]


def types_of(bundle):
    """Types of the input in every file, read by each file's own runtime."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(bundle.student_file)).get_signature_runner(
        "serving_default"
    )
    teacher = tf.saved_model.load(str(bundle.teacher_folder))
    _, inputs = teacher.signatures["serving_default"].structured_input_signature
    return [
        np.dtype(runner.get_input_details()["input"]["dtype"]).name,
        inputs["input"].dtype.name,
        *(
            onnxruntime.InferenceSession(file).get_inputs()[0].type
            for file in bundle.onnx_files.values()
        ),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_every_file_has_the_models_type(dtype, tmp_path):
    cascade = kc.Cascade(dense(), dense())
    x, y = numbers(96, 1)
    bundle = exported(cascade, x.astype(dtype), y, tmp_path / "b", onnx=True)
    assert entry(bundle) == ([None, 6], "float32")
    assert types_of(bundle) == ["float32"] * 2 + ["tensor(float)"] * 2
    fused = tmp_path / "fused"
    cascade.export(fused, "tf_saved_model", example_inputs=x.astype(dtype))
    _, inputs = (
        tf.saved_model.load(str(fused))
        .signatures["teacher"]
        .structured_input_signature
    )
    assert inputs["input"].dtype == tf.float32
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    np.testing.assert_allclose(
        edge.predict(x).probabilities,
        cascade.predict(x.astype("float32"), verbose=0)["probabilities"],
        atol=1e-5,
    )


def test_int8_ranges_of_other_types(tmp_path):
    cascade = kc.Cascade(dense(), dense())
    x, y = numbers(96, 1)
    bundle = exported(
        cascade, x.astype(">f8"), y, tmp_path / "b", quantization="int8"
    )
    assert entry(bundle) == ([None, 6], "float32")
    assert types_of(bundle) == ["float32"] * 2


@pytest.mark.parametrize(
    ("declared", "given"),
    [("int32", "int64"), ("uint8", "float32"), ("float32", "int64")],
)
def test_ids_and_bytes_have_the_models_type(declared, given, tmp_path):
    def model():
        return keras.Sequential(
            [
                keras.Input((6,), dtype=declared),
                layers.Embedding(100, 4),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )

    cascade = kc.Cascade(model(), model())
    x, y = numbers(96, 1)
    bundle = exported(cascade, x.astype(given), y, tmp_path / "b")
    assert entry(bundle) == ([None, 6], declared)
    assert types_of(bundle) == [declared] * 2
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    expected = cascade.predict(x.astype(given), verbose=0)
    np.testing.assert_allclose(
        edge.predict(x).probabilities, expected["probabilities"], atol=1e-5
    )


def test_a_last_axis_of_one_is_the_models(tmp_path):
    """Keras adds the axis of images in grayscale; so does `EdgeCascade`."""
    rng = np.random.default_rng(0)
    x, y = rng.random((64, 4, 4)), rng.integers(0, 3, 64)
    cascade = kc.Cascade(dense((4, 4)), dense((4, 4, 1)))
    bundle = exported(cascade, x, y, tmp_path / "b")
    assert entry(bundle) == ([None, 4, 4, 1], "float32")
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    expected = cascade.predict(x, verbose=0)["probabilities"]
    for form in (x, x[..., None]):
        found = edge.predict(form).probabilities
        np.testing.assert_allclose(found, expected, atol=1e-5)
        found = edge.predict(form[0]).probabilities
        np.testing.assert_allclose(found, expected[:1], atol=1e-5)


@settings(deadline=None)
@given(
    hnp.arrays("int64", (4, 6), elements=st.integers(0, 100)),
    st.sampled_from(FLOATS),
    st.sampled_from(["float32", "int32", "uint8"]),
)
def test_no_type_of_the_data_changes_the_signature(x, given, declared):
    model = identity((6,), declared)
    expected = Signature(x.astype("int64"), (model,)).describe()
    signature = Signature(x.astype(given), (model,))
    assert signature.describe() == expected
    named = signature.named(x.astype(given))["input"]
    assert named.dtype == declared
    assert named.dtype.isnative
    np.testing.assert_array_equal(named, x)


def test_undeclared_inputs():
    """Floats are float32; integers are int32 where it holds them."""

    def found(array):
        return Signature(array, (Undeclared(),)).describe()[0]["dtype"]

    x = np.ones((2, 3))
    floats = ("float16", "float32", "float64", ">f8", ml_dtypes.bfloat16)
    assert {found(x.astype(dtype)) for dtype in floats} == {"float32"}
    integers = ("int8", "int16", ">i4", "int64", "uint16", "uint64")
    assert {found(x.astype(dtype)) for dtype in integers} == {"int32"}
    assert found(x.astype("uint8")) == "uint8"
    assert found(x.astype("bool")) == "bool"
    assert found(np.array([[2**31]])) == "int64"


def test_integers_that_the_type_does_not_hold():
    model = identity((1,), "int32")
    signature = Signature(np.zeros((1, 1), "int64"), (model,))
    with pytest.raises(ExportError, match=r"fit into int32.*2147483648"):
        signature.named(np.array([[2**31]]))


def test_sizes_that_models_leave_free():
    """A size that one model fixes is fixed."""
    x = np.zeros((2, 8, 9, 3))
    inputs = [
        identity(shape)
        for shape in ((None, None, 3), (None, 9, 3), (8, None, 3))
    ]
    free = Signature(x, inputs[:1])
    assert free.describe()[0]["shape"] == [None, None, None, 3]
    assert free.is_free
    for first, second in itertools.permutations(inputs[1:]):
        both = Signature(x, (first, second))
        assert both.describe()[0]["shape"] == [None, 8, 9, 3]
        assert not both.is_free
    given = Signature(x, inputs[:1], (None, 16, 3))
    assert given.describe()[0]["shape"] == [None, None, 16, 3]


@pytest.mark.parametrize(
    "shape", [(8, 9), (8, 9, 1), (0, 9, 3), ("8", 9, 3), {"x": (8, 9, 3)}, 8]
)
def test_bad_input_shapes(shape):
    model = identity((None, None, 3))
    with pytest.raises(ValueError, match="Expected `input_shape`"):
        Signature(np.zeros((2, 8, 9, 3)), (model,), shape)


def test_resized_rows():
    """Free axes are repeated or cut, the others stay."""
    model = identity((None, 2))
    x = np.arange(12).reshape(2, 3, 2)
    signature = Signature(x, (model,))
    np.testing.assert_array_equal(
        signature.resized(x, 2.0), np.concatenate([x, x], axis=1)
    )
    np.testing.assert_array_equal(signature.resized(x, 0.5), x[:, :2])

"""Sizes that a model leaves free ship as such, or as they are declared."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.export import ExportError

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)


def teacher():
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, kernel_initializer="orthogonal"),
            layers.Rescaling(9.0),
        ]
    )


def mobile_net():
    """Blocks of MobileNetV3: a kernel that is larger than an image of 1 x 1,
    squeeze-and-excitation, and a residual."""
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = layers.Activation("hard_silu")(layers.BatchNormalization()(x))
    y = layers.ZeroPadding2D(((1, 2), (1, 2)))(x)
    y = layers.DepthwiseConv2D(5, strides=2, padding="valid")(y)
    y = y * layers.Conv2D(8, 1, activation="hard_sigmoid")(
        layers.GlobalAveragePooling2D(keepdims=True)(y)
    )
    y = y + layers.Conv2D(8, 1)(y)
    x = layers.GlobalAveragePooling2D()(y)
    x = layers.Dense(3, kernel_initializer="orthogonal")(x)
    return keras.Model(inputs, layers.Rescaling(60.0)(x))


def images(rows, height, width):
    rng = np.random.default_rng(height * width)
    # A colour cast per image, on which answers depend.
    cast = rng.normal(size=(rows, 1, 1, 3))
    x = cast + rng.normal(size=(rows, height, width, 3))
    return x.astype("float32")


def calibrated(student, x=None):
    cascade = kc.Cascade(teacher(), student)
    x = images(70, 20, 24) if x is None else x
    cascade.calibrate((x, np.arange(70) % 3), HALF)
    return cascade


def shape(bundle):
    return bundle.inputs[0]["shape"]


@pytest.mark.parametrize("quantization", [None, "dynamic", "int8"])
def test_images_of_any_size(quantization, tmp_path):
    student = mobile_net()
    cascade = calibrated(student)
    bundle = cascade.export(
        tmp_path / "b", quantization=quantization, onnx=quantization is None
    )
    assert shape(bundle) == [None, None, None, 3]
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    shipped = kc.runtime.StudentInterpreter(bundle.batch_student_file)
    for size in ((20, 24), (33, 9), (48, 48), (20, 24)):
        x = images(10, *size)
        expected = ops.convert_to_numpy(ops.softmax(student(x)))
        assert np.ptp(expected, axis=0).max() > 0.1
        found = shipped.run({"input": x})["probabilities"]
        if quantization is None:
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_allclose(
                edge.predict(x).probabilities,
                cascade.predict(x, verbose=0)["probabilities"],
                atol=1e-5,
            )
            assert edge.predict(x[0]).probabilities.shape == (1, 3)
        else:
            assert np.abs(found - expected).sum(axis=1).mean() / 2 < 0.1
            assert edge.predict(x).probabilities.shape == (10, 3)


def test_declared_sizes(tmp_path):
    student = mobile_net()
    cascade = calibrated(student)
    with pytest.raises(ValueError, match="Expected `input_shape`"):
        cascade.export(tmp_path / "b", input_shape=(20, 24))
    bundle = cascade.export(tmp_path / "b", input_shape=(20, None, 3))
    assert shape(bundle) == [None, 20, None, 3]
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    assert edge.predict(images(4, 20, 31)).probabilities.shape == (4, 3)
    with pytest.raises(ValueError, match="shape"):
        edge.predict(images(4, 21, 24))
    for format, name in (("litert", "s.tflite"), ("onnx", "s.onnx")):
        signature = cascade.export(
            tmp_path / name, format, input_shape=(20, 24, 3)
        )
        assert signature.describe()[0]["shape"] == [None, 20, 24, 3]


def test_batches_of_several_sizes(tmp_path):
    """Calibration data whose batches are of several sizes."""
    student = mobile_net()
    parts = [(images(32, 20, s), np.arange(32) % 3) for s in (24, 16, 40)]
    data = tf.data.Dataset.from_generator(
        lambda: iter(parts),
        output_signature=(
            tf.TensorSpec((None, None, None, 3)),
            tf.TensorSpec((None,), "int64"),
        ),
    )
    cascade = kc.Cascade(teacher(), student)
    cascade.calibrate(data, HALF)
    bundle = cascade.export(tmp_path / "b")
    assert shape(bundle) == [None, None, None, 3]
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    for x, _ in parts:
        np.testing.assert_allclose(
            edge.predict(x).probabilities,
            cascade.predict(x, verbose=0)["probabilities"],
            atol=1e-5,
        )


class Refusing(layers.Layer):
    """Converts at a fixed size only."""

    def call(self, x):
        if x.shape[1] is None and not isinstance(x, keras.KerasTensor):
            return tf.math.lgamma(x)  # not in TFLite
        return x

    def compute_output_shape(self, shape):
        return shape


def refusing():
    return keras.Sequential(
        [
            keras.Input((None, None, 3)),
            Refusing(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )


def test_the_sizes_of_the_data_where_tflite_needs_some(tmp_path):
    """With a warning that says so, and names the option."""
    cascade = calibrated(refusing())
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", UserWarning)
        bundle = cascade.export(tmp_path / "b")
    (message,) = (str(one.message) for one in warned)
    assert "(20, 24, 3)} only" in message
    assert "Pass `input_shape`" in message
    assert shape(bundle) == [None, 20, 24, 3]
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    x = images(5, 20, 24)
    np.testing.assert_allclose(
        edge.predict(x).probabilities,
        cascade.predict(x, verbose=0)["probabilities"],
        atol=1e-5,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        cascade.export(tmp_path / "c", input_shape=(20, 24, 3))


def test_no_bundle_where_the_data_has_several(tmp_path):
    cascade = calibrated(refusing())
    batches = [(images(40, 20, size), np.arange(40) % 3) for size in (24, 32)]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return batches[index]

    with pytest.raises(ExportError, match=r"several.*`input_shape`"):
        cascade.export(tmp_path / "b", calibration_data=Batches())
    assert not (tmp_path / "b").exists()

"""The scale of images, as a model's first layers and its name tell it."""

import keras
import pytest
from keras import layers

from keras_cascade import Cascade, models
from keras_cascade.cli.model_inputs import common_inputs, model_inputs

MEAN, VARIANCE = [0.485, 0.456, 0.406], [0.0524, 0.0502, 0.0506]


def model(*leading, dtype=None, shape=(8, 8, 3), name=None):
    return keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            *leading,
            layers.Conv2D(2, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ],
        name=name,
    )


@pytest.mark.parametrize(
    ("leading", "scale"),
    [
        ([], None),
        ([layers.Rescaling(1 / 255)], "0-255"),
        ([layers.Rescaling(1 / 127.5, -1)], "0-255"),
        ([layers.Rescaling(2.0, -1)], "0-1"),
        ([layers.Rescaling(255.0)], "0-1"),
        ([layers.Rescaling(127.5, 127.5)], "-1-1"),
        # (x - mean) / deviation of ImageNet, in both of its usual units.
        ([layers.Normalization(mean=MEAN, variance=VARIANCE)], "0-1"),
        ([layers.Normalization(mean=123.0, variance=58.0**2)], "0-255"),
        ([layers.Normalization(mean=-0.05, variance=0.25)], "-1-1"),
        # MNIST: a small mean beside a large deviation.
        ([layers.Normalization(mean=0.13, variance=0.095)], "0-1"),
        (
            [
                layers.RandomFlip(),
                layers.Rescaling(1 / 255),
                layers.Normalization(mean=MEAN, variance=VARIANCE),
            ],
            "0-255",
        ),
    ],
)
def test_layers_before_the_first_weights(leading, scale):
    first = model(*leading)
    assert model_inputs(first).scale == scale
    # The same inside of another model, behind an augmentation.
    outer = keras.Input((8, 8, 3))
    nested = keras.Model(outer, first(layers.RandomFlip()(outer)))
    assert model_inputs(nested).scale == scale


@pytest.mark.parametrize(
    ("function", "scale"),
    [
        (keras.applications.mobilenet_v2.preprocess_input, "0-255"),
        (keras.applications.resnet50.preprocess_input, "0-255"),
        (lambda x: x / 255.0, "0-255"),
        (lambda x: (x - 0.5) * 2.0, "0-1"),
    ],
)
def test_preprocessing_by_operations(function, scale):
    inputs = keras.Input((8, 8, 3))
    outputs = model()(function(inputs))
    assert model_inputs(keras.Model(inputs, outputs)).scale == scale


def test_keras_applications():
    options = {
        "weights": None,
        "include_top": False,
    }
    for build, scale in (
        (keras.applications.MobileNetV2, "-1-1"),
        (keras.applications.MobileNetV3Small, "0-255"),
    ):
        backbone = build(input_shape=(32, 32, 3), **options)
        whole = keras.Sequential(
            [keras.Input((32, 32, 3)), backbone, layers.Flatten()]
        )
        for one in (backbone, whole):
            assert model_inputs(one).scale == scale
            assert model_inputs(one).image_size == (32, 32)


def test_types_sizes_and_reference_models():
    found = model_inputs(model(layers.Rescaling(1 / 255), dtype="uint8"))
    assert found.scale == "none" and found.channels == 3
    found = model_inputs(model(shape=(None, None, 1)))
    assert found.image_size is None and found.channels == 1
    assert model_inputs(models.image_student((8, 8, 1), 3)).scale == "0-1"
    assert model_inputs(models.image_teacher((8, 8, 1), 3)).scale == "0-1"
    points = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    assert model_inputs(points).scale is None


def test_models_of_one_cascade():
    of_bytes = model(layers.Rescaling(1 / 255))
    of_integers = model(layers.Rescaling(1 / 255), dtype="uint8")
    of_ones = model(layers.Rescaling(2.0, -1))
    assert common_inputs([of_bytes, model()]).scale == "0-255"
    assert common_inputs([of_integers, of_bytes]).scale == "none"
    assert common_inputs([Cascade(of_ones, of_ones), model()]).scale == "0-1"
    with pytest.raises(ValueError, match="scale 0-255 and 0-1"):
        common_inputs([of_bytes, of_ones])
    with pytest.raises(ValueError, match="image_size"):
        common_inputs([model(), model(shape=(9, 8, 3))])

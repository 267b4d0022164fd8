"""Models that bring a preprocessor are used behind it, everywhere."""

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.models.preprocessed_model import PreprocessedModel

SIZE, CLASSES = 8, 2


def task(image_size=(SIZE, SIZE), seed=0, antialias=False):
    """A small KerasHub classifier that inverts pictures before it looks."""
    keras.utils.set_random_seed(seed)
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=image_size, scale=-1 / 255.0, offset=1.0,
        antialias=antialias,
    )  # fmt: skip
    return keras_hub.models.ResNetImageClassifier(
        backbone=keras_hub.models.ResNetBackbone(
            input_conv_filters=[64],
            input_conv_kernel_sizes=[3],
            stackwise_num_filters=[64],
            stackwise_num_blocks=[1],
            stackwise_num_strides=[1],
            block_type="basic_block",
            image_shape=(SIZE, SIZE, 3),
        ),
        num_classes=CLASSES,
        preprocessor=keras_hub.models.ResNetImageClassifierPreprocessor(
            image_converter=converter
        ),
    )


def small(size=SIZE):
    return keras.Sequential(
        [
            keras.Input((size, size, 3)),
            keras.layers.Rescaling(1 / 255.0),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(CLASSES),
        ]
    )


def pictures(rows, size=SIZE, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (rows, size, size, 3)).astype("float32")
    return x, rng.integers(0, CLASSES, rows)


def softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits, axis=-1))


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_every_path_answers_as_the_tasks_own_predict(role, tmp_path):
    brings = task()
    models = {"teacher": small(), "student": small(), role: brings}
    cascade = kc.Cascade(**models)
    cascade.compile("sgd")
    x, y = pictures(24)
    expected = softmax(brings.predict(x, verbose=0))
    right = (expected.argmax(axis=1) == y).mean()
    assert np.abs(expected - softmax(brings(x))).max() > 0.01
    cascade.threshold = 2.0 if role == "teacher" else -1.0
    np.testing.assert_allclose(
        cascade.predict(x, verbose=0)["probabilities"], expected, atol=1e-5
    )
    measured = cascade.evaluate(x, y, verbose=0, return_dict=True)
    assert measured[f"{role}_accuracy"] == pytest.approx(right)
    results = cascade.judge((x, y))
    np.testing.assert_allclose(
        getattr(results, f"{role}_confidence"), expected.max(axis=1), atol=1e-5
    )
    if role == "teacher":
        cache = kc.cache_teacher_logits((x, y), brings, dtype="float32")
        np.testing.assert_allclose(cache.probabilities(x), expected, atol=1e-5)
        history = cascade.fit(x, y, verbose=0, teacher_logits=cache).history
    else:
        history = cascade.fit(x, y, verbose=0).history
        expected = softmax(brings.predict(x, verbose=0))  # it was trained
    if role == "teacher":
        assert history["teacher_accuracy"][0] == pytest.approx(right)
    cascade.save(tmp_path / "cascade.keras")
    loaded = keras.models.load_model(tmp_path / "cascade.keras")
    assert isinstance(getattr(loaded, role), PreprocessedModel)
    loaded.threshold = cascade.threshold
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0)["probabilities"], expected, atol=1e-5
    )


def test_pictures_of_another_size_are_resized(tmp_path):
    teacher, size = task(), 2 * SIZE
    cascade = kc.Cascade(teacher, small(size))
    cascade.compile("sgd")
    x, y = pictures(64, size)
    expected = softmax(teacher.predict(x, verbose=0))
    cascade.threshold = 2.0
    np.testing.assert_allclose(
        cascade.predict(x, verbose=0)["probabilities"], expected, atol=1e-5
    )
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=0.5))
    cascade.export(tmp_path / "bundle")
    reloaded = tf.saved_model.load(str(next(tmp_path.glob("bundle/teacher/*"))))
    served = reloaded.signatures["serving_default"](tf.constant(x))["logits"]
    np.testing.assert_allclose(softmax(served.numpy()), expected, atol=1e-4)


def test_a_student_ships_with_its_preprocessing(tmp_path):
    student = task(image_size=None)
    cascade = kc.Cascade(small(), student)
    cascade.compile("sgd")
    x, y = pictures(64)
    expected = softmax(student.predict(x, verbose=0))
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=0.5))
    cascade.export(tmp_path / "bundle")
    path = tmp_path / "bundle"
    with kc.runtime.EdgeCascade.load(path, teacher="local") as edge:
        prediction = edge.predict(x)
    answers = cascade.predict(x, verbose=0)
    np.testing.assert_allclose(
        prediction.probabilities, answers["probabilities"], atol=1e-4
    )
    kept = ~answers["delegated"]
    np.testing.assert_allclose(
        prediction.probabilities[kept], expected[kept], atol=1e-4
    )


def test_a_student_whose_preprocessing_cannot_ship(tmp_path):
    student = task(antialias=True)  # no TFLite operation does that
    cascade = kc.Cascade(small(2 * SIZE), student)
    cascade.compile("sgd")
    data = pictures(64, 2 * SIZE)
    cascade.calibrate(data, kc.MaxDelegationRate(0.5, tolerance=0.5))
    with pytest.raises(kc.errors.ExportError, match="preprocessor"):
        cascade.export(tmp_path / "bundle")

"""MobileNetV3 of `keras.applications`, as people take it: all of its layers,
in fewer blocks."""

import keras
import numpy as np
import pytest
from keras.src.applications import mobilenet_v3

import keras_cascade as kc
from benchmarks.coverage.inputs import give_varied_answers, images
from tests.helpers.answers_by_row import check_answers_by_row, softmax

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
CLASSES = 4


def mobile_net_v3(seed=0, size=None, policy="float32"):
    """Blocks with and without an expansion, a residual and a squeeze."""
    block = mobilenet_v3._inverted_res_block

    def blocks(x, kernel, activation, se_ratio):
        x = block(x, 1, 16, 3, 2, se_ratio, mobilenet_v3.relu, 0)
        x = block(x, 2, 24, kernel, 2, None, activation, 1)
        return block(x, 2, 24, kernel, 1, se_ratio, activation, 2)

    keras.utils.set_random_seed(seed)
    keras.config.set_dtype_policy(policy)
    try:
        return mobilenet_v3.MobileNetV3(
            blocks,
            32,
            (size, size, 3),
            model_type="small",
            weights=None,
            classes=CLASSES,
            classifier_activation=None,
            name="MobileNetV3Small",
        )
    finally:
        keras.config.set_dtype_policy("float32")


def pixels(seed, rows, size=32):
    return images(seed, rows, size, 0.0, 255.0)


@pytest.fixture(scope="module")
def varied():
    """Two models whose answers differ from image to image."""
    models = [mobile_net_v3(seed) for seed in (0, 1)]
    for model in models:
        give_varied_answers(model, pixels(4, 128))
    return models


def mixed_twin(model):
    twin = mobile_net_v3(size=32, policy="mixed_float16")
    twin.set_weights(model.get_weights())
    return twin


def test_mixed_precision(varied, tmp_path):
    """Student and teacher: the files answer as the same weights in float32."""
    student, teacher = map(mixed_twin, varied)
    assert student.compute_dtype == teacher.compute_dtype == "float16"
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.SGD(1e-4))
    cascade.fit(pixels(2, 32), np.arange(32) % CLASSES, verbose=0)
    x = pixels(1, 60)
    cascade.calibrate((x, np.arange(60) % CLASSES), HALF)
    bundle = cascade.export(tmp_path / "b")
    assert [one.name for one in bundle.teacher_folder.iterdir()]
    whole = [mobile_net_v3(size=32) for _ in range(2)]
    for twin, model in zip(whole, (student, teacher), strict=True):
        twin.set_weights(model.get_weights())
    expected, asked = (softmax(twin, x) for twin in whole)
    assert np.abs(expected - np.roll(expected, 1, axis=0)).sum(1).mean() > 0.6
    edge = kc.runtime.EdgeCascade.load(bundle.path, "local")
    alone, answer = edge.predict_alone(x), edge.predict(x)
    np.testing.assert_allclose(alone.probabilities, expected, atol=1e-4)
    delegated = answer.source == "cloud"
    assert 0 < delegated.sum() < len(x)
    np.testing.assert_allclose(
        answer.probabilities,
        np.where(delegated[:, None], asked, expected),
        atol=1e-4,
    )
    cascade.export(tmp_path / "s.tflite", "litert", quantization="float16")
    shipped = kc.runtime.StudentInterpreter(tmp_path / "s.tflite")
    half = shipped.run({"input": x})["probabilities"]
    np.testing.assert_allclose(half, expected, atol=0.02)
    # The cascade itself answers on in float16.
    assert student.compute_dtype == teacher.compute_dtype == "float16"


def test_int8_of_any_size(varied, tmp_path):
    student, teacher = varied
    cascade = kc.Cascade(teacher, student)
    cascade.calibrate((pixels(1, 60), np.arange(60) % CLASSES), HALF)
    bundle = cascade.export(tmp_path / "b", quantization="int8")
    assert bundle.inputs[0]["shape"] == [None, None, None, 3]
    for size in (32, 41, 64):
        check_answers_by_row(cascade, bundle, pixels(size, 20, size), 0.12)

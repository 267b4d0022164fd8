"""A student rebuilt in Keras 2 answers as the student does."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_cascade.export.optimization.job_folder import write_job
from keras_cascade.export.optimization.layer_substitutions import (
    fold_batch_norms,
    is_augmentation,
)
from keras_cascade.export.optimization.student_graph import StudentGraph
from tests.export.optimization.zoo import ZOO, make

TOLERANCE = 1e-5
SCRIPT = Path(__file__).parent / "rebuild_folders.py"


def answers(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """Comparison of every student of the zoo, rebuilt in one process."""
    keras.utils.set_random_seed(0)
    folders = []

    def add(name, graph):
        folder = tmp_path_factory.mktemp("zoo") / name
        folder.mkdir()
        write_job(folder, {"tolerance": TOLERANCE}, graph)
        folders.append(folder)

    for name in ZOO:
        model, inputs = make(name)
        graph = StudentGraph(model, inputs)
        np.testing.assert_allclose(
            graph.values[graph.output], answers(model, inputs), atol=1e-6
        )
        add(name, graph)
        if name in ("convnet", "mobile_net_v2"):
            folded = StudentGraph(model, inputs)
            fold_batch_norms(folded)
            add(f"{name}_folded", folded)
            kinds = {step.class_name for step in folded.steps}
            assert "BatchNormalization" not in kinds
    wrong = StudentGraph(*make("convnet"))
    (step,) = (s for s in wrong.steps if s.class_name == "SeparableConv2D")
    step.weights[0] = step.weights[0] + 1e-3
    add("wrong", wrong)
    process = subprocess.run(
        [sys.executable, SCRIPT, *folders],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "name", [*ZOO, "convnet_folded", "mobile_net_v2_folded"]
)
def test_outputs_are_those_of_the_student(rebuilt, name):
    found = rebuilt[name]
    assert "error" not in found, found
    assert found["gap"] <= TOLERANCE * max(1.0, found["size"])
    assert found["split_gap"] <= TOLERANCE * max(1.0, found["size"])
    assert found["size"] > 1e-3


def test_the_layer_that_answers_otherwise_is_named(rebuilt):
    assert "layer 'separable_conv2d" in rebuilt["wrong"]["error"]
    assert "differ by" in rebuilt["wrong"]["error"]


def test_what_stays_in_float(rebuilt):
    assert set(rebuilt["convnet"]["before"]) == {"rescaling"}
    why = rebuilt["text"]["in_float"]
    assert why["embedding"] == "takes integers"
    assert why["global_average_pooling1d"] == "takes a mask"
    assert len(why) == 2
    residual = rebuilt["residual"]["in_float"]
    assert "conv1d" in residual and "multiply" in residual
    assert "multiply" in rebuilt["residual"]["output_only"]
    assert rebuilt["two_inputs"]["in_float"] == {}


def test_what_was_called_in_inference_is_not_trained():
    graph = StudentGraph(*make("frozen_norm"))
    kinds = [step.class_name for step in graph.steps]
    assert "Dropout" not in kinds
    norms = [s for s in graph.steps if s.class_name == "BatchNormalization"]
    assert len(norms) == 2
    assert not any(norm.config["trainable"] for norm in norms)


def test_augmentation_is_left_out_and_noise_is_kept():
    """Keras writes `training=False` into the config of every `Dropout`."""
    graph = StudentGraph(*make("augmented"), features=["moved"])
    kinds = [step.class_name for step in graph.steps]
    assert kinds == [
        "Rescaling", "Normalization", "BatchNormalization", "Conv2D",
        "GaussianNoise", "GlobalAveragePooling2D", "Dropout", "Dense",
    ]  # fmt: skip
    (norm,) = (s for s in graph.steps if s.class_name == "BatchNormalization")
    assert norm.config["trainable"]
    # What a gate sees of a layer that is left out is what it passes on.
    assert graph.features == {"moved": "conv2d"}
    kinds = [step.class_name for step in StudentGraph(*make("of_bytes")).steps]
    assert kinds == ["Rescaling", "CenterCrop", "Conv2D", "Flatten", "Dense"]


def test_what_augments_is_what_does_nothing_in_inference():
    """Each of Keras's image layers, on images of all values and of few."""
    arguments = {
        "CenterCrop": (4, 4), "RandomContrast": (0.1,),
        "RandomBrightness": (0.1,), "RandomColorDegeneration": (0.1,),
        "RandomCrop": (8, 8), "RandomHue": (0.1,),
        "RandomPosterization": (4,), "RandomRotation": (0.1,),
        "RandomSaturation": (0.1,), "RandomSharpness": (0.1,),
        "RandomTranslation": (0.1, 0.1), "RandomZoom": (0.1,),
        "Resizing": (4, 4),
    }  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3))
    images = np.concatenate([pixels, pixels // 4 + 60]).astype("float32")
    images[0, 0, 0], images[0, 0, 1] = 0.0, 255.0
    base = keras.layers.RandomFlip.__mro__[1]
    seen = set()
    for name in dir(keras.layers):
        kind = getattr(keras.layers, name)
        is_class = isinstance(kind, type) and issubclass(kind, base)
        if not is_class or name == "MaxNumBoundingBoxes":  # takes no image
            continue
        layer = kind(*arguments.get(name, ()))
        found = keras.ops.convert_to_numpy(layer(images, training=False))
        assert is_augmentation(layer) == np.array_equal(found, images), name
        seen.add(name)
    assert {"AutoContrast", "Equalization", "MixUp", "RandomFlip"} <= seen


def test_folding_leaves_what_is_looked_at():
    """`dense -> batch norm`, where a gate looks at the dense layer."""
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, name="seen")(inputs)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    for features, norms in ((["seen"], 1), ([], 0)):
        graph = StudentGraph(model, np.ones((2, 6)), features)
        fold_batch_norms(graph)
        kinds = [step.class_name for step in graph.steps]
        assert kinds.count("BatchNormalization") == norms


def test_half_precision():
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model, inputs = make("two_inputs")
        graph = StudentGraph(model, inputs)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert {a.dtype for a in graph.values.values()} == {np.dtype("float32")}

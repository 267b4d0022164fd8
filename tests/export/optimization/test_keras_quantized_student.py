"""Quantization-aware training in Keras 3, where TFMOT takes no student."""

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers, ops

import keras_cascade as kc
from keras_cascade.export import ExportError
from keras_cascade.export.optimization import optimize_student
from keras_cascade.export.optimization.fake_quantization import (
    FakeQuantizedModel,
    channel_axes,
)
from keras_cascade.export.optimization.keras_quantized_student import (
    KerasQuantizedStudent,
    copied_student,
)
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_file import operations
from keras_cascade.runtime import StudentInterpreter

OPTIONS = {"epochs": 2, "learning_rate": 2e-3}


def attention(width=16):
    """What TFMOT refuses: an attention, its residual, and a norm."""
    inputs = keras.Input((6, 8))
    x = layers.Dense(width, name="in")(inputs)
    seen = layers.MultiHeadAttention(2, 8, name="attention")(x, x)
    x = layers.LayerNormalization(name="norm")(layers.Add()([x, seen]))
    x = layers.Dense(2 * width, activation="gelu", name="hidden")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    return keras.Model(inputs, layers.Dense(3, name="logits")(x))


def examples(rows, seed=0):
    """Classes differ in one feature at any position."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    x = rng.normal(size=(rows, 6, 8))
    x[np.arange(rows), rng.integers(0, 6, rows), y] += 4
    return x.astype("float32"), y.astype("int32")


class Trained:
    """A cascade of attentions, and its student in 8 bits."""

    def __init__(self):
        keras.utils.set_random_seed(0)
        self.x, self.y = examples(400)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        teacher = attention(24)
        teacher.compile(keras.optimizers.Adam(5e-3), loss)
        teacher.fit(self.x, self.y, epochs=8, verbose=0)
        self.cascade = kc.Cascade(teacher, attention())
        self.cascade.compile(keras.optimizers.Adam(5e-3))
        self.cascade.fit(self.x, self.y, epochs=8, verbose=0)
        self.logits = teacher.predict(self.x, verbose=0)
        self.before = self.cascade.student.get_weights()
        self.student = self.optimized()

    def optimized(self, **options):
        return optimize_student(
            self.cascade, "qat", self.x, self.y, self.logits,
            Signature(self.x), **{**OPTIONS, **options},
        )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return Trained()


def test_what_tfmot_refuses_is_trained_in_keras(trained, tmp_path):
    student = trained.student
    assert isinstance(student, KerasQuantizedStudent)
    assert student.describe()["quantization"] == "qat"
    assert student.describe()["tool"] == "keras"
    expected = trained.cascade.compute_loss(
        trained.x,
        trained.y,
        {
            "teacher_logits": trained.logits,
            "student_outputs": trained.cascade.student(trained.x),
        },
    )
    # The user's student is as it was.
    for before, now in zip(
        trained.before, trained.cascade.student.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(before, now)
    assert student.history["before"] == [
        pytest.approx(float(expected), rel=1e-4)
    ]
    assert len(student.history["qat"]) == 2
    content = student.convert(0.5)
    built_in, others = operations(content)
    assert others == [] and "FAKE_QUANT" not in built_in
    kernels = {
        tuple(map(int, one["shape"])): one["dtype"]
        for one in Interpreter(model_content=content).get_tensor_details()
    }
    # Queries of two heads of 8; the hidden layer; the logits.
    for shape in ((16, 16), (32, 16), (3, 32)):
        assert kernels[shape] == np.int8
    file = tmp_path / "student.tflite"
    file.write_bytes(content)
    x, y = examples(300, seed=1)
    found = StudentInterpreter(file).run({"input": x})
    np.testing.assert_array_equal(
        found["delegate"], found["score"] < np.float32(0.5)
    )
    kept = trained.cascade.student.predict(x, verbose=0).argmax(axis=1)
    accuracy = (kept == y).mean()
    assert accuracy > 0.8
    assert (found["probabilities"].argmax(axis=1) == y).mean() > accuracy - 0.05


def test_the_same_answers_twice(trained):
    """Bit by bit; the names of a file's tensors count its process's models."""
    again = trained.optimized()
    assert again.history == trained.student.history
    one, other = (
        Interpreter(model_content=student.convert(0.3)).get_signature_runner()(
            input=trained.x[:50]
        )
        for student in (again, trained.student)
    )
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_what_stays_in_float_is_listed(trained):
    named = {"in", "attention", "norm", "hidden", "pool", "logits"}
    assert {name for name, _ in trained.student.left_in_float} <= named
    for _, why in trained.student.left_in_float:
        assert why.startswith("no 8 bits for ")


def test_other_modes_refuse_it_and_say_which_takes_it(trained):
    with pytest.raises(ExportError, match="quantization='qat', for which"):
        optimize_student(
            trained.cascade, "prune", trained.x, trained.y, trained.logits,
            Signature(trained.x), epochs=1,
        )  # fmt: skip


def test_a_bundle_is_exported_as_with_tfmot(trained, tmp_path):
    held_out = examples(200, seed=2)
    trained.cascade.calibrate(held_out, kc.MaxDelegationRate(0.4))
    bundle = trained.cascade.export(
        tmp_path / "bundle", quantization="qat",
        training_data=(trained.x, trained.y), optimization={"epochs": 1},
    )  # fmt: skip
    student = bundle.manifest["student"]
    assert (student["quantization"], student["tool"]) == ("qat", "keras")
    found = StudentInterpreter(bundle.student_file).run({"input": held_out[0]})
    point = bundle.operating_point()
    delegated = found["score"] < np.float32(point["threshold"])
    assert delegated.mean() == point["delegation_rate"] <= 0.4


def test_a_loss_that_is_no_number(trained):
    with pytest.raises(ExportError, match="smaller `learning_rate` than 1e"):
        trained.optimized(epochs=1, learning_rate=1e30)


def symmetric(weight, axes):
    """TFLite's int8 of a kernel: NumPy, a channel at a time."""
    others = tuple(i for i in range(weight.ndim) if i not in axes)
    step = np.abs(weight).max(axis=others, keepdims=True) / 127
    return np.round(weight / step) * step


@pytest.mark.parametrize(
    ("layer", "shape", "axes"),
    [
        (layers.Dense(5), (4, 6), {"kernel": (1,)}),
        (layers.Conv2D(5, 3), (2, 8, 8, 3), {"kernel": (3,)}),
        (layers.DepthwiseConv2D(3), (2, 8, 8, 3), {"kernel": (2, 3)}),
        (layers.Conv2DTranspose(5, 3), (2, 8, 8, 3), {"kernel": (2,)}),
        (
            layers.SeparableConv2D(5, 3), (2, 8, 8, 3),
            {"depthwise_kernel": (2, 3), "pointwise_kernel": (3,)},
        ),
        (
            layers.EinsumDense("abc,cde->abde", (None, 2, 5)), (3, 4, 6),
            {"kernel": (1, 2)},
        ),
        (
            layers.EinsumDense("abcd,cde->abe", (None, 5)), (3, 4, 2, 6),
            {"kernel": (2,)},
        ),
        (layers.Embedding(7, 4), (3, 4), {"embeddings": ()}),
    ],
)  # fmt: skip
def test_kernels_have_a_scale_per_channel(layer, shape, axes):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, layer(inputs))
    model.set_weights(
        [np.random.default_rng(0).normal(size=w.shape) for w in model.weights]
    )
    found = {
        weight.name: channel_axes(layer, weight)
        for weight in layer.weights
        if len(weight.shape) > 1 and weight.name != "bias"
    }
    assert found == axes
    fake = FakeQuantizedModel(model)
    x = np.random.default_rng(1).integers(0, 7, shape).astype("float32")
    expected_weights = [
        symmetric(np.asarray(w), axes[w.name]) if w.name in axes else w.numpy()
        for w in model.weights
    ]
    with fake.simulated():
        found = np.asarray(fake([x], training=False))
    assert "call" not in vars(layer)
    model.set_weights(expected_weights)
    expected = np.asarray(model(x))
    # And the output in 256 steps over its range, which includes zero.
    low, high = min(expected.min(), 0), max(expected.max(), 0)
    step = (high - low) / 255
    assert np.abs(found - expected).max() <= 0.51 * step + 1e-6
    assert len(np.unique(np.round(found / step))) <= 256


def test_statistics_are_kept_and_kernels_are_not_rounded():
    """Training changes the weights themselves, not what was read."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    x = layers.Dense(3, use_bias=False, name="kernel")(inputs)
    x = layers.BatchNormalization(momentum=0.5, name="norm")(x)
    frozen = layers.Dense(2, name="frozen", trainable=False)
    model = keras.Model(inputs, frozen(x))
    before = [weight.numpy() for weight in model.weights]
    fake = FakeQuantizedModel(model)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    with fake.simulated():
        fake([x], training=True)
        assert "call" in vars(frozen)
        # A BatchNormalization comes next: TFLite has no such tensor.
        assert "call" not in vars(model.get_layer("kernel"))
    norm = model.get_layer("norm")
    assert np.abs(norm.moving_mean.numpy()).max() > 0
    statistics = {id(norm.moving_mean), id(norm.moving_variance)}
    for weight, old in zip(model.weights, before, strict=True):
        if id(weight) not in statistics:
            np.testing.assert_array_equal(weight.numpy(), old)


def test_gradients_pass_as_if_nothing_was_rounded():
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    fake = FakeQuantizedModel(model)
    x = np.eye(4, dtype="float32")
    with fake.simulated(), tf.GradientTape() as tape:
        loss = ops.sum(fake([x], training=True))
    kernel, bias = tape.gradient(
        loss, [weight.value for weight in fake.trainable_variables]
    )
    np.testing.assert_allclose(kernel, np.ones((4, 3)))
    np.testing.assert_allclose(bias, np.full(3, 4.0))


def test_a_student_that_keras_cannot_copy():
    class Own(layers.Layer):
        def __init__(self, factor):
            super().__init__(name="own")
            self.factor = factor

        def call(self, inputs):
            return self.factor * inputs

    x = np.ones((2, 4), "float32")
    inputs = keras.Input((4,))
    student = keras.Model(inputs, layers.Dense(3)(Own(2.0)(inputs)))
    with pytest.raises(ExportError, match=r"Give its class a `get_config`"):
        copied_student(student, x)

    class Forgetful(Own):
        def __init__(self, factor=1.0):
            super().__init__(factor)

        def get_config(self):
            return {}

    student = keras.Model(inputs, layers.Dense(3)(Forgetful(2.0)(inputs)))
    with pytest.raises(ExportError, match="answers otherwise"):
        copied_student(student, x)

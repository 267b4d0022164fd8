"""Models of mixed precision are exported as they compute in float32."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cascade as kc
from keras_cascade.export.float32_models import in_float32

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
POLICIES = ("mixed_float16", "mixed_bfloat16")


def under(policy, make):
    """What `make` makes under a global policy."""
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(1)
        return make()
    finally:
        keras.config.set_dtype_policy("float32")


def dense():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3, kernel_initializer="he_normal"),
        ]
    )


class Scaled(layers.Layer):
    """A layer of someone's own, with layers in a list and a weight."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(8), layers.LayerNormalization()]

    def build(self, shape):
        self.scale = self.add_weight(shape=(8,), initializer="ones")

    def call(self, x):
        for part in self.parts:
            x = part(x)
        return x * self.scale


def nested():
    """Inner models, wrappers, attention, and a layer with its own policy."""
    inputs = keras.Input((5, 6))
    inner = keras.Sequential([keras.Input((5, 6)), Scaled(), layers.Dense(6)])
    x = layers.TimeDistributed(layers.Dense(6))(inner(inputs))
    x = layers.MultiHeadAttention(2, 3)(x, x) + x
    x = layers.Bidirectional(layers.GRU(4))(x)
    x = layers.Dense(6, dtype="mixed_bfloat16")(x)
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def examples(rows, *shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, *shape)).astype("float32")
    return x, rng.integers(0, 3, rows)


def softmax(logits):
    return keras.ops.convert_to_numpy(keras.ops.softmax(logits))


@pytest.mark.parametrize("policy", POLICIES)
def test_every_format(policy, tmp_path):
    """Student and teacher: against a copy with the same weights in float32."""
    import onnxruntime

    x, y = examples(120, 6)
    student, teacher = under(policy, dense), under(policy, dense)
    twin = dense()
    twin.set_weights(student.get_weights())
    expected = softmax(twin(x, training=False))
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.SGD(0.0))
    cascade.fit(*examples(32, 6, seed=9), verbose=0)
    twin.set_weights(student.get_weights())
    expected = softmax(twin(x, training=False))
    point = cascade.calibrate((x, y), HALF)
    before = cascade.predict(x, verbose=0)
    bundle = cascade.export(tmp_path / "b", onnx=True)
    runner = kc.runtime.StudentInterpreter(bundle.student_file)
    found = runner.run({"input": x})
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
    # Fitted on what ships: as many are delegated as was asked for.
    shipped = bundle.operating_point()
    rate = (found["score"] < shipped["threshold"]).mean()
    assert rate == shipped["delegation_rate"]
    assert rate == pytest.approx(point.delegation_rate, abs=0.05)
    session = onnxruntime.InferenceSession(bundle.onnx_files["student"])
    (probabilities,) = session.run(["probabilities"], {"input": x})
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    saved = kc.runtime.SavedModelTeacher(bundle.teacher_folder)
    whole = dense()
    whole.set_weights(teacher.get_weights())
    np.testing.assert_allclose(
        saved.logits({"input": x}), whole(x, training=False), atol=1e-5
    )
    cascade.export(tmp_path / "fused", "tf_saved_model")
    # The cascade answers as before: its models are what they were.
    after = cascade.predict(x, verbose=0)
    np.testing.assert_array_equal(
        after["probabilities"], before["probabilities"]
    )
    assert {layer.dtype_policy.name for layer in student.layers} == {policy}


@pytest.mark.parametrize("policy", POLICIES)
def test_int8_of_mixed_precision(policy, tmp_path):
    x, y = examples(200, 6)
    student = under(policy, dense)
    twin = dense()
    twin.set_weights(student.get_weights())
    cascade = kc.Cascade(dense(), student)
    cascade.calibrate((x, y), HALF)
    bundle = cascade.export(tmp_path / "b", quantization="int8")
    found = kc.runtime.StudentInterpreter(bundle.student_file).run({"input": x})
    distance = np.abs(found["probabilities"] - softmax(twin(x))).sum(axis=1) / 2
    assert distance.mean() < 0.03


@pytest.mark.parametrize("policy", POLICIES)
def test_nested_layers_with_policies_of_their_own(policy, tmp_path):
    x, y = examples(80, 5, 6)
    student = under(policy, nested)
    twin = under("float32", nested)
    twin.set_weights(student.get_weights())
    for layer in twin._flatten_layers():
        layer.dtype_policy = "float32"
    teacher = keras.Sequential(
        [keras.Input((5, 6)), layers.Flatten(), layers.Dense(3)]
    )
    policies = [one.dtype_policy.name for one in student._flatten_layers()]
    assert {policy, "float32", "mixed_bfloat16"} == set(policies)
    cascade = kc.Cascade(teacher, student)
    cascade.calibrate((x, y), HALF)
    bundle = cascade.export(tmp_path / "b")
    found = kc.runtime.StudentInterpreter(bundle.student_file).run({"input": x})
    np.testing.assert_allclose(
        found["probabilities"], softmax(twin(x)), atol=1e-5
    )
    assert policies == [
        one.dtype_policy.name for one in student._flatten_layers()
    ]


def test_the_global_policy_does_not_reach_the_inputs(tmp_path):
    """Numbers that float16 rounds, for a layer that is in float32 by itself."""

    def make():
        return keras.Sequential(
            [
                keras.Input((1,)),
                layers.Normalization(
                    mean=5000.0, variance=1.0, dtype="float32"
                ),
                layers.Dense(3),
            ]
        )

    x = np.random.default_rng(0).permutation(np.linspace(4999, 5001, 80))
    x = x.reshape(-1, 1).astype("float32")
    y = np.arange(80) % 3
    try:
        keras.config.set_dtype_policy("mixed_float16")
        student, teacher = make(), make()
        cascade = kc.Cascade(teacher, student)
        expected = softmax(keras.ops.cast(student(x), "float32"))
        cascade.gate.threshold = -1.0  # keeps all
        found = cascade.predict(x, verbose=0)["probabilities"]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        called = cascade(x)["student_logits"]
        np.testing.assert_allclose(softmax(called), expected, atol=1e-6)
        cascade.calibrate((x, y), HALF)
        bundle = cascade.export(tmp_path / "b")
    finally:
        keras.config.set_dtype_policy("float32")
    shipped = kc.runtime.StudentInterpreter(bundle.student_file)
    answer = shipped.run({"input": x})["probabilities"]
    np.testing.assert_allclose(answer, expected, atol=5e-3)


def test_a_cascade_of_mixed_models_as_a_teacher(tmp_path):
    x, y = examples(100, 6)
    inner = kc.Cascade(
        under("mixed_float16", dense), under("mixed_float16", dense)
    )
    inner.calibrate((x, y), HALF)
    cascade = kc.Cascade(inner, under("mixed_float16", dense))
    cascade.calibrate((x, y), HALF)
    before = inner.predict(x, verbose=0)["probabilities"]
    bundle = cascade.export(tmp_path / "b")
    with in_float32(cascade.teacher):
        expected = cascade.teacher(x)["logits"]
    saved = kc.runtime.SavedModelTeacher(bundle.teacher_folder)
    np.testing.assert_allclose(saved.logits({"input": x}), expected, atol=1e-5)
    np.testing.assert_array_equal(
        inner.predict(x, verbose=0)["probabilities"], before
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_types_are_cast(dtype):
    """All of a model in one type: the weights as float32, and so the sums."""
    x, _ = examples(20, 6)
    model = under(dtype, dense)
    twin = dense()
    twin.set_weights(
        [np.asarray(w).astype("float32") for w in model.get_weights()]
    )
    with in_float32(model):
        found = model(x, training=False)
        assert found.dtype == "float32"
        np.testing.assert_allclose(found, twin(x, training=False), atol=1e-6)
    assert model(x).dtype == dtype


def test_a_map_of_policies_is_what_it_was():
    policies = keras.dtype_policies.DTypePolicyMap("mixed_float16")
    policies["pair/first"] = keras.DTypePolicy("mixed_bfloat16")
    names = ("first", "second")
    model = keras.Sequential(
        [keras.Input((6,))]
        + [layers.Dense(3, name=name, dtype=policies) for name in names],
        name="pair",
    )
    x = np.ones((2, 6), "float32")

    def computed():
        return [layer.compute_dtype for layer in model.layers]

    before, entries = computed(), dict(policies.items())
    assert before == ["bfloat16", "float16"]
    with pytest.raises(KeyError), in_float32(model):
        assert computed() == ["float32", "float32"]
        assert model(x).dtype == "float32"
        raise KeyError("an export that fails")
    assert computed() == before
    assert dict(policies.items()) == entries

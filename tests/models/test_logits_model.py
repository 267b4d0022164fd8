"""Logits of classifiers that end in an activation, read before it."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_cascade as kc
from keras_cascade.models.heads import activation_name

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
HEADS = {
    "dense": lambda h: layers.Dense(3, activation="softmax")(h),
    "softmax layer": lambda h: layers.Softmax()(layers.Dense(3)(h)),
    "activation layer": lambda h: layers.Activation("softmax")(
        layers.Dense(3)(h)
    ),
    "operation": lambda h: keras.ops.softmax(layers.Dense(3)(h)),
    "model": lambda h: keras.Sequential(
        [layers.Dense(4), layers.Dense(3, activation="softmax")]
    )(h),
    "cast": lambda h: layers.Activation("linear", dtype="float32")(
        layers.Dense(3, activation="softmax", use_bias=False)(h)
    ),
    "average": lambda h: layers.Average()(
        [layers.Dense(3, activation="softmax")(h) for _ in range(2)]
    ),
}


def classifier(head, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", name="hidden")(inputs)
    return keras.Model(inputs, HEADS[head](hidden))


@pytest.mark.parametrize("head", [one for one in HEADS if one != "average"])
def test_every_head(head):
    model = classifier(head)
    config, weights = model.get_config(), model.get_weights()
    expected = model.predict(X, verbose=0)
    view = kc.models.logits_model(model)
    logits = view.predict(X, verbose=0)
    # Not probabilities, but what they are the softmax of.
    assert np.abs(logits.sum(axis=1) - 1).max() > 0.1
    np.testing.assert_allclose(keras.ops.softmax(logits), expected, atol=1e-6)
    assert kc.models.logits_model(view) is view
    own = {id(one) for one in model.trainable_variables}
    assert {id(one) for one in view.trainable_variables} == own
    assert model.get_config() == config
    assert model.get_layer("hidden").output is view.get_layer("hidden").output
    for old, new in zip(weights, view.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_logits_are_left_as_they_are():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    assert kc.models.logits_model(model) is model
    assert kc.Cascade(model, keras.models.clone_model(model)).teacher is model


@pytest.mark.parametrize("head", ["dense", "average"])
def test_training_and_saving(head, tmp_path):
    """An average of softmaxes is replaced when its outputs are first seen."""
    teacher, student = classifier(head, 1), classifier(head, 2)
    before = student.get_weights()
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.SGD(0.1))
    y = np.arange(32) % 3
    if head == "average":
        with pytest.warns(UserWarning, match=r"log\(p\) stands in for logits"):
            cascade.prepare(X)
    cascade.fit(X, y, verbose=0)
    assert (before[0] != student.get_weights()[0]).any()
    for role, model in (("teacher", teacher), ("student", student)):
        np.testing.assert_allclose(
            keras.ops.softmax(getattr(cascade, role)(X)), model(X), atol=1e-6
        )
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    for role in ("teacher", "student"):
        np.testing.assert_array_equal(
            getattr(loaded, role)(X), getattr(cascade, role)(X)
        )
    # The view's weights are those of the model in the file as well.
    loaded.fit(X, y, verbose=0)
    np.testing.assert_allclose(
        keras.ops.softmax(loaded.student(X)),
        loaded.student.model(X),
        atol=1e-6,
    )


def test_cached_logits_are_of_the_same_teacher():
    teacher, student = classifier("dense", 1), classifier("model", 2)
    cache = kc.cache_teacher_logits(X, teacher, dtype="float32")
    np.testing.assert_allclose(cache.probabilities(X), teacher(X), atol=1e-6)
    cascade = kc.Cascade(teacher, student)
    results = cascade.judge((X, np.arange(32) % 3), teacher_logits=cache)
    np.testing.assert_array_equal(
        results.teacher_correct,
        teacher.predict(X, verbose=0).argmax(1) == np.arange(32) % 3,
    )
    cache.check_weights(teacher)


def test_small_logits_are_no_probabilities():
    """Logits between 0 and 1 leave that range where inputs are multiplied."""

    class Small(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, kernel_initializer="zeros")
            self.line = layers.Dense(
                1, use_bias=False, kernel_initializer="ones"
            )

        def call(self, inputs):
            return self.line(inputs) + self.dense(inputs)

    x = np.linspace(0.1, 0.9, 64, dtype="float32")[:, None]
    cascade = kc.Cascade(Small(), Small())
    cascade.prepare(x)
    logits = keras.ops.convert_to_numpy(cascade.student(x))
    np.testing.assert_allclose(logits, np.hstack([0 * x, x]), atol=1e-6)


def test_activations_by_their_functions():
    import tensorflow as tf

    softmax = (keras.activations.softmax, keras.ops.softmax, tf.nn.softmax)
    assert {activation_name(one) for one in softmax} == {"softmax"}
    sigmoid = (keras.activations.sigmoid, keras.ops.sigmoid, tf.nn.sigmoid)
    assert {activation_name(one) for one in sigmoid} == {"sigmoid"}
    for other in (None, keras.activations.relu, lambda x: x):
        assert activation_name(other) is None


def test_class_names_in_another_order():
    teacher, student = classifier("dense", 1), classifier("dense", 2)
    teacher.class_names = ["cat", "dog", "owl"]
    student.class_names = ["dog", "cat", "owl"]
    with pytest.raises(ValueError, match="differ in their order"):
        kc.Cascade(teacher, student)
    student.class_names = ["cat", "dog", "cow"]
    with pytest.raises(ValueError, match="differ in their names"):
        kc.Cascade(teacher, student)
    del student.class_names
    cascade = kc.Cascade(teacher, student)
    labels = np.array(["owl", "cat"] * 16)
    np.testing.assert_array_equal(
        cascade.judge((X, labels)).labels, [2, 0] * 16
    )
    with pytest.raises(ValueError, match="differ in their order"):
        cascade.judge((X, labels), class_names=["owl", "dog", "cat"])
    with pytest.raises(ValueError, match="Expected 3 `class_names`"):
        cascade.judge((X, labels), class_names=["owl", "dog"])

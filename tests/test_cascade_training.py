"""Training: the right loss, the right weights, nothing else touched."""

import keras
import numpy as np
import pytest
import scipy.special

import keras_cascade as kc


def weights_of(model):
    return [w.copy() for w in model.get_weights()]


def same(before, after):
    return all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_one_sgd_step_against_numpy(blobs):
    # Linear student z = xW + b; dH/dz = softmax(z) − target, averaged.
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer=keras.optimizers.SGD(0.5))
    x, y = blobs(32)
    weight = np.linspace(0, 2, 32).astype("float32")
    kernel, bias = weights_of(student)
    target = scipy.special.softmax(teacher.predict(x, verbose=0), axis=1)
    gradient = scipy.special.softmax(x @ kernel + bias, axis=1) - target
    gradient *= weight[:, None] / 32
    logs = cascade.train_on_batch(x, y, weight, return_dict=True)
    new_kernel, new_bias = student.get_weights()
    np.testing.assert_allclose(
        new_kernel, kernel - 0.5 * x.T @ gradient, atol=1e-5
    )
    np.testing.assert_allclose(
        new_bias, bias - 0.5 * gradient.sum(axis=0), atol=1e-5
    )
    losses = -(
        target * scipy.special.log_softmax(x @ kernel + bias, axis=1)
    ).sum(axis=1)
    # Divided by the number of examples, as Keras does.
    assert logs["loss"] == pytest.approx(np.mean(weight * losses), rel=1e-5)


@pytest.mark.parametrize("batch_size", [7, 32])
@pytest.mark.parametrize("kind", ["sample_weight", "class_weight"])
def test_weighted_epochs_against_numpy(blobs, batch_size, kind):
    """Two epochs of SGD in NumPy, batch by batch, weights of any sum.

    Each batch's gradient is its mean of `weight · gradient`: the last batch
    is smaller, one batch weighs nothing, and none is scaled by its weight.
    """
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer=keras.optimizers.SGD(0.5))
    x, y = blobs(48)
    full = np.random.default_rng(3).exponential(size=48).astype("float32")
    full[:batch_size] = 0.0
    options = {"sample_weight": full}
    if kind == "class_weight":
        options = {"class_weight": {0: 3.0, 1: 0.2, 2: 1.0, 3: 0.5}}
        full = np.array([options["class_weight"][label] for label in y])
    kernel, bias = (w.astype("float64") for w in student.get_weights())
    target = scipy.special.softmax(teacher.predict(x, verbose=0), axis=1)
    expected = []
    for _ in range(2):
        losses = []
        for start in range(0, 48, batch_size):
            rows = slice(start, start + batch_size)
            logits = x[rows] @ kernel + bias
            losses.extend(
                -full[rows]
                * (
                    target[rows] * scipy.special.log_softmax(logits, axis=1)
                ).sum(axis=1)
            )
            gradient = scipy.special.softmax(logits, axis=1) - target[rows]
            gradient *= full[rows, None] / len(logits)
            kernel = kernel - 0.5 * x[rows].T @ gradient
            bias = bias - 0.5 * gradient.sum(axis=0)
        expected.append(np.mean(losses))
    history = cascade.fit(
        x,
        y,
        batch_size=batch_size,
        epochs=2,
        shuffle=False,
        verbose=0,
        **options,
    )
    np.testing.assert_allclose(history.history["loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(student.get_weights()[0], kernel, atol=1e-5)
    np.testing.assert_allclose(student.get_weights()[1], bias, atol=1e-5)


def test_weights_of_a_policy_divide_by_the_number_of_examples(blobs):
    """An example that no model gets right costs nothing, and still counts."""
    x, y = blobs(40)
    models = [
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
        for _ in range(2)
    ]
    cascade = kc.Cascade(*models, distillation="cascade_aware")
    cascade.compile()
    teacher, student = (model.predict(x, verbose=0) for model in models)
    right = (teacher.argmax(axis=1) == y) | (student.argmax(axis=1) == y)
    assert 0 < right.sum() < 40
    losses = -(
        scipy.special.softmax(teacher, axis=1)
        * scipy.special.log_softmax(student, axis=1)
    ).sum(axis=1)
    found = cascade.evaluate(x, y, batch_size=11, verbose=0, return_dict=True)[
        "loss"
    ]
    assert found == pytest.approx(np.mean(right * losses), rel=1e-4)


@pytest.mark.parametrize("batch_size", [32, 256])
def test_rare_positives_weighted_to_half(batch_size):
    """1 % positives weighted to 50/50: p = 0.5 is where training stays.

    The slope Σ w·(p − y) of an epoch is 0 there, whatever the batch size.
    Divided by each batch's summed weight, p = 0.216 would be at 32 and 0.442
    at 256: a batch without positives would count as much as one with them.
    """
    y = (np.arange(12_800) % 100 == 0).astype("int64")
    np.random.default_rng(0).shuffle(y)
    x = np.ones((len(y), 1), "float32")
    models = [
        keras.Sequential(
            [
                keras.Input((1,)),
                keras.layers.Dense(
                    2, use_bias=False, kernel_initializer="zeros"
                ),
            ]
        )
        for _ in range(2)
    ]
    policy = kc.distillation.StandardDistillation(oracle=True)
    cascade = kc.Cascade(*models, distillation=policy)
    rate = 1e-4
    cascade.compile(optimizer=keras.optimizers.SGD(rate))
    weight = np.where(y == 1, 50.0, 50.0 / 99.0).astype("float32")
    cascade.fit(
        x, y, batch_size=batch_size, sample_weight=weight, shuffle=False,
        verbose=0,
    )  # fmt: skip
    moved = np.abs(models[1].get_weights()[0]).max()
    # In units of the steps: 0.5 each if every batch pushed the same way; the
    # softmax's own answer to a walk of such steps is a hundredth of that.
    assert moved / (rate * len(y) / batch_size) < 0.02


def test_teacher_is_the_same_bit_for_bit(cascade, blobs):
    before = weights_of(cascade.teacher)
    flags = [v.trainable for v in cascade.teacher.variables]
    cascade.fit(
        *blobs(128), validation_data=blobs(64, seed=5), epochs=2, verbose=0
    )
    cascade.evaluate(*blobs(64, seed=5), verbose=0)
    assert same(before, weights_of(cascade.teacher))
    assert [v.trainable for v in cascade.teacher.variables] == flags


def test_only_the_student_is_trainable(cascade):
    trained = {id(v) for v in cascade.trainable_variables}
    assert trained == {id(v) for v in cascade.student.trainable_variables}
    assert {id(v) for v in cascade.trainable_weights} == trained
    frozen = {id(v) for v in cascade.non_trainable_variables}
    assert {id(v) for v in cascade.teacher.variables} <= frozen
    assert not frozen & trained
    assert len(frozen | trained) == len(cascade.variables)


def test_zero_sample_weights_change_no_weight(cascade, blobs):
    x, y = blobs(96)
    before = weights_of(cascade)[:-6]
    student = weights_of(cascade.student)
    cascade.fit(x, y, sample_weight=np.zeros(96), epochs=2, verbose=0)
    assert same(student, weights_of(cascade.student))
    assert same(before, weights_of(cascade)[:-6])


def test_sample_weights_are_repetitions(dense_model, blobs):
    x, y = blobs(30)
    weight = np.random.default_rng(0).integers(0, 4, 30)
    teacher, student = dense_model(16), dense_model(3)
    first = weights_of(student)

    def after_one_step(*arrays):
        student.set_weights(first)
        cascade = kc.Cascade(teacher, student)
        cascade.compile(optimizer=keras.optimizers.SGD(1.0))
        cascade.train_on_batch(*arrays)
        return weights_of(student)

    # The loss is divided by the number of examples: the same as repetitions
    # where weights have the mean 1.
    weighted = after_one_step(x, y, (weight / weight.mean()).astype("float32"))
    repeated = after_one_step(np.repeat(x, weight, 0), np.repeat(y, weight))
    for a, b in zip(weighted, repeated, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_sample_weights_may_be_a_column(cascade, blobs):
    x, y = blobs(64)
    weight = np.linspace(0, 2, 64).astype("float32")
    flat = cascade.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    column = cascade.evaluate(
        x, y, sample_weight=weight[:, None], verbose=0, return_dict=True
    )
    assert flat == column


def test_costs_and_gates_can_be_changed_at_any_time(cascade, blobs):
    x, y = blobs(64)
    cascade.evaluate(x, y, verbose=0)
    cascade.costs = kc.evaluation.Costs(5.0, 100.0, "ms", "given")
    cascade.gate = kc.gates.MaxProbabilityGate(threshold=2.0)
    found = cascade.evaluate(x, y, verbose=0, return_dict=True)
    assert found["amortized_cost"] == pytest.approx(105.0)
    assert cascade.predict(x, verbose=0)["delegated"].all()


def test_batches_by_hand_are_checked_and_remembered(cascade, blobs):
    x, y = blobs(64)
    with pytest.raises(ValueError, match="Received labels from"):
        cascade.train_on_batch(x, y + 9)
    with pytest.raises(ValueError, match="Received labels from"):
        cascade.test_on_batch(x, y + 9)
    found = cascade.test_on_batch(x, y, return_dict=True)
    assert found["amortized_cost"] > 0
    cascade.train_on_batch(x, y)
    with pytest.raises(ValueError, match="with the training set"):
        cascade.calibrate((x, y), kc.MinAccuracy(0.1))


def test_class_weight_is_a_sample_weight(dense_model, blobs):
    x, y = blobs(64)
    teacher, student = dense_model(16), dense_model(3)
    first = weights_of(student)
    class_weight = {0: 1.0, 1: 0.0, 2: 3.0, 3: 0.5}

    def after_fit(**kwargs):
        student.set_weights(first)
        cascade = kc.Cascade(teacher, student)
        cascade.compile(optimizer=keras.optimizers.SGD(0.1))
        cascade.fit(x, y, shuffle=False, verbose=0, **kwargs)
        return weights_of(student)

    by_class = after_fit(class_weight=class_weight)
    by_sample = after_fit(
        sample_weight=np.array([class_weight[int(c)] for c in y])
    )
    assert not same(first, by_class)
    for a, b in zip(by_class, by_sample, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_students_penalties_count_and_the_teachers_do_not(blobs):
    def model(strength):
        penalty = keras.regularizers.L2(strength)
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(4, kernel_regularizer=penalty),
            ]
        )

    student, (x, y) = model(0.5), blobs(32)
    cascade = kc.Cascade(model(1000.0), student)
    cascade.compile()
    plain = kc.Cascade(cascade.teacher, keras.models.clone_model(student))
    plain.student.set_weights(student.get_weights())
    plain.student.layers[0].kernel.regularizer = None
    plain.compile()
    found = cascade.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    without = plain.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    expected = 0.5 * (student.get_weights()[0] ** 2).sum()
    assert found - without == pytest.approx(expected, rel=1e-4)


def test_metrics_during_fit(cascade, blobs):
    history = cascade.fit(
        *blobs(128), validation_data=blobs(64, seed=5), verbose=0
    ).history
    for name in (
        "loss",
        "selected_fraction",
        "student_accuracy",
        "cascade_accuracy",
        "delegation_rate",
        "amortized_cost",
    ):
        assert name in history
        assert f"val_{name}" in history


def test_early_stopping_and_checkpoints_can_watch_the_cascade(
    cascade, blobs, tmp_path
):
    stop = keras.callbacks.EarlyStopping("val_cascade_accuracy", mode="max")
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras",
        "val_amortized_cost",
        mode="min",
        save_best_only=True,
    )
    cascade.fit(
        *blobs(128),
        validation_data=blobs(64, seed=5),
        epochs=2,
        callbacks=[stop, best],
        verbose=0,
    )
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert isinstance(loaded, kc.Cascade)


def test_evaluate_against_numpy(cascade, blobs):
    x, y = blobs(200, seed=7)
    weight = np.random.default_rng(1).random(200).astype("float32")
    cascade.threshold = 0.3
    found = cascade.evaluate(
        x, y, sample_weight=weight, verbose=0, return_dict=True
    )
    student = cascade.student.predict(x, verbose=0)
    teacher = cascade.teacher.predict(x, verbose=0)
    ordered = np.sort(scipy.special.softmax(student, axis=1), axis=1)
    delegated = ordered[:, -1] - ordered[:, -2] < 0.3
    right = {
        "student_accuracy": student.argmax(axis=1) == y,
        "teacher_accuracy": teacher.argmax(axis=1) == y,
        "delegation_rate": delegated,
    }
    right["cascade_accuracy"] = np.where(
        delegated, right["teacher_accuracy"], right["student_accuracy"]
    )
    for name, values in right.items():
        expected = np.average(values, weights=weight)
        assert found[name] == pytest.approx(expected, rel=1e-5), name
    losses = -(
        scipy.special.softmax(teacher, axis=1)
        * scipy.special.log_softmax(student, axis=1)
    ).sum(axis=1)
    assert found["loss"] == pytest.approx(np.mean(weight * losses), rel=1e-4)
    assert found["amortized_cost"] == pytest.approx(
        cascade.costs.student + found["delegation_rate"], rel=1e-5
    )


def test_compiled_metrics_see_the_student(dense_model, blobs):
    cascade = kc.Cascade(dense_model(16), dense_model(3))
    cascade.compile(metrics=["accuracy"])
    found = cascade.evaluate(*blobs(64), verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(found["student_accuracy"])


def test_training_works_in_the_end(cascade, blobs):
    cascade.fit(*blobs(1024, seed=2), epochs=10, verbose=0)
    found = cascade.evaluate(*blobs(512, seed=8), verbose=0, return_dict=True)
    assert found["student_accuracy"] > 0.7


def test_a_dictionary_input(blobs):
    def model(units):
        parts = {k: keras.Input((3,), name=k) for k in ("left", "right")}
        x = keras.layers.Concatenate()([parts["left"], parts["right"]])
        x = keras.layers.Dense(units, activation="relu")(x)
        return keras.Model(parts, keras.layers.Dense(4)(x))

    x, y = blobs(96)
    named = {"left": x[:, :3], "right": x[:, 3:]}
    cascade = kc.Cascade(
        model(16),
        model(3),
        distillation=kc.distillation.ClassSpecificDistillation([0, 1]),
        gate="class",
    )
    cascade.compile()
    cascade.fit(named, y, verbose=0)
    answer = cascade.predict(named, verbose=0)
    whole = {
        k: keras.ops.convert_to_numpy(v) for k, v in cascade(named).items()
    }
    np.testing.assert_array_equal(answer["delegated"], whole["delegated"])
    np.testing.assert_allclose(
        answer["probabilities"], whole["probabilities"], atol=1e-6
    )


def test_a_sequential_student_with_a_functional_teacher(dense_model, blobs):
    student = keras.Sequential(
        [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(4)]
    )
    cascade = kc.Cascade(dense_model(16), student, distillation="margin")
    cascade.compile(metrics=["accuracy"])
    history = cascade.fit(*blobs(96), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert cascade.predict(blobs(10)[0], verbose=0)["score"].shape == (10,)


def test_a_subclassed_student(dense_model, blobs):
    class Student(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(4)

        def call(self, inputs):
            return self.dense(inputs)

    cascade = kc.Cascade(dense_model(16), Student())
    cascade.compile()
    cascade.fit(*blobs(64), verbose=0)
    assert cascade.classes == 4


def test_labels_may_be_a_column(cascade, blobs):
    x, y = blobs(64)
    flat = cascade.evaluate(x, y, verbose=0, return_dict=True)
    column = cascade.evaluate(x, y[:, None], verbose=0, return_dict=True)
    assert flat == column


def test_every_kind_of_data(cascade, blobs):
    import tensorflow as tf

    x, y = blobs(64)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return x[i * 16 : i * 16 + 16], y[i * 16 : i * 16 + 16]

    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    quiet = {"verbose": 0, "return_dict": True, "allow_training_data": True}
    expected = cascade.evaluate(x, y, **quiet)
    for data in (dataset, Batches()):
        found = cascade.evaluate(data, **quiet)
        assert found == pytest.approx(expected, rel=1e-5)
        cascade.fit(data, verbose=0)
        expected = cascade.evaluate(x, y, **quiet)
        cascade.predict(data, verbose=0)

    class Endless(Batches):
        @property
        def num_batches(self):
            return None

        def __getitem__(self, i):
            return super().__getitem__(i % 4)

    cascade.fit(Endless(), steps_per_epoch=3, verbose=0, shuffle=False)
    batches = ((x[:32], y[:32]) for _ in range(2))
    cascade.fit(batches, steps_per_epoch=2, verbose=0)


def test_a_selection_that_tells_nothing_apart_warns(dense_model, blobs):
    cascade = kc.Cascade(
        dense_model(16),
        dense_model(3),
        distillation=kc.distillation.MarginDistillation(threshold=1.0),
    )
    cascade.compile()
    with pytest.warns(UserWarning, match=r"selected 0\.0% of the training"):
        cascade.fit(*blobs(64), verbose=0)


def test_the_gate_takes_over_from_the_policy(dense_model):
    policy = kc.distillation.MarginDistillation(threshold=0.35)
    cascade = kc.Cascade(dense_model(4), dense_model(3), policy)
    assert cascade.threshold == np.float32(0.35)


def test_mixed_precision(blobs):
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        models = [
            keras.Sequential(
                [
                    keras.Input((6,)),
                    keras.layers.Dense(u, activation="relu"),
                    keras.layers.Dense(4),
                ]
            )
            for u in (16, 3)
        ]
        cascade = kc.Cascade(*models)
        cascade.compile()
        history = cascade.fit(*blobs(64), verbose=0)
        answer = cascade.predict(blobs(8)[0], verbose=0)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert np.isfinite(history.history["loss"]).all()
    assert answer["score"].dtype == np.float32

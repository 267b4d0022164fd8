"""Predicting, calibrating, saving; and what bad input gets."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.model_checks import check_same_form
from keras_cascade.prediction import TwoStagePass, inference


def test_predict_asks_the_teacher_only_for_delegated_rows_in_full_batches(
    dense_model, blobs
):
    student, gate = dense_model(3), kc.gates.MarginGate(threshold=0.1)
    x, _ = blobs(300)
    asked = []

    def ask(rows):
        asked.append(rows)
        return np.eye(4, dtype="float32")[np.zeros(len(rows), int)]

    two_stages = TwoStagePass(dense_model(8), student, gate)
    two_stages.ask_teacher = ask
    batches = ((x[i : i + 32], None, None) for i in range(0, 300, 32))
    answer = two_stages.predict(
        batches, lambda step: None, lambda step, logs: None
    )
    delegated = answer["delegated"]
    assert 32 < delegated.sum() < 300
    np.testing.assert_array_equal(np.concatenate(asked), x[delegated])
    assert {len(rows) for rows in asked[:-1]} == {32}
    assert (answer["probabilities"][delegated][:, 0] == 1).all()
    own = keras.ops.softmax(student.predict(x, verbose=0))
    np.testing.assert_allclose(
        answer["probabilities"][~delegated],
        keras.ops.convert_to_numpy(own)[~delegated],
        atol=1e-6,
    )


@pytest.mark.parametrize("threshold", [-1.0, 0.2, 2.0])
def test_predict_agrees_with_a_call(cascade, blobs, threshold):
    x, _ = blobs(100)
    cascade.threshold = threshold
    whole = cascade(x)
    for answer in (
        cascade.predict(x, verbose=0, batch_size=7),
        cascade.predict(
            tf.data.Dataset.from_tensor_slices(x).batch(16), verbose=0
        ),
    ):
        assert set(answer) == {"probabilities", "score", "delegated"}
        for name, values in answer.items():
            np.testing.assert_allclose(values, whole[name], atol=1e-6)


def test_many_cascades_are_not_told_that_they_retrace(dense_model, caplog):
    # TensorFlow counts retracing by a function's code: a warning about many
    # models, each traced once, is one that nobody can act on.
    log = tf.get_logger()
    log.addHandler(caplog.handler)
    try:
        for _ in range(12):
            inference(dense_model(4))(np.zeros((3, 6), dtype="float32"))
    finally:
        log.removeHandler(caplog.handler)
    assert "retracing" not in caplog.text


def test_predict_calls_callbacks(cascade, blobs):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_predict_batch_end=lambda step, logs: seen.append(step)
    )
    callback.on_predict_batch_end = lambda step, logs=None: seen.append(step)
    cascade.predict(blobs(70)[0], verbose=0, callbacks=[callback])
    assert seen == [0, 1, 2]


def test_calibrate_meets_its_objective_on_the_calibration_split(cascade, blobs):
    cascade.fit(*blobs(512, seed=2), epochs=3, verbose=0)
    held_out = blobs(400, seed=11)
    point = cascade.calibrate(held_out, kc.MaxDelegationRate(0.25))
    with pytest.raises(ValueError, match="with the calibration set"):
        cascade.evaluate(*held_out, verbose=0)
    found = cascade.evaluate(
        *held_out, verbose=0, return_dict=True, allow_training_data=True
    )
    assert point.delegation_rate == pytest.approx(0.25)
    assert found["delegation_rate"] == pytest.approx(point.delegation_rate)
    assert found["cascade_accuracy"] == pytest.approx(point.accuracy)
    assert found["amortized_cost"] == pytest.approx(point.amortized_cost)
    assert cascade.threshold == point.threshold
    assert cascade.operating_point == point


def test_calibrating_on_the_training_data_is_refused(cascade, blobs):
    x, y = blobs(256, seed=2)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(256)
    cascade.fit(dataset.batch(32), verbose=0, epochs=2)
    assert cascade.data_record.training.examples == 256
    threshold = cascade.threshold
    order = np.random.default_rng(0).permutation(256)
    for data in ((x, y), (x[order], y[order]), (x[:50], y[:50])):
        with pytest.raises(ValueError, match="with the training set"):
            cascade.calibrate(data, kc.MinAccuracy(0.1))
    assert cascade.threshold == threshold
    cascade.calibrate((x, y), kc.MinAccuracy(0.1), allow_training_data=True)


def test_validation_split_is_not_training_data(cascade, blobs):
    x, y = blobs(200, seed=2)
    cascade.fit(x, y, validation_split=0.25, verbose=0)
    assert cascade.data_record.training.examples == 150
    cascade.calibrate((x[150:], y[150:]), kc.MaxDelegationRate(0.5))


def test_an_objective_that_cannot_be_met_changes_nothing(cascade, blobs):
    threshold = cascade.threshold
    with pytest.raises(ValueError, match="Attainable on these 100"):
        cascade.calibrate(blobs(100), kc.MinAccuracy(1.0))
    assert cascade.threshold == threshold
    assert cascade.operating_point is None


def test_save_load_and_go_on_fitting(cascade, blobs, tmp_path):
    x, y = blobs(256, seed=2)
    cascade.fit(x, y, verbose=0)
    point = cascade.calibrate(blobs(200, seed=4), kc.MaxDelegationRate(0.3))
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.operating_point == point
    assert loaded.threshold == cascade.threshold
    assert loaded.costs == cascade.costs
    fresh = blobs(50, seed=6)[0]
    for name, values in cascade.predict(fresh, verbose=0).items():
        np.testing.assert_array_equal(
            loaded.predict(fresh, verbose=0)[name], values
        )
    with pytest.raises(ValueError, match="with the training set"):
        loaded.calibrate((x, y), kc.MaxDelegationRate(0.3))
    # The optimizer's state came along: both go on to the same weights.
    for model in (cascade, loaded):
        model.fit(x, y, verbose=0, shuffle=False)
    for a, b in zip(
        cascade.student.get_weights(), loaded.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_policy_and_gate_are_saved(dense_model, blobs, tmp_path):
    policy = kc.distillation.ClassSpecificDistillation([1, 2], 2.0, 0.3)
    cascade = kc.Cascade(dense_model(8), dense_model(3), policy, gate="class")
    cascade.compile()
    cascade.fit(*blobs(64), verbose=0)
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.distillation.get_config() == policy.get_config()
    assert loaded.gate.in_domain_classes == [1, 2]


def test_a_cascade_teaches_another(cascade, dense_model, blobs):
    outer = kc.Cascade(cascade, dense_model(2))
    outer.compile()
    before = cascade.get_weights()
    outer.fit(*blobs(64), verbose=0)
    for a, b in zip(before, cascade.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x, _ = blobs(60, seed=3)
    outer.threshold = 2.0  # everything goes to the inner cascade
    np.testing.assert_allclose(
        outer.predict(x, verbose=0)["probabilities"],
        cascade.predict(x, verbose=0)["probabilities"],
        atol=1e-6,
    )


# Bad input.


def test_class_counts_must_agree(dense_model):
    with pytest.raises(ValueError, match="teacher 5, student 4"):
        kc.Cascade(dense_model(8, classes=5), dense_model(3))


def test_class_counts_must_agree_once_they_are_known(dense_model, blobs):
    student = keras.Sequential([keras.layers.Dense(3)])
    cascade = kc.Cascade(dense_model(8), student)
    cascade.compile()
    with pytest.raises(ValueError, match="teacher 4, student 3"):
        cascade.fit(*blobs(32), verbose=0)


@pytest.mark.parametrize("as_dataset", [False, True])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x, y + 2), "labels from 0 to 3.*Received labels from"),
        (lambda x, y: (x, y - 1), "labels from 0 to 3"),
        (lambda x, y: (x, np.eye(5)[y]), r"one-hot ones of shape \(batch, 4"),
        (lambda x, y: (x, 0.9 * np.eye(4)[y] + 0.025), "that are shares"),
        (lambda x, y: (x, y.astype(str)), "Pass it once, as `class_names="),
        (lambda x, y: (x, y + 0.5), "integer class labels"),
        (lambda x, y: (np.where(x > 1, np.nan, x), y), "NaN or infinity in x"),
    ],
)
def test_bad_examples(cascade, blobs, spoil, message, as_dataset):
    x, y = spoil(*blobs(64))
    x = x.astype("float32")
    data = (x, y)
    if as_dataset:
        data = (tf.data.Dataset.from_tensor_slices((x, y)).batch(16),)
    cascade.prepare(blobs(8)[0])
    before = cascade.student.get_weights()
    for method in (cascade.fit, cascade.evaluate):
        kwargs = {"shuffle": False} if method == cascade.fit else {}
        with pytest.raises(ValueError, match=message):
            method(*data, verbose=0, **kwargs)
    with pytest.raises(ValueError, match=message):
        cascade.calibrate(
            data if len(data) == 2 else data[0], kc.MinAccuracy(0.1)
        )
    if not as_dataset:
        for a, b in zip(before, cascade.student.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_bad_validation_data_is_found_before_training(cascade, blobs):
    x, y = blobs(32)
    with pytest.raises(ValueError, match="Received labels from"):
        cascade.fit(x, y, validation_data=(x, y + 9), verbose=0)


def test_nan_in_predict(cascade):
    x = np.full((3, 6), np.nan, "float32")
    with pytest.raises(ValueError, match="NaN or infinity"):
        cascade.predict(x, verbose=0)


@pytest.mark.parametrize("prepared", [False, True])
def test_an_empty_data_set(cascade, blobs, prepared):
    if prepared:
        cascade.prepare(blobs(8)[0])
    x, y = np.zeros((0, 6), "float32"), np.zeros(0, "int32")
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    for call in (
        lambda: cascade.fit(x, y, verbose=0),
        lambda: cascade.fit(dataset, verbose=0, shuffle=False),
        lambda: cascade.evaluate(x, y, verbose=0),
        lambda: cascade.evaluate(dataset, verbose=0),
        lambda: cascade.predict(x, verbose=0),
        lambda: cascade.predict(dataset, verbose=0),
        lambda: cascade.calibrate((x, y), kc.MinAccuracy(0.1)),
        lambda: cascade.calibrate(dataset, kc.MinAccuracy(0.1)),
    ):
        with pytest.raises(ValueError, match=r"at least one example"):
            call()


def test_a_loss_has_no_place_in_compile(cascade):
    with pytest.raises(ValueError, match="loss is its distillation policy"):
        cascade.compile(loss="sparse_categorical_crossentropy")


def test_what_is_no_model(dense_model):
    with pytest.raises(ValueError, match=r"teacher to be a `keras\.Model`"):
        kc.Cascade(3, dense_model(3))
    with pytest.raises(ValueError, match=r"student to be a `keras\.Model`"):
        kc.Cascade(dense_model(3), lambda x: x)


def test_one_tensor(dense_model):
    inputs = keras.Input((6,))
    two = keras.Model(inputs, [keras.layers.Dense(4)(inputs)] * 2)
    with pytest.raises(ValueError, match="to output one tensor, of shape"):
        kc.Cascade(two, dense_model(3))


@pytest.mark.parametrize(
    "declared, first, later, fits",
    [
        # A free length of one is a length, not an axis that Keras added.
        ((None,), (20,), (1,), True),
        ((None,), (1,), (20,), True),
        ((None,), (20,), (), False),
        ((None, 4), (20, 4), (1, 4), True),
        ((None, 4), (20, 4), (20, 1), False),
        ((None, None, 1), (8, 8, 1), (1, 1, 1), True),
        ((8, 8, 1), (8, 8), (8, 8, 1), True),
        ((8, 8, 1), (8, 8, 1), (8, 8), True),
        ((8, 8, 1), (8, 8), (8, 1), False),
        ((20,), (20,), (20, 1), True),
        ((20,), (20,), (1,), False),
        ((1,), (1,), (), True),
    ],
)
def test_sizes_that_a_model_leaves_free(declared, first, later, fits):
    inputs = keras.Input(declared)
    model = keras.Model(inputs, inputs * 2.0)
    example, x = (np.zeros((3, *shape), "float32") for shape in (first, later))
    if fits:
        check_same_form(model, x, example)
    else:
        with pytest.raises(ValueError, match="Expected inputs of shape"):
            check_same_form(model, x, example)

"""What a Keras user does around `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc


def compiled(dense_model, **kwargs):
    """The same cascade every time it is called."""
    keras.utils.set_random_seed(7)
    cascade = kc.Cascade(dense_model(16), dense_model(3))
    cascade.compile(optimizer=keras.optimizers.Adam(1e-2), **kwargs)
    return cascade


def assert_same_weights(one, other, atol=1e-6):
    for a, b in zip(
        one.student.get_weights(), other.student.get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.parametrize(
    "callback",
    [keras.callbacks.BackupAndRestore, kc.callbacks.CrashSafeBackup],
)
def test_backup_and_restore_ends_at_the_same_weights(
    dense_model, blobs, tmp_path, callback
):
    x, y = blobs(96)
    whole = compiled(dense_model)
    whole.fit(x, y, epochs=4, shuffle=False, verbose=0)

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise RuntimeError("crash")

    def backup():
        return callback(tmp_path / "backup")

    first = compiled(dense_model)
    with pytest.raises(RuntimeError, match="crash"):
        first.fit(
            x, y, epochs=4, shuffle=False, verbose=0,
            callbacks=[backup(), Crash()],
        )  # fmt: skip
    if callback is kc.callbacks.CrashSafeBackup:  # killed in mid-write
        half = tmp_path / "backup" / ".part"
        half.mkdir()
        (half / "latest.weights.h5").write_bytes(b"half")
        kept = [p.name for p in (tmp_path / "backup").glob("state-*")]
        assert kept == ["state-00000002"]
    resumed = compiled(dense_model)
    history = resumed.fit(
        x, y, epochs=4, shuffle=False, verbose=0, callbacks=[backup()]
    )
    assert history.epoch == [2, 3]
    assert_same_weights(whole, resumed)
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize(
    "kwargs", [{"steps_per_execution": 3}, {"jit_compile": True}]
)
def test_ways_to_run_a_step_give_the_same_weights(dense_model, blobs, kwargs):
    x, y = blobs(96)
    found = []
    for options in ({}, kwargs):
        cascade = compiled(dense_model, **options)
        cascade.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0)
        cascade.evaluate(x, y, verbose=0, allow_training_data=True)
        found.append(cascade)
    assert_same_weights(*found, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(dense_model, blobs, policy):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        cascade = compiled(dense_model)
        history = cascade.fit(*blobs(64), verbose=0).history
        answer = cascade.predict(blobs(8)[0], verbose=0)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert answer["score"].dtype == np.float32


def test_an_error_in_the_data_loses_no_weight(dense_model, blobs):
    import tensorflow as tf

    x, y = blobs(64)
    cascade = compiled(dense_model)
    cascade.prepare(x)
    before = cascade.get_weights()
    spoilt = tf.data.Dataset.from_tensor_slices((x, y + 9)).batch(16)
    for method in (cascade.fit, cascade.evaluate):
        with pytest.raises(ValueError, match="Received labels from"):
            method(
                spoilt,
                verbose=0,
                **({"shuffle": False} if method == cascade.fit else {}),
            )
    for a, b in zip(before, cascade.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    cascade.fit(x, y, verbose=0)


def test_a_second_stage(dense_model, blobs):
    x, y = blobs(96)
    cascade = compiled(dense_model)
    cascade.fit(x, y, verbose=0)
    cascade.distillation = kc.distillation.Gatekeeper(0.3)
    student = cascade.student.predict(x, verbose=0)
    policy = kc.distillation.Gatekeeper(0.3)
    expected = np.asarray(policy.example_loss(y, student, student)).mean()
    found = cascade.evaluate(
        x, y, verbose=0, return_dict=True, allow_training_data=True
    )
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    cascade.fit(x, y, verbose=0)


def test_an_abstain_student_from_training_to_the_file(
    dense_model, blobs, tmp_path
):
    policy = kc.distillation.AbstainDistillation([0, 2])
    student = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="tanh"),
            policy.student_head(),
        ]
    )
    cascade = kc.Cascade(dense_model(16), student, policy, gate="abstain")
    cascade.compile(optimizer=keras.optimizers.Adam(1e-2))
    x, y = blobs(256)
    cascade.fit(x, y, epochs=3, verbose=0)
    held_out = blobs(100, seed=9)
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.5))
    answer = cascade.predict(held_out[0], verbose=0)
    kept = ~answer["delegated"]
    assert set(answer["probabilities"][kept].argmax(axis=1)) <= {0, 2}
    if keras.backend.backend() != "tensorflow":
        return  # export needs TensorFlow, and says so: test_backends.py
    bundle = cascade.export(tmp_path / "bundle")
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    np.testing.assert_allclose(
        edge.predict(held_out[0]).probabilities,
        answer["probabilities"],
        atol=1e-5,
    )
    with pytest.raises(ValueError, match=r"student_head\(\)"):
        kc.Cascade(dense_model(16), dense_model(3), policy, gate="abstain")


def test_three_stages(cascade, dense_model, blobs, tmp_path):
    outer = kc.Cascade(cascade, dense_model(2))
    outer.compile()
    outer.fit(*blobs(128, seed=2), verbose=0)
    outer.calibrate(blobs(100, seed=3), kc.MaxDelegationRate(0.5))
    outer.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    x, _ = blobs(40, seed=4)
    for name, values in outer.predict(x, verbose=0).items():
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0)[name], values, atol=1e-6
        )


def test_the_deferral_curve_callback(cascade, blobs, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    held_out = blobs(100, seed=3)
    history = cascade.fit(
        *blobs(128, seed=2),
        epochs=2,
        verbose=0,
        callbacks=[kc.callbacks.DeferralCurveCallback(held_out, tmp_path)],
    ).history
    events = EventAccumulator(
        str(tmp_path), size_guidance={"tensors": 0}
    ).Reload()
    tags = set(events.Tags()["tensors"])
    assert tags == {
        "accuracy_at_10", "accuracy_at_20", "accuracy_at_30",
        "delegation_rate", "selected_fraction", "deferral_curve",
    }  # fmt: skip
    import tensorflow as tf

    rates = [
        float(tf.make_ndarray(event.tensor_proto))
        for event in events.Tensors("delegation_rate")
    ]
    np.testing.assert_allclose(rates, history["delegation_rate"], atol=1e-6)
    results = cascade.judge(held_out)
    # The most that can be delegated within 20 %, by brute force.
    threshold = max(
        t
        for t in [*results.scores, np.inf]
        if (results.scores < t).mean() <= 0.2
    )
    expected = np.where(
        results.scores < threshold,
        results.teacher_correct,
        results.student_correct,
    ).mean()
    last = events.Tensors("accuracy_at_20")[-1]
    assert float(tf.make_ndarray(last.tensor_proto)) == pytest.approx(expected)


# KerasTuner's own, about the threading module:
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_tuner_minimises_the_cost(dense_model, blobs, tmp_path):
    import keras_tuner

    teacher = dense_model(16)

    def build(choices):
        cascade = kc.Cascade(
            teacher, dense_model(choices.Choice("units", [2, 4]))
        )
        cascade.compile()
        return cascade

    tuner = keras_tuner.GridSearch(
        build,
        objective=keras_tuner.Objective("val_amortized_cost", "min"),
        directory=tmp_path,
    )
    tuner.search(*blobs(96), validation_data=blobs(48, seed=3), verbose=0)
    best = tuner.oracle.get_best_trials()[0]
    scores = [trial.score for trial in tuner.oracle.trials.values()]
    assert len(scores) == 2
    assert best.score == min(scores)


def test_saved_before_it_was_ever_fitted(dense_model, blobs, tmp_path):
    # Keras warns of an optimizer without variables; warnings are errors here.
    x, y = blobs(96)
    cascade = compiled(dense_model)
    cascade.calibrate((x, y), kc.MaxDelegationRate(0.5, tolerance=0.5))
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.threshold == cascade.threshold
    loaded.fit(x, y, verbose=0)
    loaded.save(tmp_path / "c.keras")
    again = keras.models.load_model(tmp_path / "c.keras")
    steps = int(again.optimizer.iterations)
    assert steps == int(loaded.optimizer.iterations) == 3
    again.fit(x, y, verbose=0)


def test_inputs_of_another_form_are_told(cascade, blobs):
    x, y = blobs(64)
    cascade.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match=r"\('batch', 6\). Received: \(6,\)"):
        cascade.predict(x[0], verbose=0)
    with pytest.raises(ValueError, match=r"Received: \(64, 3\)"):
        cascade.predict(x[:, :3], verbose=0)
    assert len(cascade.predict(x[:1], verbose=0)["score"]) == 1


def test_single_examples_are_told_to_be_batched(cascade, blobs):
    dataset = tf.data.Dataset.from_tensor_slices(blobs(64))
    for use in (
        lambda: cascade.fit(dataset, verbose=0),
        lambda: cascade.evaluate(dataset, verbose=0),
        lambda: cascade.calibrate(dataset, kc.MaxDelegationRate(0.5)),
    ):
        with pytest.raises(ValueError, match=r"dataset\.batch\(32\)"):
            use()


class AskedInside(keras.callbacks.Callback):
    """Evaluates and predicts at the end of every epoch."""

    def __init__(self, data):
        super().__init__()
        self.data = data
        self.asked = 0

    def on_epoch_end(self, epoch, logs=None):
        self.model.evaluate(*self.data, verbose=0)
        self.model.predict(self.data[0], verbose=0)
        self.asked += 1


@pytest.mark.parametrize(
    "make",
    [
        lambda path, _: keras.callbacks.ModelCheckpoint(path / "a.keras"),
        lambda path, _: keras.callbacks.ModelCheckpoint(
            path / "a.weights.h5", save_weights_only=True
        ),
        lambda *_: keras.callbacks.EarlyStopping(
            "val_loss", patience=3, restore_best_weights=True
        ),
        lambda path, _: keras.callbacks.TensorBoard(path, histogram_freq=1),
        lambda _, data: AskedInside(data),
    ],
)
def test_callbacks_of_keras_change_nothing(dense_model, blobs, tmp_path, make):
    x, y = blobs(96)
    held_out = blobs(96, seed=5)
    plain, watched = compiled(dense_model), compiled(dense_model)
    options = {"epochs": 2, "verbose": 0, "shuffle": False}
    plain.fit(x, y, validation_data=held_out, **options)
    watched = compiled(dense_model)
    callback = make(tmp_path, held_out)
    watched.fit(x, y, validation_data=held_out, callbacks=[callback], **options)
    assert_same_weights(plain, watched)
    assert getattr(callback, "asked", 2) == 2
    if (tmp_path / "a.keras").exists():
        loaded = keras.models.load_model(tmp_path / "a.keras")
        np.testing.assert_allclose(
            loaded.predict(x, verbose=0)["score"],
            watched.predict(x, verbose=0)["score"],
            atol=1e-6,
        )


def test_averaged_weights_are_evaluated(dense_model, blobs):
    x, y = blobs(96)
    keras.utils.set_random_seed(7)
    cascade = kc.Cascade(dense_model(16), dense_model(3))
    cascade.compile(keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.5))
    cascade.fit(
        x, y, epochs=2, verbose=0, validation_data=blobs(96, seed=5),
        callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    )  # fmt: skip
    averages = cascade.optimizer._model_variables_moving_average
    for own, average in zip(
        cascade.student.trainable_variables, averages, strict=True
    ):
        assert own.shape == average.shape
        assert np.isfinite(own.numpy()).all()

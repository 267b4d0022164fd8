"""Fitting a cascade's gate: its place between `fit` and `calibrate`."""

import warnings

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.gates import LearnedGate, MarginGate

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


class Counted(keras.layers.Layer):
    """Passes its input on, and counts how often it ran."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.runs = 0

    def call(self, inputs):
        self.runs += 1
        return inputs


def student(name="inner"):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(3, activation="tanh", name=name)(inputs)
    x = Counted(name="counted")(x)
    return keras.Model(inputs, keras.layers.Dense(4)(x))


@pytest.fixture
def trained(cascade, blobs):
    """A function that makes a trained cascade with a given gate."""

    def make(gate, model=None, distillation="standard"):
        made = kc.Cascade(
            cascade.teacher, model or student(), distillation, gate
        )
        made.compile(optimizer=keras.optimizers.Adam(1e-2))
        made.fit(*blobs(256, seed=2), epochs=3, verbose=0)
        return made

    return make


@pytest.mark.parametrize("layers", [(), ("inner",), ("counted", "inner")])
def test_a_learned_gate_from_training_to_the_file(
    trained, blobs, tmp_path, layers
):
    made = trained(LearnedGate(student_layers=layers))
    held_out, fresh = blobs(300, seed=12), blobs(200, seed=13)[0]
    with pytest.raises(ValueError, match="must be fitted before"):
        made.calibrate(held_out, kc.MaxDelegationRate(0.3))
    if ON_TENSORFLOW:
        for kind, file in (("bundle", "b"), ("litert", "b.tflite")):
            with pytest.raises(ValueError, match="must be fitted before"):
                made.export(tmp_path / file, kind)
            assert not (tmp_path / file).exists()
    before = made.predict(fresh, verbose=0)["score"]
    assert made.fit_gate(blobs(400, seed=11), batch_size=64) is made.gate
    made.calibrate(held_out, kc.MaxDelegationRate(0.3))
    answer = made.predict(fresh, verbose=0)
    assert np.abs(answer["score"] - before).max() > 0.01
    np.testing.assert_allclose(made(fresh)["score"], answer["score"], atol=1e-6)
    assert 0.1 < answer["delegated"].mean() < 0.5
    made.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(
        tmp_path / "c.keras", custom_objects={"Counted": Counted}
    )
    loaded.gate.check_ready()
    assert loaded.gate.student_layers == layers
    for name, values in loaded.predict(fresh, verbose=0).items():
        np.testing.assert_allclose(values, answer[name], atol=1e-6)
    if not ON_TENSORFLOW:
        return  # export needs TensorFlow, and says so: test_backends.py
    bundle = loaded.export(tmp_path / "bundle", calibration_data=held_out)
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    found = edge.predict(fresh)
    np.testing.assert_allclose(found.score, answer["score"], atol=1e-5)
    np.testing.assert_allclose(
        found.probabilities, answer["probabilities"], atol=1e-5
    )


def test_features_cost_no_second_pass(trained, blobs):
    made = trained(LearnedGate(student_layers=["inner"]))
    counted = made.student.get_layer("counted")
    counted.runs = 0
    made(blobs(8)[0])  # eagerly: every run of a layer is a Python call
    assert counted.runs == 1
    shipped = kc.gates.StudentWithGate(made.student, made.gate)
    shipped(blobs(8)[0])
    counted.runs = 0
    shipped(blobs(8)[0])
    assert counted.runs == 1


def test_what_the_gate_looks_at_is_kept(trained, blobs):
    made = trained(LearnedGate(student_layers=["inner"]))
    x, y = blobs(70, seed=11)
    results = made.judge((x, y), keep_outputs=True)
    np.testing.assert_allclose(
        results.student_outputs, made.student.predict(x, verbose=0), atol=1e-6
    )
    inner = keras.Model(
        made.student.inputs, made.student.get_layer("inner").output
    )
    assert list(results.features) == ["inner"]
    np.testing.assert_allclose(
        results.features["inner"], inner.predict(x, verbose=0), atol=1e-6
    )
    assert made.judge((x, y)).student_outputs is None
    assert trained("margin").judge((x, y), keep_outputs=True).features is None


def test_an_abstain_students_outputs_are_kept_as_they_are(cascade, blobs):
    policy = kc.distillation.AbstainDistillation([0, 2])
    model = keras.Sequential([keras.Input((6,)), policy.student_head()])
    made = kc.Cascade(cascade.teacher, model, policy, gate="abstain")
    results = made.judge(blobs(40), keep_outputs=True)
    np.testing.assert_allclose(
        results.student_outputs, model.predict(blobs(40)[0], verbose=0)
    )
    assert results.student_outputs.shape == (40, 3)


def test_a_layer_may_be_called_logits(trained, blobs):
    made = trained(LearnedGate(["logits"]), student(name="logits"))
    made.fit_gate(blobs(100, seed=11))
    features = made.judge(blobs(30), keep_outputs=True).features["logits"]
    assert features.shape == (30, 3)


@pytest.mark.parametrize("layer", ["inner", "counted"])
def test_gate_and_policy_may_look_at_layers(trained, blobs, layer):
    policy = kc.distillation.CombinedDistillation(
        "standard",
        [
            keras.distillation.FeatureDistillation(
                loss=keras.losses.MeanSquaredError(),
                teacher_layer_name="middle",
                student_layer_name="inner",
            )
        ],
    )
    inputs = keras.Input((6,))
    x = keras.layers.Dense(3, name="middle")(inputs)
    teacher = keras.Model(inputs, keras.layers.Dense(4)(x))
    made = kc.Cascade(teacher, student(), policy, LearnedGate([layer]))
    made.compile()
    history = made.fit(*blobs(64), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    made.fit_gate(blobs(100, seed=11))
    assert made.evaluate(*blobs(50, seed=5), verbose=0, return_dict=True)


def test_fitting_a_temperature(trained, blobs):
    made = trained("margin")
    fresh, held_out = blobs(100, seed=13)[0], blobs(300, seed=11)
    made.predict(fresh, verbose=0)
    gate = made.fit_temperature(held_out)
    expected = MarginGate().fit_temperature(
        made.student.predict(held_out[0], verbose=0), held_out[1]
    )
    assert gate.temperature == pytest.approx(expected, rel=1e-5)
    assert gate.temperature != 1.0
    logits = made.student.predict(fresh, verbose=0) / expected
    np.testing.assert_allclose(
        made.predict(fresh, verbose=0)["score"],
        keras.ops.convert_to_numpy(MarginGate()(logits)),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("gate", "method"),
    [("learned", "fit_gate"), ("margin", "fit_temperature")],
)
def test_fitting_needs_examples_of_its_own(trained, blobs, gate, method):
    made = trained(gate)
    fit, state = getattr(made, method), made.gate.get_weights()
    with pytest.raises(ValueError, match="trained on"):
        fit(blobs(256, seed=2))
    for one, other in zip(state, made.gate.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    fit(blobs(256, seed=2), allow_training_data=True)
    fit(blobs(200, seed=11))
    with pytest.raises(ValueError, match="used to fit the gate"):
        made.calibrate(blobs(200, seed=11), kc.MaxDelegationRate(0.3))
    made.calibrate(blobs(200, seed=12), kc.MaxDelegationRate(0.3))
    assert made.operating_point is not None
    fit(blobs(200, seed=14))
    assert made.operating_point is None


def test_traffic_weighs_the_fit(trained, blobs):
    made, held_out = trained("margin"), blobs(300, seed=11)
    mix = kc.TrafficMix({0: 0.7, 1: 0.1, 2: 0.1, 3: 0.1})
    results = made.judge(held_out, traffic=mix, keep_outputs=True)
    expected = MarginGate().fit_temperature(
        results.student_outputs, held_out[1], results.sample_weight
    )
    found = made.fit_temperature(held_out, traffic=mix).temperature
    assert found == pytest.approx(expected, rel=1e-5)
    assert found != made.fit_temperature(held_out).temperature


# Bad input.


def test_a_gate_with_nothing_to_fit(trained, blobs):
    with pytest.raises(
        ValueError, match=r"MarginGate, which has none.*learned"
    ):
        trained("margin").fit_gate(blobs(50, seed=11))
    with pytest.raises(ValueError, match="LearnedGate, which has none"):
        trained("learned").fit_temperature(blobs(50, seed=11))


def test_a_fit_that_fails_changes_nothing(trained, blobs):
    made = trained("learned")
    made.fit_gate(blobs(200, seed=11))
    point = made.calibrate(blobs(200, seed=12), kc.MaxDelegationRate(0.3))
    before = made.gate.get_weights()
    with pytest.raises(ValueError, match="at least 20"):
        made.fit_gate(blobs(10, seed=14))
    assert made.operating_point == point
    assert made.data_record.gate.examples == 200
    for one, other in zip(before, made.gate.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_of_a_student_that_cannot_be_looked_into(cascade, blobs):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(4, name="head")

        def call(self, inputs):
            return self.head(inputs)

    made = kc.Cascade(cascade.teacher, Subclassed(), gate=LearnedGate(["head"]))
    made.compile()
    with pytest.raises(ValueError, match=r"\['head'\].*Functional.*Subclassed"):
        made.fit(*blobs(32), verbose=0)
    made = kc.Cascade(cascade.teacher, student(), gate=LearnedGate(["nowhere"]))
    made.compile()
    with pytest.raises(ValueError, match="No such layer: nowhere"):
        made.fit(*blobs(32), verbose=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
def test_a_class_gate_that_keeps_everything_is_warned_of(smoothing):
    """Of inputs that tell nothing a student learns the classes' shares."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2)).astype("float32")
    y = np.repeat([0, 1, 2, 3, 4], 120)  # 40 % in-domain
    teacher, student = (
        keras.Sequential([keras.Input((2,)), keras.layers.Dense(5)])
        for _ in range(2)
    )
    student.layers[-1].set_weights(
        [np.zeros((2, 5)), np.array([3.0, 3, 0, 0, 0])]
    )
    cascade = kc.Cascade(
        teacher,
        student,
        distillation=kc.distillation.ClassSpecificDistillation(
            [0, 1], label_smoothing=smoothing
        ),
        gate="class",
    )
    cascade.compile(keras.optimizers.SGD(1e-6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cascade.fit(x, y, verbose=0)
    warned = [
        "The class gate delegates 0.0%" in str(one.message) for one in caught
    ]
    assert any(warned) == (smoothing > 0)

"""Every gate through one gauntlet: numbers, serialization, decisions."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.special

import keras_cascade as kc
from keras_cascade import gates
from keras_cascade.gates import (
    AbstainGate,
    ClassGate,
    MarginGate,
    StudentWithGate,
)
from tests.helpers.gate_gauntlet import GAUNTLET, each_gate, scores, some_logits


def test_the_gauntlet_has_every_gate():
    made = {type(make()) for make, _ in GAUNTLET.values()}
    assert made == set(gates.serialization.NAMES.values())


@each_gate
def test_score_against_numpy(make, reference):
    logits = some_logits()
    np.testing.assert_allclose(
        scores(make(), logits), reference(logits), rtol=1e-5, atol=1e-6
    )


@each_gate
def test_serialization(make, reference):
    gate = make()
    gate.threshold = 0.375
    config = gate.get_config()
    full = gates.serialize(gate)
    name = {v: k for k, v in gates.serialization.NAMES.items()}[type(gate)]
    assert gates.get(gate) is gate
    logits = some_logits()
    for again in (
        gates.deserialize(full),
        gates.deserialize(json.loads(json.dumps(full))),
        gates.get(full),
        gates.get({"class_name": name, "config": config}),
    ):
        assert type(again) is type(gate)
        assert again.threshold == 0.375
        assert again.get_config() == config
        if gate.built and gate.get_weights():
            # The config has the shapes of weights, not the weights.
            again(logits)
            again.set_weights(gate.get_weights())
        np.testing.assert_array_equal(
            scores(again, logits), scores(gate, logits)
        )


@each_gate
def test_repr_evaluates(make, reference):
    gate = make()
    gate.threshold = 0.375
    again = eval(repr(gate), vars(gates))
    # Keras numbers the names.
    ours, theirs = gate.get_config(), again.get_config()
    assert {**theirs, "name": None} == {**ours, "name": None}


@pytest.mark.parametrize("name", gates.serialization.NAMES)
def test_get_by_name(name):
    defaults = {"in_domain_classes": [0], "margin": 0.25}
    gate = gates.get(name, **defaults)
    assert type(gate) is gates.serialization.NAMES[name]


def test_the_default_gate():
    assert type(gates.get(None)) is MarginGate
    assert gates.get(None).threshold == 0.5
    assert gates.get(None, margin=0.25).threshold == 0.25


@each_gate
def test_saving_inside_a_cascade(make, reference, tmp_path):
    gate, distillation, classes = make(), "standard", 5
    if isinstance(gate, AbstainGate):
        classes = 7
        distillation = kc.distillation.AbstainDistillation([0, 1, 3, 6])
    teacher, student = (
        keras.Sequential([keras.Input((6,)), keras.layers.Dense(units)])
        for units in (classes, 5)
    )
    cascade = kc.Cascade(teacher, student, distillation, gate)
    x = np.random.default_rng(1).normal(size=(40, 6)).astype("float32")
    expected = cascade.predict(x, verbose=0)
    gate.threshold = float(np.median(expected["score"]))
    expected = cascade.predict(x, verbose=0)
    assert 0 < expected["delegated"].sum() < 40
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    assert loaded.gate.get_config() == gate.get_config()
    for name, values in loaded.predict(x, verbose=0).items():
        np.testing.assert_array_equal(values, expected[name])


@each_gate
def test_scores_are_float32_whatever_the_student(make, reference):
    logits = some_logits().astype("float16")
    found = scores(make(), logits)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, reference(logits.astype("float32")), rtol=1e-4, atol=1e-5
    )


@each_gate
def test_delegates_below_keeps_at_and_above(make, reference):
    gate = make()
    gate.threshold = 0.5
    below, at = np.nextafter(np.float32(0.5), np.float32(0)), np.float32(0.5)
    score = keras.ops.array([below, at, 1.0, np.nan], dtype="float32")
    found = keras.ops.convert_to_numpy(gate.delegate(score))
    assert found.tolist() == [True, False, False, True]


@each_gate
def test_what_is_not_a_number_is_delegated(make, reference):
    # In a compiled graph: its optimizer must not turn the comparison round.
    gate = make()
    gate.threshold = -1.0
    student = keras.Sequential(
        [keras.Input((5,)), keras.layers.Activation("linear")]
    )
    classes = 7 if isinstance(gate, AbstainGate) else 5
    model = StudentWithGate(student, gate, classes)
    logits = np.ones((3, 5), "float32")
    logits[:, 0] = 9.0
    logits[1] = np.nan
    found = model.predict(logits, verbose=0)["delegate"]
    assert found.tolist() == [False, True, False]


@each_gate
def test_threshold_must_be_finite(make, reference):
    with pytest.raises(ValueError, match="finite float32"):
        make().threshold = float("nan")


def test_abstain_gate_spreads_its_outputs_over_all_classes():
    gate = AbstainGate([1, 3])
    logits = np.array([[2.0, 1.0, 9.0]], "float32")
    found = keras.ops.convert_to_numpy(gate.class_logits(logits, 4))
    np.testing.assert_array_equal(found[0, [1, 3]], [2.0, 1.0])
    shares = scipy.special.softmax(found, axis=1)[0]
    # e^2 / (e^2 + e^1) for class 1; nothing where there is no output.
    np.testing.assert_allclose(
        shares, [0, np.e / (np.e + 1), 0, 1 / (np.e + 1)], atol=1e-7
    )


def test_gates_check_the_number_of_student_outputs():
    with pytest.raises(ValueError, match="needs gate='abstain'"):
        MarginGate().class_logits(np.zeros((1, 3)), 4)
    with pytest.raises(ValueError, match="expects 3 student outputs"):
        AbstainGate([0, 1])(keras.ops.zeros((1, 4)))


def test_class_gate_keeps_exactly_the_in_domain_predictions():
    logits = some_logits(rows=500)
    gate = ClassGate([1, 2])
    kept = ~keras.ops.convert_to_numpy(
        gate.delegate(gate(keras.ops.array(logits)))
    )
    np.testing.assert_array_equal(kept, np.isin(logits.argmax(axis=1), [1, 2]))


def test_class_gate_needs_a_class_outside():
    with pytest.raises(ValueError, match="outside `in_domain_classes`"):
        ClassGate([0, 1])(keras.ops.ones((1, 2)))


def test_a_gate_made_by_name_takes_over_from_training():
    assert gates.get("margin", margin=0.25).threshold == 0.25
    assert gates.get("margin", in_domain_classes=[1]).threshold == 0.5
    assert gates.get("class", in_domain_classes=[1]).in_domain_classes == [1]
    with pytest.raises(ValueError, match="needs arguments"):
        gates.get("class")


def test_a_dict_with_a_short_name():
    gate = gates.get({"class_name": "margin", "config": {"temperature": 3}})
    assert gate.temperature == 3.0


def test_gates_are_imported_first_in_a_process():
    # Keras's import registers every saved class, and so imports the gates
    # again while their package is half-way through its own import.
    code = "from keras_cascade.gates import MarginGate; print(MarginGate())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "MarginGate(threshold=0.5)"


class ByScore(MarginGate):
    """Gate of a user whose `delegate` takes the score alone."""

    def delegate(self, score):
        # The other half of the rows.
        return keras.ops.logical_not(super().delegate(score))


class ByClass(MarginGate):
    """Gate of a user that never delegates class 0."""

    def delegate(self, score, probabilities):
        first = keras.ops.argmax(probabilities, axis=-1) == 0
        return keras.ops.logical_and(super().delegate(score), ~first)


def cascade_with(gate):
    """A cascade of 3 classes, trained for one epoch and calibrated."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    keras.utils.set_random_seed(0)
    teacher, student = (
        keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        for _ in range(2)
    )
    cascade = kc.Cascade(teacher, student, gate=gate)
    cascade.compile(keras.optimizers.Adam(0.05))
    cascade.fit(x[:100], y[:100], verbose=0, validation_data=(x, y))
    cascade.calibrate((x[100:], y[100:]), kc.MaxDelegationRate(0.4))
    return cascade, x, y


def test_a_users_own_delegate_of_the_score():
    cascade, x, y = cascade_with(ByScore())
    answer = cascade.predict(x, verbose=0)
    keep = answer["score"] < cascade.gate.threshold
    assert 0 < keep.sum() < len(x)
    np.testing.assert_array_equal(answer["delegated"], ~keep)
    metrics = cascade.evaluate(
        x, y, allow_training_data=True, verbose=0, return_dict=True
    )
    assert metrics["delegation_rate"] == pytest.approx((~keep).mean())
    cascade.gate.class_thresholds = [0.1, 0.2, 0.3]
    with pytest.raises(ValueError, match=r"delegate\(score, probabilities\)"):
        cascade.predict(x, verbose=0)


def test_a_users_own_delegate_of_score_and_probabilities():
    cascade, x, _ = cascade_with(ByClass())
    logits = keras.ops.convert_to_numpy(cascade.student(x))
    answer = cascade.predict(x, verbose=0)
    below = answer["score"] < cascade.gate.threshold
    expected = below & (logits.argmax(axis=1) != 0)
    assert (expected != below).any()
    np.testing.assert_array_equal(answer["delegated"], expected)

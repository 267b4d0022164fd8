"""Every gate through one gauntlet: numbers, serialization, TFLite."""

import keras
import numpy as np
import pytest
import scipy.special
from ai_edge_litert.interpreter import Interpreter

from keras_cascade import gates
from keras_cascade.export.signature import Signature
from keras_cascade.export.student_export import convert
from keras_cascade.gates import (
    AbstainGate,
    ClassGate,
    MarginGate,
    MaxProbabilityGate,
    StudentWithGate,
)


def numpy_margin(logits, temperature=1.0):
    ordered = np.sort(scipy.special.softmax(logits / temperature, axis=1))
    return ordered[:, -1] - ordered[:, -2]


def numpy_class_score(logits, inside):
    outside = np.setdiff1d(np.arange(logits.shape[1]), inside)
    return logits[:, inside].max(axis=1) - logits[:, outside].max(axis=1)


# Short class name -> (makes the gate, the same score in NumPy).
GAUNTLET = {
    "margin": (lambda: MarginGate(), numpy_margin),
    "margin_t": (
        lambda: MarginGate(temperature=2.0),
        lambda logits: numpy_margin(logits, 2.0),
    ),
    "max_probability": (
        lambda: MaxProbabilityGate(),
        lambda logits: scipy.special.softmax(logits, axis=1).max(axis=1),
    ),
    "abstain": (
        lambda: AbstainGate([0, 1, 3, 6]),  # five outputs, the last abstains
        lambda logits: logits[:, :4].max(axis=1) - logits[:, 4],
    ),
    "class": (
        lambda: ClassGate([0, 3]),
        lambda logits: numpy_class_score(logits, [0, 3]),
    ),
}
each_gate = pytest.mark.parametrize(
    ("make", "reference"), GAUNTLET.values(), ids=list(GAUNTLET)
)


def some_logits(rows=50, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=(rows, classes))).astype("float32")


def scores(gate, logits):
    return keras.ops.convert_to_numpy(gate(keras.ops.array(logits)))


def test_the_gauntlet_has_every_gate():
    made = {type(make()) for make, _ in GAUNTLET.values()}
    assert made == set(gates.NAMES.values())


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
    again = gates.get(keras.saving.serialize_keras_object(gate))
    assert again.threshold == 0.375
    logits = some_logits()
    np.testing.assert_array_equal(scores(again, logits), scores(gate, logits))


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
def test_tflite_gives_the_same_decisions_at_any_batch(make, reference):
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    gate = make()
    x = np.random.default_rng(1).normal(size=(300, 6)).astype("float32")
    gate.threshold = float(
        np.median(scores(gate, student.predict(x, verbose=0)))
    )
    classes = 7 if isinstance(gate, AbstainGate) else 5
    model = StudentWithGate(student, gate, classes)
    expected = model.predict(x, verbose=0)
    content = convert(model, Signature(x))
    runner = Interpreter(model_content=content).get_signature_runner(
        "serving_default"
    )
    for size in (1, 7, 256):
        parts = [
            runner(input=x[start : start + size])
            for start in range(0, len(x), size)
        ]
        found = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
        assert set(found) == {"probabilities", "score", "delegate"}
        np.testing.assert_array_equal(found["delegate"], expected["delegate"])
        np.testing.assert_allclose(found["score"], expected["score"], atol=1e-5)
        np.testing.assert_allclose(
            found["probabilities"], expected["probabilities"], atol=1e-6
        )


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


def test_bad_temperature():
    with pytest.raises(ValueError, match="number > 0"):
        MarginGate(temperature=0)

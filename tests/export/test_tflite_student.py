"""Every gate, exported and run in LiteRT."""

import keras
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.gates import AbstainGate, StudentWithGate
from tests.helpers.gate_gauntlet import each_gate, scores


def classes_of(gate):
    return 7 if isinstance(gate, AbstainGate) else 5


def tflite_runner(model, x):
    content = TFLiteStudent(model, x).convert(model.gate.threshold)
    return Interpreter(model_content=content).get_signature_runner(
        "serving_default"
    )


@each_gate
def test_the_same_decisions_at_any_batch(make, reference):
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    gate = make()
    x = np.random.default_rng(1).normal(size=(300, 6)).astype("float32")
    gate.threshold = float(
        np.median(scores(gate, student.predict(x, verbose=0)))
    )
    model = StudentWithGate(student, gate, classes_of(gate))
    expected = model.predict(x, verbose=0)
    runner = tflite_runner(model, x)
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
def test_what_is_not_a_number_is_delegated(make, reference):
    gate = make()
    gate.threshold = -1.0
    student = keras.Sequential(
        [keras.Input((5,)), keras.layers.Activation("linear")]
    )
    logits = np.ones((3, 5), "float32")
    logits[:, 0] = 9.0
    logits[1] = np.nan
    model = StudentWithGate(student, gate, classes_of(gate))
    shipped = tflite_runner(model, logits)(input=logits)
    assert shipped["delegate"].tolist() == [False, True, False]

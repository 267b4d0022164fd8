"""A threshold is set on a copy of the gate, whatever the gate."""

import keras
import numpy as np

from keras_cascade.export.student_artifact import StudentArtifact
from keras_cascade.gates import AbstainGate, StudentWithGate
from tests.helpers.gate_gauntlet import each_gate


@each_gate
def test_a_threshold_is_set_on_a_copy_of_the_gate(make, reference):
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5)])
    gate = make()
    gate.threshold = 0.75
    classes = 7 if isinstance(gate, AbstainGate) else 5
    model = StudentWithGate(student, gate, classes)
    x = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    expected = model.predict_on_batch(x)
    artifact = StudentArtifact(model)
    copy = artifact.with_threshold(0.25)
    assert copy.gate is not gate
    assert (copy.gate.threshold, gate.threshold) == (0.25, 0.75)
    assert copy.student is student
    answer = artifact.gate_answer(
        copy, artifact.gate_inputs(student.predict_on_batch(x))
    )
    assert set(answer) == {"probabilities", "score", "delegate"}
    # Compiled, sums are rounded in another order.
    for name in ("probabilities", "score"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)
    np.testing.assert_array_equal(
        answer["delegate"], np.asarray(answer["score"]) < np.float32(0.25)
    )

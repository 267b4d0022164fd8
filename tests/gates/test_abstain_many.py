"""The abstain gate with so many classes that no matrix spreads them."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.gates import abstain_gate


@pytest.mark.parametrize("limit", [0, 2**22])
def test_outputs_are_spread_over_the_classes(monkeypatch, limit):
    monkeypatch.setattr(abstain_gate, "MAX_SCATTER", limit)
    gate = kc.gates.AbstainGate([1, 3, 4])
    logits = np.array([[1.5, -2.0, 3.0, 9.0], [0.5, 0.25, -1.0, 0.0]])
    found = keras.ops.convert_to_numpy(
        gate.class_logits(keras.ops.convert_to_tensor(logits, "float32"), 6)
    )
    expected = np.full((2, 6), abstain_gate.NO_OUTPUT)
    expected[:, [1, 3, 4]] = logits[:, :3]
    np.testing.assert_allclose(found, expected)

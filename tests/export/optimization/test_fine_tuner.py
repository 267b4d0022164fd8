"""Fine-tuning in a process of Keras 2."""

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json
import numpy as np
import keras
import tf_keras
from keras_cascade import distillation
from keras_cascade.export.optimization.fine_tuner import (
    Examples, FineTuner)

x = np.ones((4, 1), "float32")
labels = np.zeros(4, "int32")
logits = np.tile(np.array([[9.0, -9.0]], "float32"), (4, 1))
inputs = tf_keras.Input((1,))
outputs = tf_keras.layers.Dense(2, use_bias=False)(inputs)
model = tf_keras.Model([inputs], [outputs])
model.set_weights([np.zeros((1, 2), "float32")])
policy = distillation.get("standard")
examples = Examples([x], labels, logits, None)
tuner = FineTuner(policy, examples, epochs=4, batch_size=4,
                  learning_rate=0.001, seed=0)
losses = tuner.train(model)
print(json.dumps({"moved": model.get_weights()[0].tolist(), "losses": losses}))
"""


def test_the_learning_rate_falls_along_a_cosine():
    """One step an epoch, always downhill: Adam moves by its rate each time.

    While the gradient stays as it is, Adam's step is the learning rate times
    its sign. Along a cosine to zero, four steps from 0.001 sum to
    0.001 * ((1 + 1) + (1 + cos 45) + (1 + cos 90) + (1 + cos 135)) / 2
    = 0.001 * (4 + 1) / 2 = 0.0025; a constant rate would give 0.004.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    ((first, second),) = found["moved"]
    assert first == pytest.approx(0.0025, rel=0.01)
    assert second == pytest.approx(-0.0025, rel=0.01)
    assert found["losses"] == sorted(found["losses"], reverse=True)

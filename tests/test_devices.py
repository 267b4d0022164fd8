"""More than one device gives the numbers of one."""

import os
import subprocess
import sys

import numpy as np
import pytest

MIRRORED = """
import sys
import keras, numpy as np, tensorflow as tf
import keras_cascade as kc

devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    devices[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
if sys.argv[1] == "two":
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
else:
    strategy = tf.distribute.get_strategy()
"""

PARALLEL = """
import os, sys
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
import contextlib
import keras, numpy as np
import keras_cascade as kc

if sys.argv[1] == "two":
    assert len(keras.distribution.list_devices()) == 2
    keras.distribution.set_distribution(keras.distribution.DataParallel())
class strategy:
    scope = contextlib.nullcontext
"""

WORK = """
rng = np.random.default_rng(0)
x = rng.normal(size=(128, 6)).astype("float32")
y = rng.integers(0, 4, 128)
weight = rng.random(128).astype("float32") * 3
with strategy.scope():
    keras.utils.set_random_seed(1)
    models = [
        keras.Sequential([keras.Input((6,)),
                          keras.layers.Dense(u, activation="tanh"),
                          keras.layers.Dense(4)])
        for u in (16, 3)
    ]
    cascade = kc.Cascade(*models, distillation="standard")
    cascade.compile(
        optimizer=keras.optimizers.SGD(0.5),
        metrics=[kc.metrics.CascadeAccuracyAt(0.2),
                 kc.metrics.DeferralArea()],
    )
history = cascade.fit(x, y, sample_weight=weight, epochs=3, batch_size=32,
                      shuffle=False, verbose=0).history
measured = cascade.evaluate(x, y, sample_weight=weight, batch_size=32,
                            verbose=0, return_dict=True,
                            allow_training_data=True)
fresh = rng.normal(size=(100, 6)).astype("float32")
point = cascade.calibrate((fresh, np.arange(100) % 4),
                          kc.MaxDelegationRate(0.3))
answer = cascade.predict(x, verbose=0)
np.savez(
    sys.argv[2], loss=history["loss"], evaluated=measured["loss"],
    at_rate=measured["cascade_accuracy_at_0.2"],
    area=measured["deferral_area"], trained_area=history["deferral_area"],
    threshold=point.threshold, probabilities=answer["probabilities"],
    **{f"weight{i}": w for i, w in enumerate(models[1].get_weights())},
)
"""


@pytest.mark.parametrize(
    ("backend", "start"), [("tensorflow", MIRRORED), ("jax", PARALLEL)]
)
def test_two_devices_give_the_numbers_of_one(tmp_path, backend, start):
    found = {}
    for devices in ("one", "two"):
        file = tmp_path / f"{devices}.npz"
        subprocess.run(
            [sys.executable, "-c", start + WORK, devices, str(file)],
            check=True,
            capture_output=True,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        found[devices] = dict(np.load(file))
    assert set(found["one"]) == set(found["two"])
    for name, value in found["one"].items():
        np.testing.assert_allclose(
            found["two"][name], value, atol=1e-5, err_msg=name
        )

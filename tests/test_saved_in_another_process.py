"""A saved cascade opens in a process that did not make it."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_cascade as kc

ORDERS = {
    "keras first": "import keras\nimport keras_cascade",
    "keras last": "import keras_cascade\nimport keras",
    "the runtime alone": "import keras_cascade.runtime\nimport keras",
    "a gate alone": "from keras_cascade.gates import Gate\nimport keras",
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a `.keras` file of parts that all need registering."""

    def model():
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])

    cascade = kc.Cascade(model(), model(), "margin", "max_probability")
    cascade.threshold = 0.5
    folder = tmp_path_factory.mktemp("saved")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    np.savez(folder / "known.npz", x=x, score=cascade.scores(x))
    cascade.save(folder / "c.keras")
    return folder


@pytest.mark.parametrize("order", ORDERS)
def test_it_opens_whichever_is_imported_first(saved, order):
    script = f"""{ORDERS[order]}
import numpy as np
cascade = keras.models.load_model("c.keras")
known = np.load("known.npz")
np.testing.assert_allclose(cascade.scores(known["x"]), known["score"], 1e-6)
print(type(cascade.distillation).__name__, cascade.threshold)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=saved, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["MarginDistillation", "0.5"], done.stderr

"""The same cascade on JAX: trained, saved, and carried over to export."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_cascade as kc

#: Test files of what the backend computes, which run on both. Each group is a
#: test of its own, so that pytest-xdist runs them beside others.
GROUPS = [
    ["tests/distillation", "tests/tasks/test_formulas.py"],
    ["tests/evaluation/test_flops.py", "tests/gates", "tests/metrics"],
    ["tests/test_cascade_training.py"],
    ["tests/test_cascade_use.py", "tests/test_data_record.py"],
    ["tests/test_gate_fitting.py", "tests/test_traffic_mix.py"],
    ["tests/teacher_logits/test_top_k_cache.py"],
]


@pytest.fixture
def on_jax(tmp_path_factory):
    """Environment variables of a process whose Keras runs on JAX.

    Most of its time would go to compiling the same programs again, as each
    test builds its models anew: they are kept in a folder, for all groups.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers
    return {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled_by_jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


@pytest.mark.parametrize("files", GROUPS, ids=lambda files: files[0])
def test_the_same_tests_pass_on_jax(files, on_jax, request):
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *files],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        env=on_jax,
    )
    assert found.returncode == 0, found.stdout[-5000:]


TRAIN_ON_JAX = """
import sys, keras, numpy as np
import keras_cascade as kc
assert keras.backend.backend() == "jax"
rng = np.random.default_rng(0)
x = rng.normal(size=(200, 6)).astype("float32")
y = rng.integers(0, 4, 200)
models = [keras.Sequential([keras.Input((6,)), keras.layers.Dense(u),
                            keras.layers.Dense(4)]) for u in (16, 3)]
cascade = kc.Cascade(*models)
cascade.compile()
cascade.fit(x[:100], y[:100], verbose=0)
cascade.calibrate((x[100:], y[100:]), kc.MaxDelegationRate(0.3))
cascade.save(sys.argv[1])
np.savez(sys.argv[2], x=x, y=y, **cascade.predict(x, verbose=0))
try:
    cascade.export("bundle")
except RuntimeError as error:
    print(error)
"""


def test_trained_on_jax_and_exported_on_tensorflow(tmp_path, on_jax):
    model, answers = tmp_path / "c.keras", tmp_path / "answers.npz"
    found = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_JAX, str(model), str(answers)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=on_jax,
    )
    assert "Export needs the TensorFlow backend" in found.stdout
    assert "keras.models.load_model('c.keras').export" in found.stdout
    expected = np.load(answers)
    cascade = keras.models.load_model(model)
    answer = cascade.predict(expected["x"], verbose=0)
    np.testing.assert_allclose(
        answer["probabilities"], expected["probabilities"], atol=1e-5
    )
    bundle = cascade.export(
        tmp_path / "bundle",
        calibration_data=(expected["x"][100:], expected["y"][100:]),
    )
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    np.testing.assert_allclose(
        edge.predict(expected["x"]).probabilities,
        expected["probabilities"],
        atol=1e-5,
    )

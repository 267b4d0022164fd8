"""Checks that every exporter makes before it does anything."""

import inspect
import json
import os
import subprocess
import sys

import pytest

import keras_cascade as kc
from keras_cascade.export import optimization
from keras_cascade.export.export_job import ExportJob
from keras_cascade.utils import progress

EXPORTERS = {
    name: getattr(module, name)
    for module in (kc.export, optimization)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
}
#: Calls each exporter on JAX, prints `{name: [class of error, message]}`.
ON_JAX = """
import json, sys, keras, numpy as np
import keras_cascade as kc
from keras_cascade.export.optimization import optimize_student
from keras_cascade.export.signature import Signature
assert keras.backend.backend() == "jax"
x, y = np.eye(4, dtype="float32"), np.array([0, 1, 2, 0])
models = [keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
          for _ in range(2)]
cascade = kc.Cascade(*models)
cascade.predict(x, verbose=0)
arguments = {
    "costs_from_latency": (cascade, x),
    "export_bundle": (cascade, "bundle", (x, y)),
    "export_fused": (cascade, "fused", x),
    "export_onnx": (cascade, "s.onnx", x),
    "export_student": (cascade, "s.tflite", x),
    "optimize_student": (cascade, "qat", x, y, x[:, :3], Signature(x)),
}
errors = {}
for name in json.loads(sys.argv[1]):
    function = getattr(kc.export, name, optimize_student)
    try:
        function(*arguments[name])
    except Exception as error:
        errors[name] = type(error).__name__, str(error)
print(json.dumps(errors))
"""


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    """Error of every exporter on JAX, and the files that it wrote."""
    folder = tmp_path_factory.mktemp("jax")
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, json.dumps(list(EXPORTERS))],
        capture_output=True,
        text=True,
        cwd=folder,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1]), list(folder.iterdir())


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_needs_the_tensorflow_backend(on_jax, name):
    errors, files = on_jax
    kind, message = errors[name]
    assert kind == "RuntimeError"
    assert "Export needs the TensorFlow backend. Received: 'jax'" in message
    assert "keras.models.load_model('c.keras').export" in message
    assert files == []


@pytest.mark.parametrize("name", EXPORTERS)
def test_every_exporter_has_an_explicit_signature(name):
    parameters = inspect.signature(EXPORTERS[name]).parameters
    assert parameters["verbose"].default is None
    for parameter in parameters.values():
        assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        assert parameter.annotation is not parameter.empty


def test_verbose_false_shows_no_progress(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with progress.progress_shown(False):
        progress.tell("hidden")
        with progress.progress_shown(True):
            progress.tell("hidden by the outer block")
    with progress.progress_shown():
        progress.tell("shown")
    assert capsys.readouterr().out == "shown\n"


def test_calibration_data_is_read_twice(cascade, blobs):
    x, y = blobs(60)
    job = ExportJob(cascade, (x, y), batch_size=20)
    assert [len(rows) for rows, _, _ in job.data.batches()] == [20, 20, 20]
    assert job.example_inputs.shape == (32, 6)
    with pytest.raises(ValueError, match="calibration data that can be read"):
        ExportJob(cascade, iter([(x, y)]))
    with pytest.raises(ValueError, match="has seen none yet"):
        ExportJob(cascade).example_inputs  # noqa: B018

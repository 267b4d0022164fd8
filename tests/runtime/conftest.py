"""Fixtures of the runtime's tests."""

import json
import shutil

import pytest

from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import StudentInterpreter

# Programs that tests run. Importing them here would do what they do, and
# KServe and Triton's client cannot be imported into one process.
collect_ignore = ["grpc_server.py", "kserve_server.py", "queue_worker.py"]


@pytest.fixture
def students_answer(bundle_path):
    """A function that returns the TFLite file's outputs of a batch."""
    student = StudentInterpreter(bundle_path / "student.tflite")
    return lambda x: student.run({"input": x})


@pytest.fixture
def with_points(bundle_path, tmp_path):
    """A function that copies the bundle with further operating points."""

    def make(**thresholds):
        path = tmp_path / "points"
        shutil.copytree(bundle_path, path)
        file = path / "manifest.json"
        manifest = json.loads(file.read_text())
        default = manifest["operating_points"][0]
        manifest["operating_points"] += [
            {**default, "name": name, "threshold": float(threshold)}
            for name, threshold in thresholds.items()
        ]
        write_manifest(manifest, file)
        return path

    return make

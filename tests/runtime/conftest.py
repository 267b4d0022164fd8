"""What the runtime's tests share."""

import json
import shutil
import threading

import numpy as np
import pytest

from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import StudentInterpreter, TeacherError

# Programs that tests run. Importing them here would do what they do, and
# KServe and Triton's client cannot be imported into one process.
collect_ignore = ["grpc_server.py", "kserve_server.py", "queue_worker.py"]


class ScriptedTeacher:
    """Follows a script, one step a call; its last step again and again.

    A step is an error to raise, or a function of the inputs.
    """

    def __init__(self, *script):
        self.script = list(script)
        self.asked = []
        self._lock = threading.Lock()

    def logits(self, inputs):
        with self._lock:
            self.asked.append(inputs)
            last = len(self.script) == 1
            step = self.script[0] if last else self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        return step(inputs)


def sums(inputs):
    """Logits with the sum of a row's values first, then zeros; 4 classes."""
    x = inputs["input"]
    logits = np.zeros((len(x), 4), "float32")
    logits[:, 0] = x.reshape(len(x), -1).sum(axis=1)
    return logits


def unavailable():
    return TeacherError("gone", retryable=True)


@pytest.fixture
def students_answer(bundle_path):
    """A function: what the TFLite file says about a batch."""
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

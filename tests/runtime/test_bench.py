"""The benchmark of a bundle's parts, with what a device has."""

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_cascade.runtime.bench import random_inputs

CODE = """
import sys
sys.modules["typer"] = sys.modules["rich"] = None
from keras_cascade.runtime import bench
bench.main()
"""


def test_a_student_on_random_inputs(bundle_path):
    process = subprocess.run(
        [
            sys.executable, "-c", CODE, "student", str(bundle_path),
            "--batches", "1", "3", "--threads", "1", "2", "--runs", "2",
        ],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    result = json.loads(process.stdout)
    assert [(one["threads"], one["batch"]) for one in result["latency_ms"]] == [
        (1, 1),
        (1, 3),
        (2, 1),
        (2, 3),
    ]
    assert result["tensorflow_loaded"] is False


class Described:
    """A bundle as far as its inputs."""

    def __init__(self, **spec):
        self.inputs = [{"name": "input", **spec}]


def test_random_inputs_are_in_the_manifest_s_range():
    x = random_inputs(
        Described(shape=[None, 3, 2], dtype="uint8", range=[2.0, 9.0])
    )["input"]
    assert x.dtype == np.uint8 and x.shape[1:] == (3, 2)
    assert x.min() >= 2 and x.max() <= 9
    for spec in (
        {"shape": [None], "dtype": "string", "range": None},
        {"shape": [None, None], "dtype": "int32", "range": [0, 9]},
    ):
        with pytest.raises(ValueError, match=r"an \.npz file of inputs"):
            random_inputs(Described(**spec))

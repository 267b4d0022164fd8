"""The student's bytes: read once, shared by every thread."""

import concurrent.futures
import shutil
import subprocess
import sys
import threading

import ai_edge_litert.interpreter
import numpy as np
import pytest

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.runtime import EdgeCascade, StudentInterpreter
from tests.helpers.bundle_exchange import replace_bundle

X = np.random.default_rng(0).normal(size=(50, 6)).astype("float32")
#: Opens a bundle, truncates the student's file in place, and answers in a
#: thread of its own: a file that is mapped into memory is then a SIGBUS.
TRUNCATED = """
import os, sys, threading
import numpy as np
from keras_cascade.runtime import EdgeCascade

edge = EdgeCascade.load(sys.argv[1])
x = np.load(sys.argv[2])
before = edge.predict_alone(x).probabilities
os.truncate(edge.bundle.student_file, 16)
after = []
thread = threading.Thread(target=lambda: after.append(edge.predict_alone(x)))
thread.start()
thread.join()
assert (after[0].probabilities == before).all()
assert (edge.predict_alone(x).probabilities == before).all()
print("whole")
"""


@pytest.fixture
def path(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return tmp_path / "bundle"


def in_a_new_thread(function):
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def no_student(manifest, folder):
    (folder / "student.tflite").write_bytes(b"another")


def test_new_threads_run_the_student_that_was_hashed(path):
    with EdgeCascade.load(path) as edge:
        expected = edge.predict_alone(X).probabilities
        replace_bundle(path, no_student)
        found = in_a_new_thread(lambda: edge.predict_alone(X).probabilities)
        np.testing.assert_array_equal(found, expected)
        shutil.rmtree(path)
        found = in_a_new_thread(lambda: edge.predict_alone(X).probabilities)
        np.testing.assert_array_equal(found, expected)
        edge._student.close()  # the next run opens another interpreter
        np.testing.assert_array_equal(
            edge.predict_alone(X).probabilities, expected
        )


def test_a_truncated_file_ends_no_process(path, tmp_path):
    np.save(tmp_path / "x.npy", X)
    done = subprocess.run(
        [sys.executable, "-c", TRUNCATED, path, tmp_path / "x.npy"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


def test_all_threads_share_one_copy_of_the_bytes(path, monkeypatch):
    opened = []
    real = ai_edge_litert.interpreter.Interpreter

    def interpreter(**options):
        opened.append(options)
        return real(**options)

    monkeypatch.setattr(ai_edge_litert.interpreter, "Interpreter", interpreter)
    bundle = Bundle.load(path)
    with EdgeCascade(bundle, None) as edge:
        barrier = threading.Barrier(3)

        def work():
            barrier.wait()  # as many threads as calls
            edge.predict_alone(X)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            for task in [pool.submit(work) for _ in range(3)]:
                task.result()
    assert len(opened) == 4
    content = bundle.read("student.tflite")
    assert all(one["model_content"] is content for one in opened)
    assert not any("model_path" in one for one in opened)


def test_a_file_a_path_or_bytes(path):
    file = path / "student.tflite"
    inputs = {"input": X}
    expected = StudentInterpreter(file).run(inputs)
    for given in (str(file), file.read_bytes()):
        found = StudentInterpreter(given).run(inputs)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
    with pytest.raises(BundleError, match=r"cannot be read.*No such file"):
        StudentInterpreter(path / "nothing.tflite")
    with pytest.raises(BundleError, match="cannot run 'this one'"):
        StudentInterpreter(b"no flatbuffer", name="this one")

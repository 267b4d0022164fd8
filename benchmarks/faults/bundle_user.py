"""Loads bundles and predicts with them, in a process of its own.

    python -m benchmarks.faults.bundle_user device|server ROWS.npy

Reads the path of a bundle from a line of standard input, prints a line of JSON
once it is loaded, waits for another line, and prints what it predicts then: as
a device, in the thread that loaded it, in new threads and with new
interpreters; as a server, with the teacher.
"""

import json
import sys
import threading

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.runtime import EdgeCascade

THREADS = 2


class Device:
    """Runs the student of a bundle.

    Args:
        path: str.
        x: array, rows to predict.
    """

    def __init__(self, path, x):
        self._x = x
        self._edge = EdgeCascade.load(path)
        self.seal = self._edge.bundle.manifest["sha256"]

    def checked(self):
        """Does nothing: it is loaded at once."""

    def answers(self):
        """Yields functions that predict."""
        yield self._predict
        for _ in range(THREADS):
            yield lambda: in_a_new_thread(self._predict)
        self._edge._student.close()  # the next run opens another interpreter
        yield self._predict

    def _predict(self):
        return self._edge.predict_alone(self._x).probabilities.tolist()


class Server:
    """Runs the teacher of a bundle, as `keras-cascade serve` loads it.

    Args:
        path: str.
        x: array, rows to predict.
    """

    def __init__(self, path, x):
        self._x = x
        self._bundle = Bundle.load(path)
        self.seal = self._bundle.manifest["sha256"]

    def checked(self):
        """Loads the teacher, whose files were checked before."""
        from keras_cascade.serving.loaded_teacher import LoadedTeacher
        from keras_cascade.serving.server_metrics import ServerMetrics
        from keras_cascade.serving.settings import Limits

        class Teacher(LoadedTeacher):
            def __init__(self, bundle, run, *args, **kwargs):
                self.run = run

        teacher = Teacher.load(self._bundle, Limits(), ServerMetrics())
        self._run = teacher.run

    def answers(self):
        """Yields functions that predict."""
        name = self._bundle.teacher_inputs[0]["name"]
        yield lambda: np.asarray(self._run({name: self._x})).tolist()


def in_a_new_thread(function):
    """Returns a function's result; raises its error."""
    results = []

    def work():
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def tried(function):
    """Returns `(result, None)`, or `(None, error)` as a str."""
    try:
        return function(), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"[:300]


def main():
    """Reads paths and prints outcomes."""
    kind = {"device": Device, "server": Server}[sys.argv[1]]
    x = np.load(sys.argv[2], allow_pickle=False)
    if kind is Server:  # not while a bundle is timed
        import tensorflow  # noqa: F401
    print("ready", flush=True)
    while path := sys.stdin.readline().rstrip("\n"):
        user, error = tried(lambda path=path: kind(path, x))
        print(json.dumps({"error": error}), flush=True)
        sys.stdin.readline()
        seal, outcomes = None, [(None, error)]
        if user is not None:
            seal = user.seal
            _, error = tried(user.checked)
            outcomes = [(None, error)]
            if error is None:
                outcomes = [tried(answer) for answer in user.answers()]
        print(json.dumps({"seal": seal, "outcomes": outcomes}), flush=True)


if __name__ == "__main__":
    main()

"""Goodput of the server under more load than it can take, beside KServe's.

    python -m benchmarks.faults.overload --json [--quick]

A teacher of heavy products of matrices, on one thread, answers requests of 8
rows with a deadline of 1 s. A load generator in its own process measures the
capacity with clients that wait for their answers, then sends at 1, 2 and 10
times that rate whether it is answered or not. A machine's speed changes within
a minute: the capacity is measured before and after each load, all of it in
several rounds. After ten times the capacity comes 0.8 times.

`goodput_over_capacity`: rows answered within their deadline per second, over
the mean of the capacity before and after, by protocol and load: the median of
the rounds, which are in `goodput_over_capacity_rounds`. The first two seconds
of every measurement are left out, and so is what is answered after its end: a
queue that fills or empties is no goodput. `overload_p99_over_deadline`: of the
accepted requests, median of the rounds; how many of all rounds were late is in
`overload_outcomes`. `overload_recovery_seconds`, of the slowest round: from the
end of ten times the load until nine of ten requests are answered in time, of
those of the next second and of all that follow.
`goodput_over_kserve`: at twice and ten times our capacity, over what KServe's
own server answers of the same requests, of the same SavedModel, on the same
machine, in one round; where it answers nothing, over one request in the whole
time. `null`: KServe cannot be installed; `kserve` says why.
"""

import collections
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import options, show
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.serving import ServerProcess

BUNDLE = Path(__file__).parents[2] / "saved_models" / "fashion_mnist"
SHAPE = (28, 28, 1)
CLASSES, ROWS, TIMEOUT, CLIENTS = 10, 8, 1.0, 8
ROWS_PER_SECOND = 200  # about, on one thread
LOADS = (1, 2, 10)
AFTERWARDS = 0.8
ROUNDS, SECONDS = 7, 10
WARM_UP = 2.0  # seconds of every measurement
START_SECONDS = 120
ONE_THREAD = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def measure(quick):
    """Measures both servers; returns a dict of the keys above."""
    rounds, seconds = (1, 4) if quick else (ROUNDS, SECONDS)
    with tempfile.TemporaryDirectory() as temporary, _environment():
        folder = Path(temporary)
        path = heavy_bundle(folder / "bundle")
        with ServerProcess(
            path, folder / "log", options=["--max-batch", "32"]
        ) as server:
            urls = {
                "http": server.url.partition("/v1/")[0],
                "grpc": server.grpc_url.rpartition("/")[0],
            }
            ours = {
                name: Run(url, seconds, rounds) for name, url in urls.items()
            }
        keys = {
            "capacity_rows_per_second": "capacity",
            "goodput_over_capacity": "goodput_over_capacity",
            "goodput_over_capacity_rounds": "ratios",
            "overload_p99_over_deadline": "p99_over_deadline",
            "overload_recovery_seconds": "recovery",
            "overload_outcomes": "outcomes",
        }
        result = {
            key: {name: getattr(run, of) for name, run in ours.items()}
            for key, of in keys.items()
        }
        return {**result, **_kserve(folder, path, ours, seconds)}


class Run:
    """All loads against one server over one protocol.

    Args:
        url: str.
        seconds: float, of each measurement.
        rounds: int. Defaults to `1`.
        capacity: float or `None`, rows per second. Defaults to `None`: it is
            measured before and after each load.
    """

    def __init__(self, url, seconds, rounds=1, capacity=None):
        self.goodputs = {f"{load}x": [] for load in LOADS}
        self.ratios = {f"{load}x": [] for load in LOADS}
        # Of each round, the requests by load.
        self._requests = {f"{load}x": [] for load in (*LOADS, AFTERWARDS)}
        self._recoveries, capacities = [], []

        def measured():
            if capacity is not None:
                return capacity
            capacities.append(_capacity(url, seconds))
            return capacities[-1]

        _load(url, [(0, WARM_UP)])
        for seed in range(rounds):
            before = measured()
            for load in LOADS:
                loads = [load, AFTERWARDS] if load == LOADS[-1] else [load]
                rates = [before / ROWS * load for load in loads]
                phases = _load(url, [(rate, seconds) for rate in rates], seed)
                for name, phase in zip(loads, phases, strict=True):
                    self._requests[f"{name}x"].append(phase)
                after = measured()
                goodput = _goodput(phases[0], seconds)
                self.goodputs[f"{load}x"].append(goodput)
                self.ratios[f"{load}x"].append(goodput * 2 / (before + after))
                before = after
            self._recoveries.append(_recovery(phases[-1]))
        self.capacity = statistics.median(capacities or [capacity])

    @property
    def goodput_over_capacity(self):
        """Median of the rounds, by load."""
        return {k: statistics.median(v) for k, v in self.ratios.items()}

    @property
    def p99_over_deadline(self):
        """Of the time of accepted requests, by load: median of the rounds."""
        return {
            name: statistics.median(map(_p99_over_deadline, rounds))
            for name, rounds in self._requests.items()
        }

    @property
    def outcomes(self):
        """How many requests ended how, by load."""
        return {
            name: dict(
                collections.Counter(
                    how for phase in rounds for *_, how in phase
                )
            )
            for name, rounds in self._requests.items()
        }

    @property
    def recovery(self):
        """Seconds, of the slowest round."""
        return max(self._recoveries)


def _p99_over_deadline(phase):
    took = [took for _, took, how in phase if how in ("ok", "late")]
    return float(np.percentile(took or [np.nan], 99) / TIMEOUT)


def _recovery(phase):
    """Seconds until nine of ten are answered, then and from then on."""
    sent = np.array([sent for sent, *_ in phase])
    ok = np.array([how == "ok" for *_, how in phase])
    for start in np.arange(0.0, sent.max(), 0.1):
        later = sent >= start
        soon = later & (sent < start + 1.0)
        if soon.any() and min(ok[soon].mean(), ok[later].mean()) >= 0.9:
            return float(start)
    return float(sent.max())


def heavy_bundle(path):
    """Copies a bundle, with a teacher that takes about 5 ms per row."""
    shutil.copytree(BUNDLE, path)
    teacher = path / "teacher" / "1"
    shutil.rmtree(teacher)
    _write_teacher(teacher)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["teacher"]["files"] = {
        file.relative_to(teacher).as_posix(): hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in teacher.rglob("*")
        if file.is_file()
    }
    manifest.get("teacher").pop("probes", None)
    write_manifest(manifest, path / "manifest.json")
    return path


def _write_teacher(folder):
    """In a process of its own: the threads of TensorFlow are set at import."""
    subprocess.run(
        [sys.executable, "-c", _TEACHER, str(folder), str(ROWS_PER_SECOND)],
        check=True,
        stderr=subprocess.DEVNULL,
    )


_TEACHER = """
import sys, time
import numpy as np, tensorflow as tf
folder, per_second = sys.argv[1], float(sys.argv[2])
size = 28 * 28
weights = np.random.default_rng(0).normal(size=(size, size)) / size ** 0.5
module = tf.Module()
module.weights = tf.Variable(weights.astype("float32"))
module.steps = tf.Variable(20)

@tf.function(
    input_signature=[tf.TensorSpec([None, 28, 28, 1], tf.float32, "input")])
def logits(x):
    x = tf.reshape(x, [-1, size])
    step = lambda n, x: (n + 1, tf.tanh(x @ module.weights))
    _, x = tf.while_loop(lambda n, x: n < module.steps, step, [0, x])
    return {"logits": x[:, :10]}

module.logits = logits
x, times = tf.zeros([32, 28, 28, 1]), []
for _ in range(5):
    start = time.perf_counter()
    logits(x)
    times.append(time.perf_counter() - start)
module.steps.assign(max(1, round(20 * 32 / per_second / min(times))))
tf.saved_model.save(module, folder, signatures=logits)
"""


def _load(url, phases, seed=0):
    """Runs the generator; returns the outcomes of each phase."""
    configuration = {
        "url": url, "rows": ROWS, "shape": SHAPE, "timeout": TIMEOUT,
        "clients": CLIENTS, "phases": phases, "seed": seed,
        "warm_up": WARM_UP,
    }  # fmt: skip
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.faults.open_loop",
            json.dumps(configuration),
        ],
        stdout=subprocess.PIPE,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    return json.loads(done.stdout)


def _capacity(url, seconds):
    (phase,) = _load(url, [(0, seconds)])
    capacity = _goodput(phase, seconds)
    if not capacity:
        raise RuntimeError(f"No request was answered: {phase[:3]}")
    return capacity


def _goodput(phase, seconds):
    answered = sum(
        how == "ok" and WARM_UP <= sent + took < seconds
        for sent, took, how in phase
    )
    return ROWS * answered / (seconds - WARM_UP)


def _kserve(folder, path, ours, seconds):
    """Returns the comparison with KServe's server."""
    try:
        python = _kserve_python(folder / "kserve")
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"KServe cannot be installed: {error}"[:300]
        return {"goodput_over_kserve": None, "kserve": reason}
    with _kserve_server(python, path, folder / "kserve.log") as urls:
        theirs = {
            name: Run(url, seconds, capacity=ours[name].capacity)
            for name, url in urls.items()
        }
    least = ROWS / seconds
    return {
        "goodput_over_kserve": {
            name: {
                load: statistics.median(ours[name].goodputs[load])
                / max(least, *theirs[name].goodputs[load])
                for load in ("2x", "10x")
            }
            for name in ours
        },
        "kserve": {
            name: {
                "goodput_over_our_capacity": run.goodput_over_capacity,
                "recovery_seconds": run.recovery,
                "outcomes": run.outcomes,
            }
            for name, run in theirs.items()
        },
    }


def _kserve_python(folder):
    """Returns an interpreter with KServe: this one's, or a new one's."""
    if importlib.util.find_spec("kserve") is not None:
        return sys.executable
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    packages = ("kserve==0.21.0", "tensorflow")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", *packages], check=True
    )
    return python


@contextlib.contextmanager
def _kserve_server(python, path, log_file):
    """Runs KServe's server; yields its URLs by protocol."""
    with contextlib.ExitStack() as stack:
        ports = [
            stack.enter_context(
                socket.create_server(("127.0.0.1", 0))
            ).getsockname()[1]
            for _ in range(2)
        ]
    script = Path(__file__).with_name("kserve_saved_model.py")
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            [python, script, path / "teacher" / "1", *map(str, ports)],
            stdout=log,
            stderr=log,
        )
    try:
        for port in ports:
            _wait_for(port, process, log_file)
        yield {
            "http": f"http://127.0.0.1:{ports[0]}",
            "grpc": f"grpc://127.0.0.1:{ports[1]}",
        }
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port, process, log_file):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    "KServe's server did not start: "
                    f"{log_file.read_text(errors='replace')[-500:]}"
                ) from None
            time.sleep(0.1)


@contextlib.contextmanager
def _environment():
    """Sets the variables that leave TensorFlow one thread."""
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main():
    """Runs the benchmark."""
    arguments = options(__doc__)
    show(measure(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()

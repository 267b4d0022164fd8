"""Device side of `benchmarks.edge`, without TensorFlow and Keras.

    python -m benchmarks.edge_device BUNDLE ROWS.npy CALLS

prints JSON.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import threading
import time

IMPORTING = """
import time
start, cpu = time.perf_counter(), time.process_time()
import keras_cascade.runtime
print(time.perf_counter() - start, time.process_time() - cpu)
"""
PROCESSES = 5
WARM_UP = 200
ROUNDS = 5
HASHED = 300_000  # bytes


def import_seconds():
    """Measures the import of the runtime in new processes, as medians.

    Returns:
        Seconds of the clock, and of the processor: the two differ where
        others keep the processor busy.
    """
    times = []
    for _ in range(PROCESSES):
        run = subprocess.run(
            [sys.executable, "-c", IMPORTING],
            stdout=subprocess.PIPE,
            check=True,
        )
        times.append([float(word) for word in run.stdout.split()])
    return [statistics.median(column) for column in zip(*times, strict=True)]


def overhead(edge, row, calls):
    """Measures one kept row by the cascade and by a bare runner, in turn.

    Returns:
        Dict of microseconds.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(edge.bundle.student_file), num_threads=1)
    runner = interpreter.get_signature_runner("serving_default")
    name = edge.bundle.inputs[0]["name"]
    clock = time.perf_counter
    bare, cascade = [], []
    for _ in range(WARM_UP + calls):
        first = clock()
        runner(**{name: row})
        second = clock()
        edge.predict(row)
        third = clock()
        bare.append(second - first)
        cascade.append(third - second)
    bare, cascade = bare[WARM_UP:], cascade[WARM_UP:]
    found = {}
    for name, times in (("bare", bare), ("cascade", cascade)):
        cuts = statistics.quantiles(times, n=100)
        found[f"{name}_us_p50"] = 1e6 * statistics.median(times)
        found[f"{name}_us_p99"] = 1e6 * cuts[98]
    found["overhead_us_p50"] = found["cascade_us_p50"] - found["bare_us_p50"]
    found["cascade_over_bare"] = found["cascade_us_p50"] / found["bare_us_p50"]
    return found


def rate(prepare, threads, calls):
    """Measures the calls per second of threads that each make `calls`.

    Args:
        prepare: function that a thread calls first; it returns the call.
        threads: int.
        calls: int.
    """
    ready = threading.Barrier(threads + 1)

    def work():
        call = prepare()
        ready.wait()
        for _ in range(calls):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    return threads * calls / (time.perf_counter() - start)


def two_threads(prepare, calls):
    """Measures the throughput of two threads over that of one."""
    ratios = []
    for _ in range(ROUNDS):
        one = rate(prepare, 1, calls)
        ratios.append(rate(prepare, 2, calls) / one)
    return statistics.median(ratios)


def prediction_call(edge, x):
    """Returns a `prepare` that creates a thread's interpreter."""

    def prepare():
        edge.predict(x)
        return lambda: edge.predict(x)

    return prepare


def hashing_call():
    """Returns a call that bounds the speedup of two threads here."""
    block = b"x" * HASHED
    return lambda: hashlib.sha256(block).digest()


def main():
    """Runs the benchmark and prints JSON."""
    bundle, rows, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    imported, imported_cpu = import_seconds()
    from keras_cascade.runtime.bench import resident_mb
    from keras_cascade.runtime.edge_cascade import EdgeCascade

    after_import = resident_mb()
    start = time.perf_counter()
    edge = EdgeCascade.load(bundle)
    loaded = time.perf_counter() - start
    import numpy as np

    rows = np.load(rows, allow_pickle=False)
    kept = edge.predict(rows).source == "edge"
    row = np.ascontiguousarray(rows[kept][:1])
    edge.predict(row)
    found = {
        "import_seconds": imported,
        "import_processor_seconds": imported_cpu,
        "load_seconds": loaded,
        "resident_mb_after_import": after_import,
        "resident_mb": resident_mb(),
        **overhead(edge, row, calls),
        "two_thread_speedup": two_threads(
            prediction_call(edge, row), calls // 4
        ),
        "two_thread_speedup_batch_32": two_threads(
            prediction_call(edge, np.repeat(row, 32, axis=0)), calls // 40
        ),
        "two_thread_speedup_of_hashing": two_threads(hashing_call, calls // 10),
    }
    heavy = {"tensorflow", "keras"} & set(sys.modules)
    if heavy:
        raise RuntimeError(f"Expected neither of {heavy} on the device.")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Client of the soak test: edge cascades at full load, no TensorFlow.

    python -m benchmarks.soak_client BUNDLE ROWS.npy URL...

Predicts until standard input ends, then prints counts as JSON.
"""

import collections
import contextlib
import json
import sys
import threading

import numpy as np

from keras_cascade.runtime import EdgeCascade, TeacherError

THREADS = 2  # for each URL
MAX_ROWS = 32  # of a request


def predict(edge, x, delegated, stop, counts, seed):
    """Predicts random rows until `stop` is set; checks every source."""
    rng = np.random.default_rng(seed)
    counter = collections.Counter()
    while not stop.is_set():
        rows = rng.integers(0, len(x), rng.integers(1, MAX_ROWS + 1))
        counter["requests"] += 1
        counter["rows"] += len(rows)
        try:
            source = edge.predict(x[rows]).source
        except TeacherError:
            counter["errors"] += 1
            continue
        expected = np.where(delegated[rows], "cloud", "edge")
        counter["delegated_rows"] += int(delegated[rows].sum())
        counter["wrong_sources"] += int((source != expected).sum())
    counts.append(counter)


def main():
    """Runs the threads and prints their counts."""
    bundle, file, *urls = sys.argv[1:]
    x = np.load(file)
    with EdgeCascade.load(bundle) as alone:
        delegated = alone.predict(x).source != "edge"
    stop, counts = threading.Event(), []
    with contextlib.ExitStack() as stack:
        threads = []
        for number, url in enumerate(urls):
            edge = stack.enter_context(
                EdgeCascade.load(bundle, teacher=url, on_failure="raise")
            )
            threads += [
                threading.Thread(
                    target=predict,
                    args=(edge, x, delegated, stop, counts, (number, each)),
                )
                for each in range(THREADS)
            ]
        for one in threads:
            one.start()
        print("begun", flush=True)
        sys.stdin.read()
        stop.set()
        for one in threads:
            one.join()
    if len(counts) != len(threads):
        raise RuntimeError("A thread died.")
    total = collections.Counter(errors=0, wrong_sources=0)
    for counter in counts:
        total.update(counter)
    total["tensorflow_loaded"] = int("tensorflow" in sys.modules)
    print(json.dumps(total))


if __name__ == "__main__":
    main()

"""Edge cascades at full load, in a process without TensorFlow.

    python -m benchmarks.soak_client BUNDLE ROWS.npy URL...

Asks until standard input ends, then prints counts as JSON.
"""

import collections
import contextlib
import json
import sys
import threading

import numpy as np

from keras_cascade.runtime import EdgeCascade, TeacherError

THREADS = 2  # for each URL
LARGEST = 32  # rows of a request


def ask(edge, x, delegated, stop, counts, seed):
    """Asks until it is told to stop; every answer is looked at."""
    dice = np.random.default_rng(seed)
    found = collections.Counter()
    while not stop.is_set():
        rows = dice.integers(0, len(x), dice.integers(1, LARGEST + 1))
        found["requests"] += 1
        found["rows"] += len(rows)
        try:
            source = edge.predict(x[rows]).source
        except TeacherError:
            found["errors"] += 1
            continue
        wanted = np.where(delegated[rows], "cloud", "edge")
        found["delegated_rows"] += int(delegated[rows].sum())
        found["wrong_sources"] += int((source != wanted).sum())
    counts.append(found)


def main():
    """Reads the arguments, asks, prints."""
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
                    target=ask,
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
    for found in counts:
        total.update(found)
    total["tensorflow_loaded"] = int("tensorflow" in sys.modules)
    print(json.dumps(total))


if __name__ == "__main__":
    main()

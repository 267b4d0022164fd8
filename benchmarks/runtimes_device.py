"""Device side of `benchmarks.runtimes`, without TensorFlow and Keras.

    python -m benchmarks.runtimes_device BUNDLE ROWS.npy

prints JSON.
"""

import json
import statistics
import sys
import time

import numpy as np

from keras_cascade.runtime import EdgeCascade

SIZES = (1, 2, 3, 7, 32, 64, 100, 256)
WARM_UP = 100
CALLS = 5_000


def parts(rows):
    """Yields every row alone, then batches of every size."""
    for row in range(len(rows)):
        yield rows[row : row + 1]
    for size in SIZES:
        for start in range(0, len(rows) - size + 1, max(size, 256)):
            yield rows[start : start + size]


def compared(interpreter, compiled, rows):
    """Counts differences between the two runtimes."""
    found = {
        "single_rows": len(rows),
        "batches_of": list(SIZES),
        "rows": 0,
        "delegated": 0,
        "decision_flips": 0,
        "label_flips": 0,
        "max_probability_difference": 0.0,
        "max_score_difference": 0.0,
    }
    for part in parts(rows):
        one, other = interpreter.predict(part), compiled.predict(part)
        found["rows"] += len(part)
        found["delegated"] += int((one.source != "edge").sum())
        found["decision_flips"] += int((one.source != other.source).sum())
        found["label_flips"] += int((one.labels != other.labels).sum())
        for name, key in (
            ("probabilities", "max_probability_difference"),
            ("score", "max_score_difference"),
        ):
            gap = np.abs(getattr(one, name) - getattr(other, name)).max()
            found[key] = max(found[key], float(gap))
    return found


def kept_row(cascades, row, calls):
    """Measures one kept row in each runtime, in turn.

    Returns:
        Dict of microseconds at the median, and their ratio.
    """
    times = {name: [] for name in cascades}
    for _ in range(WARM_UP + calls):
        for name, cascade in cascades.items():
            start = time.perf_counter()
            cascade.predict(row)
            times[name].append(time.perf_counter() - start)
    medians = {
        name: 1e6 * statistics.median(values[WARM_UP:])
        for name, values in times.items()
    }
    return {
        "kept_row_us_p50": medians,
        "kept_row_compiled_over_interpreter": medians["compiled"]
        / medians["interpreter"],
    }


def main():
    """Runs the benchmark and prints JSON."""
    path, rows = sys.argv[1], np.load(sys.argv[2], allow_pickle=False)
    with (
        EdgeCascade.load(path) as interpreter,
        EdgeCascade.load(path, runtime="compiled") as compiled,
    ):
        kept = interpreter.predict(rows[:256]).source == "edge"
        row = np.ascontiguousarray(rows[:256][kept][:1])
        found = {
            **compared(interpreter, compiled, rows),
            **kept_row(
                {"interpreter": interpreter, "compiled": compiled},
                row,
                min(CALLS, len(rows)),
            ),
        }
    heavy = {"tensorflow", "keras"} & set(sys.modules)
    if heavy:
        raise RuntimeError(f"Expected neither of {heavy} on the device.")
    print(json.dumps(found))


if __name__ == "__main__":
    main()

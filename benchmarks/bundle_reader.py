"""Opens bundles as a device does, and prints the outcomes.

    python -m benchmarks.bundle_reader

Reads the path of a bundle from each line of standard input, loads it, answers
one row, and prints a line of JSON. It is a process of its own, so that a crash
can be assigned to its bundle.
"""

import json
import math
import resource
import sys
import warnings

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.runtime import EdgeCascade

MEMORY = 8 * 1024**3  # address space: a bundle must not take the machine's
MOST_VALUES = 10**6


def row_for(specs):
    """Creates one random row that fits the manifest."""
    rng, row = np.random.default_rng(0), {}
    for spec in specs:
        shape = [4 if size is None else size for size in spec["shape"][1:]]
        if math.prod(shape) > MOST_VALUES:
            raise ValueError("Expected a smaller row.")
        values = rng.random([1, *shape])
        if spec["dtype"] == "string":
            row[spec["name"]] = np.full(values.shape, "x", dtype=object)
        else:
            row[spec["name"]] = values.astype(spec["dtype"])
    return row


def opened(path):
    """Returns a bundle's answers, or its error, JSON-compatible."""
    try:
        row = row_for(Bundle.load(path).inputs)
        with EdgeCascade.load(path) as edge:
            prediction = edge.predict(row)
            return {
                "answers": {
                    "classes": edge.bundle.classes,
                    "labels": prediction.labels.tolist(),
                    "probabilities": repr(prediction.probabilities.tolist()),
                    "score": repr(prediction.score.tolist()),
                    "source": prediction.source.tolist(),
                    "operating_point": edge.operating_point,
                    "points": edge.operating_points,
                }
            }
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)[:500]}


def main():
    """Reads paths and prints outcomes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        print(json.dumps(opened(line.rstrip("\n"))), flush=True)


if __name__ == "__main__":
    main()

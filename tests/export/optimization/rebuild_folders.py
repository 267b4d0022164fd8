"""Rebuilds students in a process that imports Keras 2.

`python rebuild_folders.py FOLDER ...` prints one JSON object: by folder, how
far the rebuilt student is from the reference, and what QAT makes of it.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.child.keras2_student import (
    check,
    custom_objects,
    model_of,
    rebuild,
)
from keras_cascade.export.optimization.child.split_graph import (
    split_graph,
    split_separable_convs,
)
from keras_cascade.export.optimization.job_folder import (
    JOB_FILE,
    read_json,
    read_reference,
    read_weights,
)


def rebuilt(folder):
    """Comparison of one rebuilt student with its reference."""
    job = read_json(folder / JOB_FILE)
    reference = read_reference(folder)
    try:
        tensors = rebuild(
            job["inputs"], job["steps"], read_weights(folder, job)
        )
        check(tensors, job, reference)
    except ExportError as error:
        return {"error": str(error)}
    model = model_of(tensors, job["inputs"], [job["output"]])
    found = model([reference[name] for name in job["inputs"]], training=False)
    expected = reference[job["output"]]
    steps, weights = split_separable_convs(
        job["steps"], read_weights(folder, job)
    )
    tensors = rebuild(job["inputs"], steps, weights)
    model = model_of(tensors, job["inputs"], [job["output"]])
    again = model([reference[name] for name in job["inputs"]], training=False)
    parts = split_graph(steps, tensors, [job["output"]])
    return {
        "gap": float(np.abs(found - expected).max()),
        "split_gap": float(np.abs(again - expected).max()),
        "size": float(np.abs(expected).max()),
        "before": sorted(parts.before),
        "in_float": dict(parts.in_float),
        "output_only": sorted(parts.output_only),
    }


def main():
    """Rebuilds the students of the folders in `sys.argv`."""
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import tf_keras

    with tf_keras.utils.custom_object_scope(custom_objects()):
        results = {
            Path(folder).name: rebuilt(Path(folder)) for folder in sys.argv[1:]
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()

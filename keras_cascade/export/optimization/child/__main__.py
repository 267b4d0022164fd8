"""Entry point of `python -m keras_cascade.export.optimization.child`.

It alone imports TensorFlow Model Optimization, which switches the process
that does so, and all that it starts, to Keras 2.
"""

import importlib.metadata
import os
import sys
from pathlib import Path

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.functional_config import (
    StudentRefusedError,
)
from keras_cascade.export.optimization.job_folder import (
    ERROR_FILE,
    ERROR_STATUS,
    JOB_FILE,
    REFUSED_STATUS,
    RESULTS_FILE,
    STUDENT_FOLDER,
    read_json,
    write_json,
)
from keras_cascade.utils.child_process import requests_of_parent

VERSIONED = (
    "keras",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf_keras",
)


def main():
    """Runs the job in the folder `sys.argv[1]`; returns the exit status."""
    requests_of_parent()
    folder = Path(sys.argv[1])
    try:
        _run(folder)
    except ExportError as error:
        (folder / ERROR_FILE).write_text(str(error), encoding="utf-8")
        refused = isinstance(error, StudentRefusedError)
        return REFUSED_STATUS if refused else ERROR_STATUS
    return 0


def _run(folder):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import keras  # Keras 3: policies are written in its operations
    import tensorflow as tf
    import tf_keras

    from keras_cascade.export.optimization.child.keras2_student import (
        custom_objects,
    )
    from keras_cascade.export.optimization.child.stages import optimize

    job = read_json(folder / JOB_FILE)
    sys.path.extend(path for path in job["path"] if path not in sys.path)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(job["seed"])
    tf_keras.utils.set_random_seed(job["seed"])
    with tf_keras.utils.custom_object_scope(custom_objects()):
        model, results = optimize(job, folder)
    _save(model, job, folder / STUDENT_FOLDER)
    results["versions"] = {
        package: importlib.metadata.version(package) for package in VERSIONED
    }
    write_json(folder / RESULTS_FILE, results)


def _save(model, job, folder):
    """Writes a SavedModel from named inputs to named outputs."""
    import tensorflow as tf

    names = [job["output"], *job["features"].values()]
    specs = {
        name: tf.TensorSpec([None, *spec["shape"]], spec["dtype"], name=name)
        for name, spec in job["inputs"].items()
    }

    @tf.function(input_signature=[specs])
    def run(inputs):
        outputs = model([inputs[name] for name in specs], training=False)
        return dict(zip(names, tf.nest.flatten(outputs), strict=True))

    module = tf.Module()
    # The variables only: nothing of Keras 2 is to be loaded again.
    module.model_variables = list(model.variables)
    module.run = run
    tf.saved_model.save(module, str(folder))


if __name__ == "__main__":
    sys.exit(main())

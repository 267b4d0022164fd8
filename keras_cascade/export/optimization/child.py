"""The child process: `python -m keras_cascade.export.optimization.child`.

It alone imports TensorFlow Model Optimization, which turns the process that
does so, and all that it starts, to Keras 2.
"""

import importlib.metadata
import os
import sys
import threading
from pathlib import Path

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.child_process import (
    REFUSAL_FILE,
    REFUSED,
)
from keras_cascade.export.optimization.job_folder import (
    JOB_FILE,
    RESULTS_FILE,
    STUDENT_FOLDER,
    read_json,
    write_json,
)

VERSIONED = (
    "keras",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf_keras",
)


def main():
    """Does the job that the folder in `sys.argv` describes."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    folder = Path(sys.argv[1])
    try:
        _run(folder)
    except ExportError as error:
        (folder / REFUSAL_FILE).write_text(str(error), encoding="utf-8")
        return REFUSED
    return 0


def _stop_with_parent():
    """Waits for the parent's end of the pipe to close."""
    os.read(sys.stdin.fileno(), 1)  # a buffered read would hold a lock
    os._exit(1)


def _run(folder):
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import keras  # Keras 3: policies are written in its operations
    import tensorflow as tf
    import tf_keras

    from keras_cascade.export.optimization.stages import optimize
    from keras_cascade.export.optimization.tf_keras_layers import (
        custom_objects,
    )

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
    """Writes the student alone: inputs by name to outputs by name."""
    import tensorflow as tf

    wanted = [job["output"], *job["features"].values()]
    specs = {
        name: tf.TensorSpec([None, *spec["shape"]], spec["dtype"], name=name)
        for name, spec in job["inputs"].items()
    }

    @tf.function(input_signature=[specs])
    def run(inputs):
        outputs = model([inputs[name] for name in specs], training=False)
        return dict(zip(wanted, tf.nest.flatten(outputs), strict=True))

    module = tf.Module()
    # The variables only: nothing of Keras 2 is to be loaded again.
    module.held = list(model.variables)
    module.run = run
    tf.saved_model.save(module, str(folder))


if __name__ == "__main__":
    sys.exit(main())

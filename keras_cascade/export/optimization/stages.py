"""In the child: what each mode does, stage after stage."""

import keras
import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.compressing import (
    cluster,
    prune,
    weights_by_layer,
)
from keras_cascade.export.optimization.fine_tuning import Examples, FineTuning
from keras_cascade.export.optimization.job_folder import (
    read_examples,
    read_reference,
    read_weights,
)
from keras_cascade.export.optimization.kernels import measured_kernels
from keras_cascade.export.optimization.quantizing import quantize
from keras_cascade.export.optimization.rebuilding import (
    check,
    model_of,
    rebuild,
)


def optimize(job, folder):
    """Rebuilds the student, checks it, and optimizes it.

    Args:
        job: dict that `optimize_student` wrote.
        folder: path with the arrays.

    Returns:
        `(model, results)`: a `tf_keras.Model` from a list of inputs to the
        student's outputs and the features that the gate looks at; and a
        JSON-compatible dict.
    """
    weights = read_weights(folder, job)
    tensors = rebuild(job["inputs"], job["steps"], weights)
    check(tensors, job, read_reference(folder))
    wanted = [job["output"], *job["features"].values()]
    model = model_of(tensors, job["inputs"], wanted)
    tuning = _tuning(job, folder)
    history = {"before": [tuning.evaluate(model)]}
    left = []
    stages = job["mode"].split("+")
    for stage in stages:
        if stage == "prune":
            model, losses, here = prune(model, tuning, job["sparsity"])
        elif stage == "cluster":
            model, losses, here = cluster(model, tuning, job["clusters"])
        else:
            before = stages[0] if len(stages) > 1 else None
            model, losses, here = quantize(
                job, weights_by_layer(model), tuning, preserve=before
            )
        history[stage] = losses
        left += here
    if not all(
        np.isfinite(loss) for losses in history.values() for loss in losses
    ):
        raise ExportError(
            "Fine-tuning diverged: the loss is not a number. Pass a smaller "
            f"`learning_rate` than {job['learning_rate']}."
        )
    sources = {step["name"]: step["source"] for step in job["steps"]}
    kernels = measured_kernels(model)
    return model, {
        "history": history,
        "left_in_float": [[sources.get(name, name), why] for name, why in left],
        "sparsity": {
            sources.get(name, name): zeros
            for name, (zeros, _) in kernels.items()
        },
        "clusters": {
            sources.get(name, name): values
            for name, (_, values) in kernels.items()
        },
    }


def _tuning(job, folder):
    from keras_cascade import distillation

    examples = Examples(**read_examples(folder, len(job["inputs"])))
    try:
        policy = distillation.get(job["policy"])
    except (ImportError, TypeError, ValueError) as error:
        raise ExportError(
            "The distillation policy cannot be made again in the process "
            "that optimizes. Expected: a class of keras_cascade, or one "
            "registered in a module that can be imported. Received: "
            f"'{job['policy'].get('class_name')}'. ({error})"
        ) from error
    keras.utils.set_random_seed(job["seed"])
    return FineTuning(
        policy, examples, job["epochs"], job["batch_size"],
        job["learning_rate"], job["seed"],
    )  # fmt: skip

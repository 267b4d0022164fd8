"""Stages of each optimization mode."""

import keras
import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.export.optimization.child.keras2_student import (
    check,
    model_of,
    rebuild,
)
from keras_cascade.export.optimization.child.quantization_aware_training import (  # noqa: E501
    train_quantized,
)
from keras_cascade.export.optimization.child.weight_compression import (
    measured_kernels,
    train_clustered,
    train_pruned,
    weights_by_layer,
)
from keras_cascade.export.optimization.fine_tuner import (
    Examples,
    FineTuner,
)
from keras_cascade.export.optimization.job_folder import (
    read_examples,
    read_reference,
    read_weights,
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
    names = [job["output"], *job["features"].values()]
    model = model_of(tensors, job["inputs"], names)
    tuner = _fine_tuner(job, folder)
    history = {"before": [tuner.evaluate(model)]}
    skipped = []
    stages = job["mode"].split("+")
    for stage in stages:
        if stage == "prune":
            model, losses, layers = train_pruned(model, tuner, job["sparsity"])
        elif stage == "cluster":
            model, losses, layers = train_clustered(
                model, tuner, job["clusters"]
            )
        else:
            before = stages[0] if len(stages) > 1 else None
            model, losses, layers = train_quantized(
                job, weights_by_layer(model), tuner, preserve=before
            )
        history[stage] = losses
        skipped += layers
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
        "left_in_float": [
            [sources.get(name, name), why] for name, why in skipped
        ],
        "sparsity": {
            sources.get(name, name): zeros
            for name, (zeros, _) in kernels.items()
        },
        "clusters": {
            sources.get(name, name): values
            for name, (_, values) in kernels.items()
        },
    }


def _fine_tuner(job, folder):
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
    return FineTuner(
        policy, examples, job["epochs"], job["batch_size"],
        job["learning_rate"], job["seed"],
    )  # fmt: skip

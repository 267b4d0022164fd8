"""In the child: the student, or a part of it, as a Keras 2 model."""

import numpy as np

from keras_cascade.export.optimization.tf_keras_layers import (
    make_layer,
    refusal,
)


def rebuild(inputs, steps, weights):
    """Builds layers upon inputs, and sets their weights.

    Args:
        inputs: dict of name to `{"shape", "dtype"}`, without batch.
        steps: list of dicts, as `Step.describe` gives them.
        weights: dict of step name to list of arrays.

    Returns:
        Dict of name to symbolic tensor, the inputs' first.

    Raises:
        ExportError: a layer that Keras 2 cannot take, by name.
    """
    import tf_keras

    tensors = {
        name: tf_keras.Input(spec["shape"], dtype=spec["dtype"], name=name)
        for name, spec in inputs.items()
    }
    for step in steps:
        layer = make_layer(step)
        given = [tensors[name] for name in step["inputs"]]
        try:
            outputs = layer(given if len(given) > 1 else given[0])
            layer.set_weights(weights[step["name"]])
        except (TypeError, ValueError) as error:
            raise refusal(step, f"Keras 2 says: {error}") from error
        if not hasattr(outputs, "shape"):
            raise refusal(step, "It has several outputs.")
        tensors[step["name"]] = outputs
    return tensors


def model_of(tensors, inputs, outputs):
    """The model between named tensors of `rebuild`."""
    import tf_keras

    return tf_keras.Model(
        [tensors[name] for name in inputs],
        [tensors[name] for name in outputs],
    )


def check(tensors, job, reference):
    """Compares every layer with what the student's own layer answers.

    Args:
        tensors: what `rebuild` returned for the whole student.
        job: dict with `inputs`, `steps` and `tolerance`.
        reference: dict of name to array, of inputs and steps.

    Raises:
        ExportError: names the first layer that answers otherwise.
    """
    compared = [step for step in job["steps"] if step["name"] in reference]
    model = model_of(
        tensors, job["inputs"], [step["name"] for step in compared]
    )
    found = model([reference[name] for name in job["inputs"]], training=False)
    for step, array in zip(compared, found, strict=True):
        expected = reference[step["name"]]
        if tuple(array.shape) != expected.shape:
            raise refusal(
                step,
                f"Rebuilt, it has the shape {tuple(array.shape)} where "
                f"{expected.shape} is expected.",
            )
        size = max(1.0, float(np.abs(expected).max(initial=0.0)))
        gap = float(np.abs(array - expected).max(initial=0.0)) / size
        if not gap <= job["tolerance"]:
            raise refusal(
                step,
                f"Rebuilt, its outputs differ by {gap:.2g} where at most "
                f"{job['tolerance']:.0e} is expected.",
            )

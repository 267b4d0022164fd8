"""What a cascade expects of its teacher and student."""

import keras
import numpy as np


def check_models(teacher, student):
    """Checks what can be known before any data is seen.

    Returns:
        Number of classes, or `None` while a model is not built.
    """
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"Expected the {role} to be a `keras.Model` from inputs to "
                f"logits. Received: {type(model).__name__}."
            )
        _check_last_activation(role, model)
    sizes = {
        role: _static_classes(role, model)
        for role, model in (("teacher", teacher), ("student", student))
    }
    return check_same_classes(sizes)


def check_logits(role, logits):
    """Checks what a model actually outputs on some examples.

    Args:
        role: `"teacher"` or `"student"`.
        logits: array that the model returned.

    Returns:
        Number of classes.
    """
    if isinstance(logits, (dict, list, tuple)) or np.ndim(logits) != 2:
        raise ValueError(
            f"Expected the {role} to output one tensor of logits, of shape "
            f"(batch, classes). Received: {_described(logits)}."
        )
    logits = np.asarray(logits, dtype="float32")
    if logits.shape[1] < 2:
        raise ValueError(
            f"Expected the {role} to output logits for at least 2 classes. "
            f"Received {logits.shape[1]}. A binary model needs two logits, "
            "such as `Dense(2)`."
        )
    if not np.isfinite(logits).all():
        raise ValueError(
            f"The {role} outputs NaN or infinity on finite inputs. Its "
            "weights are damaged or its inputs far out of range."
        )
    sums_to_one = np.abs(logits.sum(axis=1) - 1.0).max() < 1e-3
    if logits.min() >= 0 and logits.max() <= 1.0 + 1e-6 and sums_to_one:
        raise ValueError(_probabilities_message(role))
    return logits.shape[1]


def check_same_classes(sizes):
    """Raises unless both roles of `sizes` have the same number of classes.

    Args:
        sizes: dict of `"teacher"` and `"student"` to a number or `None`.

    Returns:
        The number, or `None` while one is not known.
    """
    known = {size for size in sizes.values() if size is not None}
    if len(known) > 1:
        raise ValueError(
            "Expected teacher and student to output logits over the same "
            f"classes. Received: teacher {sizes['teacher']}, student "
            f"{sizes['student']}. Give both the same last layer size."
        )
    return known.pop() if None not in sizes.values() else None


def _static_classes(role, model):
    if not (_has_layer_graph(model) and model.built):
        return None
    shape = model.output_shape
    if isinstance(shape, (dict, list)) or len(shape) != 2:
        raise ValueError(
            f"Expected the {role} to output one tensor of logits, of shape "
            f"(batch, classes). Received output shape: {shape}."
        )
    return shape[-1]


def _check_last_activation(role, model):
    if not (_has_layer_graph(model) and model.layers):
        return
    last = model.layers[-1]
    activation = getattr(last, "activation", None)
    squashing = (keras.activations.softmax, keras.activations.sigmoid)
    if activation in squashing or isinstance(last, keras.layers.Softmax):
        raise ValueError(_probabilities_message(role))


def _has_layer_graph(model):
    """Whether the model is Sequential or Functional, with known shapes."""
    return getattr(model, "inputs", None) is not None


def _probabilities_message(role):
    return (
        f"Expected the {role} to output logits. It outputs probabilities. "
        f"Remove the softmax or sigmoid from the {role}'s last layer "
        "(`Dense(classes)` without an activation), and train it with "
        "`SparseCategoricalCrossentropy(from_logits=True)`."
    )


def _described(output):
    if isinstance(output, dict):
        return f"a dict with the keys {sorted(output)}"
    if isinstance(output, (list, tuple)):
        return f"{len(output)} tensors"
    return f"shape {np.shape(output)}"

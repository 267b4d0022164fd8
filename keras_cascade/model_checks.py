"""Checks of a cascade's teacher and student."""

import keras
import numpy as np

from keras_cascade.text.text_columns import is_text
from keras_cascade.text.text_model import TextModel

#: So many outputs strictly between 0 and 1, and none outside, are no logits.
SIGMOID_SIZE = 64

_NOT_FINITE = (
    "The {role} outputs NaN or infinity on finite inputs. Its weights are "
    "damaged or its inputs far out of range."
)


def check_models(teacher, student, policy):
    """Checks two models before any data is seen.

    Args:
        teacher: the teacher.
        student: the student.
        policy: `DistillationPolicy`; says how many outputs the student has.

    Returns:
        Number of classes, or `None` while a model is not built.
    """
    check_roles(teacher, student, "that classifies")
    sizes = {
        role: _static_classes(role, model)
        for role, model in (("teacher", teacher), ("student", student))
    }
    return check_same_classes(sizes, policy)


def check_roles(teacher, student, kind="that fits the task"):
    """Raises unless both are Keras models.

    Args:
        teacher: the teacher.
        student: the student.
        kind: str, which models are expected, for the error.
    """
    for role, model in (("teacher", teacher), ("student", student)):
        if not isinstance(model, keras.Model):
            raise ValueError(
                f"Expected the {role} to be a `keras.Model` {kind}. "
                f"Received: {type(model).__name__}."
            )


def check_first_outputs(outputs, policy):
    """Checks what two models returned for their first inputs.

    Args:
        outputs: dict of `"teacher"` and `"student"` to the logits, or of a
            cascade to its dict of outputs.
        policy: `DistillationPolicy`; says how many outputs the student has.

    Returns:
        Number of classes.
    """
    sizes = {}
    for role, logits in outputs.items():
        if isinstance(logits, dict) and "logits" in logits:  # a cascade
            logits = logits["logits"]
        sizes[role] = check_model_outputs(role, logits)
    return check_same_classes(sizes, policy)


def check_same_form(model, x, example):
    """Checks one array against the inputs that a model took first.

    Other structures, batches and texts are left to the model.

    Args:
        model: built `keras.Model`.
        x: the inputs.
        example: inputs that it took first, or `None`.

    Raises:
        ValueError: another number of axes, or another size of an axis that is
            fixed.
    """
    arrays = isinstance(x, np.ndarray) and isinstance(example, np.ndarray)
    if not arrays or x.dtype.kind not in "biuf" or example.dtype.kind == "O":
        return
    inputs = getattr(model, "inputs", None) or []
    fixed = inputs[0].shape if len(inputs) == 1 else (None,) * example.ndim
    sizes = tuple(
        None if axis < len(fixed) and fixed[axis] is None else size
        for axis, size in enumerate(example.shape)
    )[1:]
    # Keras adds or drops a last axis of one.
    forms = [sizes, (*sizes, 1)]
    if example.shape[1:][-1:] == (1,):
        forms.append(sizes[:-1])
    same = x.ndim > 0 and any(_fits(x.shape[1:], form) for form in forms)
    if not same:
        shape = ("batch", *example.shape[1:])
        advice = ""
        if x.shape == example.shape[1:]:
            advice = " One example alone is a batch too: pass `x[None]`."
        raise ValueError(
            f"Expected inputs of shape {shape}. Received: {x.shape}.{advice}"
        )


def _fits(shape, sizes):
    """Returns whether a shape has given sizes, of which `None` is any."""
    return len(shape) == len(sizes) and all(
        size is None or one == size
        for one, size in zip(shape, sizes, strict=True)
    )


def check_model_outputs(role, logits):
    """Checks the form of the logits that a model returned for some examples.

    Args:
        role: `"teacher"` or `"student"`.
        logits: array that the model returned.

    Returns:
        Number of classes.
    """
    return _checked(role, logits).shape[1]


def check_logits(role, logits):
    """Checks logits at hand, which must be no probabilities.

    Args:
        role: `"teacher"` or `"student"`.
        logits: array `(examples, classes)`.

    Returns:
        Number of classes.
    """
    values = _checked(role, logits)
    dtype = keras.backend.standardize_dtype(
        keras.ops.convert_to_tensor(logits).dtype
    )
    tolerance = 2e-2 if dtype in ("bfloat16", "float16") else 1e-3
    shares = values.min() >= 0 and values.max() <= 1.0 + tolerance
    if not shares:
        return values.shape[1]
    sums_to_one = np.abs(values.sum(axis=1) - 1.0).max() < tolerance
    # A new model's logits are all small: of sigmoids some are above a half.
    some = values.min() > 0 and values.max() > 0.5
    if sums_to_one or (some and values.size >= SIGMOID_SIZE):
        raise ValueError(
            f"Expected logits of the {role}. Received probabilities. Give the "
            "model to a `Cascade`, which reads its logits, or pass the "
            "logarithms of the probabilities."
        )
    return values.shape[1]


def check_outputs(role, outputs, activation):
    """Checks outputs of a task that is not one class per example.

    Args:
        role: `"teacher"` or `"student"`.
        outputs: array that the model returned for some examples.
        activation: str, of the task, which is computed of the outputs.

    Returns:
        Shape of the outputs.

    Raises:
        ValueError: several outputs, NaN, or values that the activation was
            computed of already.
    """
    if isinstance(outputs, (dict, list, tuple)):
        raise ValueError(
            f"Expected the {role} to output one tensor. Received: "
            f"{_described(outputs)}."
        )
    values = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if not np.isfinite(values).all():
        raise ValueError(_NOT_FINITE.format(role=role))
    shares = 0 <= values.min() < values.max() <= 1.0
    sums_to_one = np.abs(values.sum(axis=-1) - 1.0).max() < 1e-3
    computed = {
        "softmax": shares and values.shape[-1] > 1 and sums_to_one,
        # Of so many logits some are below 0, also where labels are rare.
        "sigmoid": shares and values.size >= SIGMOID_SIZE,
    }
    if computed.get(activation):
        raise ValueError(
            f"Expected logits of the {role}, of which the task computes the "
            f"{activation}. Received probabilities. End the model in its "
            "logits."
        )
    return values.shape


def _checked(role, logits):
    """Float32 array of finite logits for at least two classes."""
    if isinstance(logits, (dict, list, tuple)) or np.ndim(logits) != 2:
        raise ValueError(
            f"Expected the {role} to output one tensor, of shape (batch, "
            "classes), or (batch, 1) with two classes. Received: "
            f"{_described(logits)}."
        )
    logits = keras.ops.convert_to_tensor(logits)
    logits = keras.ops.convert_to_numpy(keras.ops.cast(logits, "float32"))
    if logits.shape[1] < 2:
        raise ValueError(
            f"Expected logits of the {role} for at least 2 classes. Received: "
            f"{logits.shape[1]}."
        )
    if not np.isfinite(logits).all():
        raise ValueError(_NOT_FINITE.format(role=role))
    return logits


def check_takes_texts(role, model, inputs):
    """Raises where texts are given to a model of numbers.

    Args:
        role: `"teacher"` or `"student"`.
        model: `keras.Model`.
        inputs: example inputs.
    """
    names = getattr(model, "inputs", None) or ()
    if isinstance(model, TextModel) or not names:
        return
    texts = any(is_text(one) for one in keras.tree.flatten(inputs))
    if texts and not any(tensor.dtype == "string" for tensor in names):
        raise ValueError(
            f"Expected the {role} to take texts, as the data has them. "
            f"Received '{model.name}', which takes "
            f"{names[0].dtype} and has no preprocessor. Wrap it: "
            "`keras_cascade.text.TextModel(model, preprocessor)`, with "
            "`keras_cascade.text.train_tokenizer(texts)` for one."
        )


def check_same_classes(sizes, policy):
    """Raises unless both roles of `sizes` have the same number of classes.

    Args:
        sizes: dict of `"teacher"` and `"student"` to a number or `None`.
        policy: `DistillationPolicy`.

    Returns:
        The number, or `None` while one is not known.
    """
    teacher, student = sizes["teacher"], sizes["student"]
    if teacher is None or student is None:
        return None
    expected = policy.student_outputs(teacher)
    if student == expected:
        return teacher
    if expected != teacher:
        raise ValueError(
            f"{type(policy).__name__} needs a student with {expected} "
            f"outputs. Received: {student}. Make its last layer with "
            "`policy.student_head()`."
        )
    raise ValueError(
        "Expected teacher and student to have the same classes. Received: "
        f"teacher {teacher}, student {student}. Give both the same number of "
        "outputs; one output is two classes."
    )


def _static_classes(role, model):
    if not (_has_layer_graph(model) and model.built):
        return None
    shape = model.output_shape
    if isinstance(shape, (dict, list)) or len(shape) != 2:
        raise ValueError(
            f"Expected the {role} to output one tensor, of shape (batch, "
            "classes), or (batch, 1) with two classes. Received output "
            f"shape: {shape}."
        )
    return shape[-1]


def _has_layer_graph(model):
    """Tells whether the model is Sequential or Functional."""
    return getattr(model, "inputs", None) is not None


def _described(output):
    if isinstance(output, dict):
        return f"a dict with the keys {sorted(output)}"
    if isinstance(output, (list, tuple)):
        return f"{len(output)} tensors"
    return f"shape {np.shape(output)}"

"""Logits of any classifier: the model that a cascade runs."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_cascade.models.called_logits import CalledLogits
from keras_cascade.models.heads import has_graph, last_activation
from keras_cascade.models.logits_view import LogitsView
from keras_cascade.models.preprocessed_model import (
    PreprocessedModel,
    with_own_preprocessor,
)
from keras_cascade.text.text_model import TextModel
from keras_cascade.utils.answer_form import SIGMOID, SOFTMAX

_VIEWS = (LogitsView, CalledLogits)
#: So many outputs between 0 and 1, and none outside, are no logits, ...
_OF_A_SIGMOID = 64
#: ... or so many of a model with one output.
_OF_ONE_SIGMOID = 32
#: Factors of float inputs: of logits some leave [0, 1], no probabilities do.
_FACTORS = (-8.0, 64.0)


def logits_model(model: Any) -> Any:
    """Returns the model of a classifier's logits, with the same weights.

    - A model that ends in softmax or sigmoid (the activation of its last
      layer, a `Softmax` or `Activation` layer or operation, or a model at its
      end that does) is read before that activation.
    - One logit z becomes the two logits `(0, z)` of classes 0 and 1.
    - A model that brings a preprocessor, such as a KerasHub task, runs behind
      it.

    Anything else is returned as it is: a model of logits, a `Cascade`, a
    model that is not built. The model itself is not changed.

    Args:
        model: `keras.Model`.

    Returns:
        `keras.Model` from the same inputs to logits `(batch, classes)`.

    Raises:
        ValueError: a softmax over one output, which is always 1.

    Example:

    >>> import keras, numpy as np
    >>> import keras_cascade as kc
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    ... )
    >>> logits = kc.models.logits_model(model)
    >>> x = np.ones((2, 4), "float32")
    >>> bool(np.allclose(keras.ops.softmax(logits(x)), model(x), atol=1e-6))
    True
    """
    return _with_inner(with_own_preprocessor(model), _viewed)


def outputs_model(model: Any, activation: str) -> Any:
    """Returns the model of a model's outputs before a given activation.

    For other tasks than one class per example: one output stays one.

    Args:
        model: `keras.Model`.
        activation: `"softmax"` or `"sigmoid"`, which is left out where the
            model ends in it; or another name.

    Returns:
        `keras.Model`, with the same weights; a model that ends otherwise is
        returned as it is.
    """

    def viewed(inner):
        ends_in_it = last_activation(inner) == activation
        if isinstance(inner, _VIEWS) or not ends_in_it:
            return inner
        return LogitsView(inner, binary=False)

    return _with_inner(with_own_preprocessor(model), viewed)


def logits_model_on(role: str, model: Any, inputs: Any) -> Any:
    """Returns the model of a classifier's logits, as its outputs tell.

    Runs the model. Where it is built by that, or turns out to have one output
    or to output probabilities that nothing can be read before, what
    `logits_model` returns is replaced.

    Args:
        role: `"teacher"` or `"student"`, for messages.
        model: what `logits_model` returned.
        inputs: a batch of inputs.

    Returns:
        `(model, logits)`, the logits of the inputs as the model returns them.
    """
    outputs = model(inputs, training=False)
    if not isinstance(model, keras.Model) or isinstance(outputs, dict):
        return model, outputs
    if isinstance(outputs, (list, tuple)) or len(outputs.shape) != 2:
        return model, outputs  # an error soon
    again = logits_model(model)  # it may have been built only now
    if again is not model:
        model, outputs = again, again(inputs, training=False)
    # Of a view the one output is already two.
    if issubclass(_innermost(model), _VIEWS):
        return model, outputs
    kind = _probabilities(model, inputs, outputs)
    if kind is None and outputs.shape[-1] != 1:
        return model, outputs
    if kind is not None:
        _warn_of_probabilities(role, model, kind)
    model = _with_inner(model, lambda inner: _called(inner, kind))
    return model, model(inputs, training=False)


def _with_inner(model, change):
    """The model with its inner one changed, behind the same preprocessor."""
    if isinstance(model, (TextModel, PreprocessedModel)):
        inner = change(model.model)
        if inner is model.model:
            return model
        if isinstance(model, TextModel):
            return TextModel(
                inner, model.preprocessor, model.fields, name=model.name
            )
        return PreprocessedModel(inner, name=model.name)
    return change(model)


def _innermost(model):
    inner = isinstance(model, (TextModel, PreprocessedModel))
    return type(model.model if inner else model)


def _viewed(model):
    if isinstance(model, _VIEWS) or not has_graph(model):
        return model
    shape = model.output_shape
    if isinstance(shape, (dict, list)) or len(shape) != 2:
        return model
    activation = last_activation(model)
    if activation is None and shape[-1] != 1:
        return model
    if activation == SOFTMAX and shape[-1] == 1:
        raise ValueError(
            f"The model '{model.name}' ends in a softmax over one output, "
            "which is 1 for every input. Expected: "
            "`Dense(1, activation='sigmoid')`, or a softmax over two outputs."
        )
    if activation == SIGMOID and shape[-1] > 1:
        warnings.warn(
            f"The model '{model.name}' ends in a sigmoid of {shape[-1]} "
            "outputs. It is read as a classifier of one class per example, by "
            "the softmax of what the sigmoid takes. Several labels per "
            "example need a cascade for each label.",
            stacklevel=4,
        )
    return LogitsView(model)


def _called(model, kind):
    if has_graph(model):
        return LogitsView(model, probabilities=kind)
    return CalledLogits(model, probabilities=kind)


def _probabilities(model, inputs, outputs):
    """`"softmax"` or `"sigmoid"` where outputs are its values, else `None`."""
    half = keras.backend.standardize_dtype(outputs.dtype) in (
        "bfloat16",
        "float16",
    )
    tolerance = 2e-2 if half else 1e-3
    values = _array(outputs)
    if not _are_shares(values, tolerance):
        return None
    sums_to_one = np.abs(values.sum(axis=1) - 1.0).max() < tolerance
    if values.shape[1] > 1 and sums_to_one:
        return SOFTMAX
    leaves = [np.asarray(leaf) for leaf in keras.tree.flatten(inputs)]
    if any(leaf.dtype.kind != "f" for leaf in leaves):
        # A new model's logits are all small: of sigmoids some are above a
        # half.
        least = _OF_A_SIGMOID if values.shape[1] > 1 else _OF_ONE_SIGMOID
        are_many = values.size >= least
        is_sigmoid = are_many and values.min() > 0 and values.max() > 0.5
        return SIGMOID if is_sigmoid else None
    changes = False
    for factor in _FACTORS:
        scaled = keras.tree.map_structure(
            lambda leaf, factor=factor: np.asarray(leaf) * factor, inputs
        )
        others = _array(model(scaled, training=False))
        if not _are_shares(others, tolerance):
            return None
        changes = changes or not np.allclose(others, values, atol=1e-6)
    return SIGMOID if changes else None


def _are_shares(values, tolerance):
    return bool(values.min() >= 0 and values.max() <= 1.0 + tolerance)


def _array(outputs):
    return keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))


def _warn_of_probabilities(role, model, kind):
    formula = "log(p)" if kind == SOFTMAX else "log(p) - log(1 - p)"
    warnings.warn(
        f"The {role} '{model.name}' outputs probabilities, and no activation "
        f"is found that its logits could be read before: {formula} stands in "
        "for logits. Probabilities below 1e-7 are alike then, and lose their "
        "gradient. To avoid that, end the model in its logits.",
        stacklevel=5,
    )

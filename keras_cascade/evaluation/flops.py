"""Floating-point operations of a forward pass, counted in its graph."""

import contextlib
import logging
import math
from typing import TYPE_CHECKING, Any

from keras_cascade.evaluation.costs import WEIGHTS, Costs
from keras_cascade.evaluation.graph_flops import CannotCountError, graph_flops

if TYPE_CHECKING:
    import keras


#: Unit of counted costs.
PASSES = "teacher passes"
#: Unit where the teacher is no Keras model, whose work can be counted.
CALLS = "teacher calls"


def costs_from_flops(
    student: "keras.Model", teacher: "keras.Model", inputs: Any
) -> Costs:
    """`Costs` in teacher passes, from counted floating-point operations.

    Where the graph cannot be counted (a loop of unknown length, an operation
    of unknown work, a backend without a counter) the numbers of weights stand
    in. They say little about the work, so that `unit` and `how_measured` name
    them, and `MaxCost` refuses them.

    Args:
        student: built `keras.Model`.
        teacher: built `keras.Model`.
        inputs: array, or structure of arrays, with a batch axis.

    Returns:
        `Costs` with `teacher == 1.0`.
    """
    if getattr(teacher, "is_external", False):
        return Costs(
            student=0.0,
            teacher=1.0,
            unit=CALLS,
            how_measured=(
                "the teacher is no Keras model, so that its work is not "
                "counted: one answer of it costs 1 and the student 0; pass "
                "`costs=Costs(...)` for money or time"
            ),
        )
    how, unit = "floating-point operations counted in the graph", PASSES
    try:
        counts = [_expected(m, inputs, count_flops) for m in (student, teacher)]
    except CannotCountError as error:
        counts = [
            _expected(m, inputs, lambda model, _: model.count_params())
            for m in (student, teacher)
        ]
        how, unit = f"numbers of weights, because {error}", WEIGHTS
    small, large = map(round, counts)
    return Costs(
        student=small / max(large, 1),
        teacher=1.0,
        unit=unit,
        how_measured=f"{how}: student {small:,}, teacher {large:,}",
    )


def _expected(model, inputs, count):
    """Expected cost of a model; a cascade's teacher counts by its rate."""
    if not hasattr(model, "operating_point"):
        return count(model, inputs)
    point = model.operating_point
    rate = 1.0 if point is None else point.delegation_rate
    return _expected(model.student, inputs, count) + rate * _expected(
        model.teacher, inputs, count
    )


def count_flops(model, inputs):
    """Floating-point operations of one example's forward pass.

    Args:
        model: built `keras.Model`.
        inputs: array, or structure of arrays, with a batch axis; gives shapes
            and types.

    Returns:
        int. A multiply-add counts as two.
    """
    # Loaded on use, as the backend is: the rest of `evaluation` needs neither.
    import keras

    if getattr(model, "is_external", False):
        raise CannotCountError(
            f"the teacher of '{model.name}' is no Keras model"
        )
    if hasattr(model, "longest_inputs"):  # texts: what comes after the tokens
        return count_flops(model.model, model.longest_inputs(inputs))
    counters = {"tensorflow": _tensorflow_flops, "jax": _jax_flops}
    backend = keras.backend.backend()
    if backend not in counters:
        raise CannotCountError(f"the {backend} backend has no counter here")
    rows = _fixed_batch(model)
    try:
        with _quiet():  # of lookup tables elsewhere
            flops = counters[backend](model, inputs, rows)
    except CannotCountError as error:
        raise CannotCountError(f"of '{model.name}' {error}") from error
    if not flops:
        raise CannotCountError(
            f"no floating-point operation of '{model.name}' was recognised"
        )
    return math.ceil(flops / rows)


def _fixed_batch(model):
    """Batch size that a model is built for, 1 where it takes any."""
    import keras

    for tensor in keras.tree.flatten(getattr(model, "inputs", None)):
        if tensor is not None and tensor.shape and tensor.shape[0]:
            return tensor.shape[0]
    return 1


def _tensorflow_flops(model, inputs, rows):
    import keras
    import tensorflow as tf

    spec = keras.tree.map_structure(
        lambda a: tf.TensorSpec((rows, *a.shape[1:]), tf.as_dtype(a.dtype)),
        inputs,
    )
    forward = tf.function(lambda x: model(x, training=False))
    try:
        graph = forward.get_concrete_function(spec).graph
    except (ValueError, tf.errors.OpError) as error:
        raise CannotCountError(
            f"no graph can be made ({type(error).__name__})"
        ) from error
    return graph_flops(graph)


def _jax_flops(model, inputs, rows):
    import jax
    import keras

    from keras_cascade.evaluation.jaxpr_flops import jaxpr_flops

    spec = keras.tree.map_structure(
        lambda a: jax.ShapeDtypeStruct((rows, *a.shape[1:]), a.dtype), inputs
    )
    values = [variable.value for variable in model.variables]

    def forward(values, x):
        mapping = zip(model.variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)):
            return model(x, training=False)

    try:
        closed = jax.make_jaxpr(forward)(values, spec)
    except (TypeError, ValueError) as error:
        raise CannotCountError(
            f"no graph can be made ({type(error).__name__})"
        ) from error
    return jaxpr_flops(closed.jaxpr)


@contextlib.contextmanager
def _quiet():
    """Silences the warnings of TensorFlow, where it is loaded."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)

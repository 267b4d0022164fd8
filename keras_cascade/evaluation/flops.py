"""Floating-point operations of one forward pass, counted in the graph."""

import keras

from keras_cascade.evaluation.costs import Costs


def costs_from_flops(student, teacher, inputs):
    """`Costs` in teacher passes, from counted floating-point operations.

    Where the graph cannot be counted (a model with string lookups, a backend
    without a counter) the number of weights stands in, and `how_measured`
    says so.

    Args:
        student: built `keras.Model`.
        teacher: built `keras.Model`.
        inputs: array, or structure of arrays, with a batch axis.

    Returns:
        `Costs` with `teacher == 1.0`.
    """
    how = "floating-point operations counted in the graph"
    try:
        counts = [count_flops(m, inputs) for m in (student, teacher)]
    except CannotCountError as error:
        counts = [m.count_params() for m in (student, teacher)]
        how = f"numbers of weights, because {error}"
    small, large = counts
    return Costs(
        student=small / max(large, 1),
        teacher=1.0,
        unit="teacher passes",
        how_measured=f"{how}: student {small:,}, teacher {large:,}",
    )


class CannotCountError(RuntimeError):
    """The operations of a model cannot be counted."""


def count_flops(model, inputs):
    """Floating-point operations of one example's forward pass.

    Args:
        model: built `keras.Model`.
        inputs: array, or structure of arrays, with a batch axis; gives shapes
            and types.

    Returns:
        int. A multiply-add counts as two.
    """
    if keras.backend.backend() != "tensorflow":
        raise CannotCountError(
            f"the {keras.backend.backend()} backend has no counter here"
        )
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    spec = keras.tree.map_structure(
        lambda a: tf.TensorSpec((1, *a.shape[1:]), tf.as_dtype(a.dtype)),
        inputs,
    )
    forward = tf.function(lambda x: model(x, training=False))
    try:
        graph = convert_variables_to_constants_v2(
            forward.get_concrete_function(spec)
        ).graph
    except (ValueError, tf.errors.OpError) as error:
        raise CannotCountError(
            f"the graph of '{model.name}' cannot be frozen "
            f"({type(error).__name__})"
        ) from error
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # the profiler warns of its own deprecation
    try:
        with graph.as_default():
            profile = tf.compat.v1.profiler.profile(graph, options=options)
    finally:
        logger.setLevel(level)
    if not profile.total_float_ops:
        raise CannotCountError(
            f"no floating-point operation of '{model.name}' was recognised"
        )
    return int(profile.total_float_ops)

"""Floating-point operations of a forward pass, counted in its graph."""

import contextlib
from typing import TYPE_CHECKING, Any

from keras_cascade.evaluation.costs import Costs

if TYPE_CHECKING:
    import keras


def costs_from_flops(
    student: "keras.Model", teacher: "keras.Model", inputs: Any
) -> Costs:
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
        counts = [_expected(m, inputs, count_flops) for m in (student, teacher)]
    except CannotCountError as error:
        counts = [
            _expected(m, inputs, lambda model, _: model.count_params())
            for m in (student, teacher)
        ]
        how = f"numbers of weights, because {error}"
    small, large = map(round, counts)
    return Costs(
        student=small / max(large, 1),
        teacher=1.0,
        unit="teacher passes",
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


class CannotCountError(RuntimeError):
    """Raised where the operations of a model cannot be counted."""


def count_flops(model, inputs):
    """Floating-point operations of one example's forward pass.

    Args:
        model: built `keras.Model`.
        inputs: array, or structure of arrays, with a batch axis; gives shapes
            and types.

    Returns:
        int. A multiply-add counts as two.
    """
    # Loaded on use, as TensorFlow is: the rest of `evaluation` needs neither.
    import keras

    if keras.backend.backend() != "tensorflow":
        raise CannotCountError(
            f"the {keras.backend.backend()} backend has no counter here"
        )
    if hasattr(model, "longest_inputs"):  # texts: what comes after the tokens
        return count_flops(model.model, model.longest_inputs(inputs))
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
        with _quiet():  # of lookup tables elsewhere
            graph = convert_variables_to_constants_v2(
                forward.get_concrete_function(spec)
            ).graph
    except (ValueError, tf.errors.OpError) as error:
        raise CannotCountError(
            f"the graph of '{model.name}' cannot be frozen "
            f"({type(error).__name__})"
        ) from error
    _check_countable(model, graph)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    # The profiler warns of its own deprecation.
    with _quiet(), graph.as_default():
        profile = tf.compat.v1.profiler.profile(graph, options=options)
    if not profile.total_float_ops:
        raise CannotCountError(
            f"no floating-point operation of '{model.name}' was recognised"
        )
    return int(profile.total_float_ops)


@contextlib.contextmanager
def _quiet():
    """Silences TensorFlow's warnings."""
    import tensorflow as tf

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


#: Operations that do work and that the profiler counts as none.
UNCOUNTED = {
    "Case", "Einsum", "FFT", "If", "RFFT", "StatelessCase", "StatelessIf",
    "StatelessWhile", "TensorListFromTensor", "While",
}  # fmt: skip
CONTRACTIONS = {
    "BatchMatMul", "BatchMatMulV2", "Conv2D", "Conv3D",
    "DepthwiseConv2dNative", "MatMul",
}  # fmt: skip


def _check_countable(model, graph):
    """Raises where the profiler would silently skip operations."""
    left_out = set()
    for operation in graph.get_operations():
        if operation.type in UNCOUNTED:
            left_out.add(operation.type)
        elif operation.type in CONTRACTIONS and not all(
            tensor.shape.is_fully_defined()
            for tensor in (*operation.inputs, *operation.outputs)
        ):
            left_out.add(f"{operation.type} of unknown shape")
    if left_out:
        raise CannotCountError(
            f"'{model.name}' uses {', '.join(sorted(left_out))}, which the "
            "counter leaves out"
        )

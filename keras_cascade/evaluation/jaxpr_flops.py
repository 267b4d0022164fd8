"""Floating-point operations of a JAX program, counted by its shapes."""

import math
import re

from keras_cascade.evaluation.graph_flops import CannotCountError

#: One operation for each element of the output.
ELEMENTWISE = {
    "abs", "add", "add_any", "cos", "div", "erf", "erfc", "exp", "exp2",
    "expm1", "integer_pow", "log", "log1p", "logistic", "max", "min", "mul",
    "neg", "pow", "rem", "rsqrt", "sin", "sqrt", "square", "sub", "tan",
    "tanh",
}  # fmt: skip
#: One operation for each element of the input.
REDUCTIONS = {
    "cumlogsumexp", "cummax", "cumprod", "cumsum", "reduce_max", "reduce_min",
    "reduce_prod", "reduce_sum",
}  # fmt: skip
#: Work of an amount that is not known here.
NOT_KNOWN = re.compile(
    "dot|conv(?!ert)|callback|custom_call|fft|cholesky|svd|qr|lu|solve|eig"
    "|pallas|ffi"
)


def jaxpr_flops(jaxpr):
    """Floating-point operations of one run, as `graph_flops` counts them.

    Args:
        jaxpr: `jax.core.Jaxpr`.

    Returns:
        int.

    Raises:
        CannotCountError: a number of steps or an operation is not known.
    """
    return sum(_count(equation) for equation in jaxpr.eqns)


def _count(equation):
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        inner = math.prod(shape[axis] for axis in contracted)
        return 2 * inner * _size(equation.outvars[0])
    if name == "conv_general_dilated":
        return _convolution(equation)
    if name == "scan":
        return params["length"] * jaxpr_flops(params["jaxpr"].jaxpr)
    if name == "cond":
        return max(jaxpr_flops(side.jaxpr) for side in params["branches"])
    if name == "while":
        once = jaxpr_flops(params["body_jaxpr"].jaxpr)
        if once:
            raise CannotCountError("the number of steps of a loop is not known")
        return 0
    inner = [
        getattr(value, "jaxpr", value)
        for key, value in params.items()
        if key in ("jaxpr", "call_jaxpr", "fun_jaxpr")
    ]
    if inner:
        return sum(map(jaxpr_flops, inner))
    if NOT_KNOWN.search(name):
        raise CannotCountError(f"the work of {name} is not known")
    if not _is_float(equation.outvars[0]):
        return 0
    if name in ELEMENTWISE:
        return _size(equation.outvars[0])
    if name in REDUCTIONS:
        return _size(equation.invars[0])
    if name.startswith("reduce_window"):
        window = params["window_dimensions"]
        return math.prod(window) * _size(equation.outvars[0])
    return 0


def _convolution(equation):
    """Filter values per output channel, for each output value.

    A transposed convolution is one whose input is spread out by zeros, with
    which nothing has to be multiplied.
    """
    params = equation.params
    numbers = params["dimension_numbers"]
    filters = equation.invars[1].aval.shape
    inputs = filters[numbers.rhs_spec[1]]
    window = math.prod(filters[axis] for axis in numbers.rhs_spec[2:])
    if max(params["lhs_dilation"], default=1) > 1:
        outputs = filters[numbers.rhs_spec[0]]
        return 2 * window * outputs * _size(equation.invars[0])
    return 2 * window * inputs * _size(equation.outvars[0])


def _size(variable):
    return math.prod(variable.aval.shape)


def _is_float(variable):
    dtype = getattr(variable.aval, "dtype", None)
    return dtype is not None and "float" in str(dtype)

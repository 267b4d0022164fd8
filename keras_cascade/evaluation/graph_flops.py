"""Floating-point operations of a TensorFlow graph, counted by its shapes.

TensorFlow's own profiler skips einsum, loops, branches and functions, and so
attention, recurrent layers and grouped convolutions. Here they are followed.
"""

import math
import re


class CannotCountError(RuntimeError):
    """Raised where the operations of a model cannot be counted."""


#: One operation for each element of the output.
ELEMENTWISE = {
    "Abs", "Add", "AddN", "AddV2", "BiasAdd", "Cos", "Div", "DivNoNan", "Elu",
    "Erf", "Erfc", "Exp", "Expm1", "FloorDiv", "FloorMod", "Inv", "LeakyRelu",
    "Log", "Log1p", "Maximum", "Minimum", "Mod", "Mul", "MulNoNan", "Neg",
    "Pow", "RealDiv", "Reciprocal", "Relu", "Relu6", "Rint", "Rsqrt", "Selu",
    "Sigmoid", "Sin", "Softplus", "Softsign", "Sqrt", "Square",
    "SquaredDifference", "Sub", "Tan", "Tanh", "Xdivy", "Xlogy",
}  # fmt: skip
#: One operation for each element of the input.
REDUCTIONS = {
    "Cumprod", "Cumsum", "CumulativeLogsumexp", "EuclideanNorm", "L2Loss",
    "Max", "Mean", "Min", "Prod", "SegmentMeanV2", "SegmentSumV2", "Sum",
    "UnsortedSegmentSum",
}  # fmt: skip
#: Operations for each element of the output, as TensorFlow's profiler has them.
PER_OUTPUT = {
    "Softmax": 5, "LogSoftmax": 5, "FusedBatchNorm": 2, "FusedBatchNormV2": 2,
    "FusedBatchNormV3": 2, "ResizeBilinear": 9,
}  # fmt: skip
POOLS = {"AvgPool", "AvgPool3D", "MaxPool", "MaxPoolV2", "MaxPool3D"}
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
LOOPS = {"While", "StatelessWhile"}
BRANCHES = {"If", "StatelessIf", "Case", "StatelessCase"}
#: Work of an amount that is not known here. Whatever else is not listed above
#: moves or selects numbers.
NOT_KNOWN = re.compile(
    "MatMul|Conv|Dot|RNN|LSTM|GRU|FFT|PyFunc|Einsum|Attention|Xla|Svd|Qr$"
    "|Cholesky|Solve|Inverse|Determinant|Enter$|LoopCond"
)


def graph_flops(graph):
    """Floating-point operations of one run of a graph.

    A multiply-add counts as two. Integer operations, comparisons and moves
    count as none, and so do operations that no output depends on: they do not
    run. A loop counts its body times its steps, a branch its most expensive
    side.

    Args:
        graph: `FuncGraph` of static shapes, as concrete functions have.

    Returns:
        int.

    Raises:
        CannotCountError: a shape, a number of steps or an operation is not
            known.
    """
    reached = set()
    waiting = [tensor.op for tensor in graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation in reached:
            continue
        reached.add(operation)
        waiting += [tensor.op for tensor in operation.inputs]
        waiting += operation.control_inputs
    return sum(map(_count, reached))


def _count(operation):
    kind = operation.type
    if kind in CONTRACTIONS:
        return CONTRACTIONS[kind](operation)
    if kind in LOOPS:
        body, condition = _graphs(operation, "body", "cond")
        once = graph_flops(body) + graph_flops(condition)
        return once and once * _steps(operation, body, condition)
    if kind in BRANCHES:
        return max(map(graph_flops, _branches(operation)))
    if kind in CALLS:
        return sum(map(graph_flops, _graphs(operation, "f")))
    if NOT_KNOWN.search(kind):
        raise CannotCountError(f"the work of {kind} is not known")
    if not operation.outputs or not operation.outputs[0].dtype.is_floating:
        return 0
    if kind in ELEMENTWISE:
        return _size(operation.outputs[0])
    if kind in REDUCTIONS:
        return _size(operation.inputs[0])
    if kind in PER_OUTPUT:
        return PER_OUTPUT[kind] * _size(operation.outputs[0])
    if kind in POOLS:
        window = operation.get_attr("ksize")
        return math.prod(window) * _size(operation.outputs[0])
    return 0


def _shape(tensor):
    if not tensor.shape.is_fully_defined():
        raise CannotCountError(
            f"the shape of {tensor.op.type} '{tensor.name}' is not known"
        )
    return tensor.shape.as_list()


def _size(tensor):
    return math.prod(_shape(tensor))


def _matmul(operation):
    transposed = operation.get_attr("transpose_a")
    inner = _shape(operation.inputs[0])[-2 if transposed else -1]
    return 2 * inner * _size(operation.outputs[0])


def _batch_matmul(operation):
    transposed = operation.get_attr("adj_x")
    inner = _shape(operation.inputs[0])[-2 if transposed else -1]
    return 2 * inner * _size(operation.outputs[0])


def _convolution(operation):
    """Convolution, grouped ones included: their filters hold fewer inputs."""
    *window, inputs, _ = _shape(operation.inputs[1])
    return 2 * math.prod(window) * inputs * _size(operation.outputs[0])


def _depthwise(operation):
    *window, _, _ = _shape(operation.inputs[1])
    return 2 * math.prod(window) * _size(operation.outputs[0])


def _transposed_convolution(operation):
    """Every input value is multiplied by the filters of its channel."""
    *window, outputs, _ = _shape(operation.inputs[1])
    return 2 * math.prod(window) * outputs * _size(operation.inputs[2])


def _einsum(operation):
    """Product of the sizes of all labels, times two where there is a sum."""
    equation = operation.get_attr("equation").decode().replace(" ", "")
    terms, result = equation.split("->")
    sizes = {}
    for term, tensor in zip(terms.split(","), operation.inputs, strict=True):
        shape = _shape(tensor)
        before, dots, after = term.partition("...")
        spread = len(shape) - len(before) - len(after) if dots else 0
        # The axes of an ellipsis are counted from the right.
        labels = [
            *before,
            *(f"...{spread - axis}" for axis in range(spread)),
            *after,
        ]
        for label, size in zip(labels, shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    kept = set(result.replace("...", ""))
    summed = any(label[0] != "." and label not in kept for label in sizes)
    operands = len(operation.inputs)
    if operands == 1:
        return math.prod(sizes.values()) if summed else 0
    return (operands if summed else operands - 1) * math.prod(sizes.values())


CONTRACTIONS = {
    "BatchMatMul": _batch_matmul,
    "BatchMatMulV2": _batch_matmul,
    "BatchMatMulV3": _batch_matmul,
    "Conv2D": _convolution,
    "Conv2DBackpropInput": _transposed_convolution,
    "Conv2DBackpropInputV2": _transposed_convolution,
    "Conv3D": _convolution,
    "Conv3DBackpropInputV2": _transposed_convolution,
    "DepthwiseConv2dNative": _depthwise,
    "Einsum": _einsum,
    "MatMul": _matmul,
}


def _graphs(operation, *names):
    """Graphs of an operation's functions, shapes known."""
    return [_function_graph(operation, operation.get_attr(n)) for n in names]


def _branches(operation):
    if operation.type in ("Case", "StatelessCase"):
        functions = operation.get_attr("branches")
    else:
        functions = [
            operation.get_attr(name) for name in ("then_branch", "else_branch")
        ]
    return [_function_graph(operation, f, skipped=1) for f in functions]


def _function_graph(operation, function, skipped=0):
    """The graph that a function was traced in, or one made of it again."""
    graph = operation.graph
    while graph is not None:
        atomic = graph._get_function(function.name)
        traced = getattr(atomic, "graph", None)
        if traced is not None:
            return traced
        graph = getattr(graph, "outer_graph", None)
    from tensorflow.python.ops.control_flow_util_v2 import get_func_graph

    shapes = [tensor.shape for tensor in operation.inputs[skipped:]]
    try:
        return get_func_graph(operation, shapes, function.name)
    except (KeyError, ValueError) as error:
        raise CannotCountError(
            f"the function of {operation.type} '{operation.name}' cannot be "
            "read"
        ) from error


def _steps(operation, body, condition):
    """Number of steps of a loop that counts up to a number known now.

    The condition is a conjunction of `counter < limit`. A limit is a constant
    or an input of the loop, a counter an input to which the body adds a
    constant.
    """
    from tensorflow import get_static_value

    inputs = {tensor.name: i for i, tensor in enumerate(condition.inputs)}

    def before_the_loop(tensor):
        index = inputs.get(tensor.name)
        source = tensor if index is None else operation.inputs[index]
        return get_static_value(source)

    steps = []
    for comparison in condition.get_operations():
        if comparison.type != "Less":
            continue
        counter, limit = comparison.inputs
        index = inputs.get(counter.name)
        end, start = before_the_loop(limit), before_the_loop(counter)
        step = None if index is None else _increment(body, index)
        if None in (end, start, step) or step <= 0:
            continue
        steps.append(max(0, math.ceil((int(end) - int(start)) / step)))
    if not steps:
        raise CannotCountError(
            f"the number of steps of '{operation.name}' is not known"
        )
    return min(steps)


def _increment(body, index):
    """Constant that the body adds to one of its inputs, or `None`."""
    from tensorflow import get_static_value

    result = body.outputs[index].op
    while result.type == "Identity":
        result = result.inputs[0].op
    if result.type not in ("Add", "AddV2"):
        return None
    names = [tensor.name for tensor in result.inputs]
    if body.inputs[index].name not in names:
        return None
    other = result.inputs[1 - names.index(body.inputs[index].name)]
    step = get_static_value(other)
    return None if step is None else int(step)

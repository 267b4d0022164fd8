"""TFLite files of one row, which every runtime takes.

Browsers, GPU delegates, `CompiledModel` and microcontrollers want tensors of
fixed sizes: they have no `SHAPE`, and cannot resize. The converter writes
sizes that depend on the number of rows as operations. For one row they are
constants; where the number of rows is only one factor of a new shape, the
constant is -1, and TFLite's interpreter resizes the file as before.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cascade.errors import ExportError
from keras_cascade.export.tflite_file import read, signature_of, write
from keras_cascade.utils.native_output import hidden_native_output

#: Numbers of rows that sizes are measured at.
ROWS = (1, 2, 3)
_SHAPE, _RESHAPE = (
    schema.BuiltinOperator.SHAPE,
    schema.BuiltinOperator.RESHAPE,
)

_INTEGERS = (schema.TensorType.INT32, schema.TensorType.INT64)


def portable(content: bytes, rows: dict | None = None) -> tuple[bytes, bool]:
    """Fixes every size of a file, for one row.

    Weights and operations on values stay as they are, bit by bit.

    Args:
        content: TFLite bytes with the signature `serving_default`.
        rows: dict of input name to the shape of one example. Defaults to
            `None`: that of the file.

    Returns:
        `(bytes, bool)`: the file, whose tensors have names of their own, and
        whether an interpreter can resize it to more rows.

    Raises:
        ExportError: LiteRT does not run the file at these sizes.
    """
    model = read(content)
    signature = signature_of(model)
    graph = model.subgraphs[signature.subgraphIndex]
    tensors = len(graph.tensors)
    derived = _derived(model, graph)
    shown = _with_outputs(content, derived)
    measured = [_measured(shown, count, rows) for count in ROWS]
    resizable = True
    kept = []
    for operator in graph.operators:
        # What has no output, such as CALL_ONCE, fills a table.
        if len(operator.outputs) and derived.issuperset(operator.outputs):
            continue
        kept.append(operator)
        code = _code(model, operator)
        for position, number in enumerate(operator.inputs):
            if number not in derived:
                continue
            values = [one.value(number) for one in measured]
            constant, follows = _constant(
                values, code == _RESHAPE and position == 1
            )
            resizable = resizable and follows
            operator.inputs = list(operator.inputs)
            operator.inputs[position] = _add_constant(
                model, graph, graph.tensors[number], constant
            )
    graph.operators = kept
    for number, tensor in enumerate(graph.tensors[:tensors]):
        tensor.shape = measured[0].shape(number, tensor)
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.shapeSignature = None
    _drop_unused(model, graph, signature)
    _name_apart(model)
    return write(model), resizable


class _Measured:
    """Sizes and values of all tensors of a file after a run."""

    def __init__(self, interpreter):
        self._interpreter = interpreter
        self._shapes = {
            detail["index"]: detail["shape"]
            for detail in interpreter.get_tensor_details()
        }

    def shape(self, number, tensor):
        """Sizes of a tensor, as a list; those of the file where unknown."""
        found = self._shapes.get(number)
        return tensor.shape if found is None else list(map(int, found))

    def value(self, number):
        return np.asarray(self._interpreter.get_tensor(int(number)))


def _with_outputs(content, numbers):
    """The same file with more outputs, whose values can be read.

    An interpreter that preserves all tensors misreads some shapes.
    """
    model = read(content)
    graph = model.subgraphs[signature_of(model).subgraphIndex]
    graph.outputs = [*graph.outputs, *sorted(numbers)]
    return write(model)


def _measured(content, count, rows):
    """Runs a file on so many rows, of zeros."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    names = _input_names(content)
    try:
        with hidden_native_output():
            interpreter = Interpreter(
                model_content=content,
                experimental_op_resolver_type=(
                    OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
                ),
            )
            for detail in interpreter.get_input_details():
                row = detail["shape"][1:]
                if rows is not None:
                    row = rows[names[detail["index"]]]
                interpreter.resize_tensor_input(
                    detail["index"], [count, *map(int, row)]
                )
            interpreter.allocate_tensors()
            for detail in interpreter.get_input_details():
                interpreter.set_tensor(
                    detail["index"], np.zeros(detail["shape"], detail["dtype"])
                )
            interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise ExportError(
            f"LiteRT does not run the exported student on {count} rows of "
            f"{rows}: {text}"
        ) from error
    return _Measured(interpreter)


def _input_names(content):
    signature = signature_of(read(content))
    return {one.tensorIndex: one.name.decode() for one in signature.inputs}


def _derived(model, graph):
    """Numbers of the tensors that only depend on sizes of other tensors."""
    constants = {
        number
        for number, tensor in enumerate(graph.tensors)
        if _has_data(model, tensor)
    } | {-1}
    derived = set()
    for operator in graph.operators:
        from_sizes = _code(model, operator) == _SHAPE or (
            derived.intersection(operator.inputs)
            and (constants | derived).issuperset(operator.inputs)
        )
        # What is filled with a size's worth of zeros is no size.
        if from_sizes and all(
            graph.tensors[number].type in _INTEGERS
            for number in operator.outputs
        ):
            derived.update(operator.outputs)
    return derived - set(graph.outputs)


def _constant(values, is_shape):
    """One value for any number of rows.

    Returns:
        `(array, bool)`: the value, -1 where it follows the number of rows;
        otherwise that of one row, and `False`.
    """
    one_row = values[0]
    changing = np.zeros(one_row.shape, bool)
    for value in values[1:]:
        if value.shape != one_row.shape:
            return one_row, False
        changing |= value != one_row
    if not changing.any():
        return one_row, True
    if is_shape and changing.sum() == 1 and not (one_row == -1).any():
        return np.where(changing, -1, one_row).astype(one_row.dtype), True
    return one_row, False


def _add_constant(model, graph, tensor, value):
    """Adds a constant like a tensor; returns its number."""
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(
        np.ascontiguousarray(value).tobytes(), dtype="uint8"
    )
    model.buffers.append(buffer)
    constant = schema.TensorT()
    constant.name, constant.type = tensor.name, tensor.type
    constant.shape, constant.buffer = list(value.shape), len(model.buffers) - 1
    graph.tensors.append(constant)
    return len(graph.tensors) - 1


def _drop_unused(model, graph, signature):
    """Removes tensors, buffers and operation codes that nothing uses."""
    used = set(map(int, (*graph.inputs, *graph.outputs)))
    for operator in graph.operators:
        for numbers in (
            operator.inputs,
            operator.outputs,
            operator.intermediates,
        ):
            used.update(map(int, () if numbers is None else numbers))
    blocks = [
        details
        for number in sorted(used - {-1})
        if (details := _blocks(graph.tensors[number])) is not None
    ]
    used.update(one.scales for one in blocks)
    used.update(one.zeroPoints for one in blocks)
    used.discard(-1)
    index = {old: new for new, old in enumerate(sorted(used))}
    index[-1] = -1
    graph.tensors = [graph.tensors[number] for number in sorted(used)]

    def renumbered(numbers):
        return None if numbers is None else [index[int(n)] for n in numbers]

    graph.inputs, graph.outputs = map(renumbered, (graph.inputs, graph.outputs))
    for operator in graph.operators:
        operator.inputs = renumbered(operator.inputs)
        operator.outputs = renumbered(operator.outputs)
        operator.intermediates = renumbered(operator.intermediates)
    for one in (*signature.inputs, *signature.outputs):
        one.tensorIndex = index[int(one.tensorIndex)]
    for one in blocks:
        one.scales, one.zeroPoints = index[one.scales], index[one.zeroPoints]
    _drop_unused_codes(model)
    _drop_unused_buffers(model)


def _blocks(tensor):
    """Details of weights with a scale per block, which is in a tensor."""
    quantization = tensor.quantization
    details = None if quantization is None else quantization.details
    is_blockwise = isinstance(details, schema.BlockwiseQuantizationT)
    return details if is_blockwise else None


def _drop_unused_codes(model):
    operators = [one for part in model.subgraphs for one in part.operators]
    codes = {}
    for operator in operators:
        code = model.operatorCodes[operator.opcodeIndex]
        key = (
            code.builtinCode,
            code.deprecatedBuiltinCode,
            code.customCode,
            code.version,
        )
        number, _ = codes.setdefault(key, (len(codes), code))
        operator.opcodeIndex = number
    model.operatorCodes = [code for _, code in codes.values()]


def _drop_unused_buffers(model):
    """Leaves the empty buffer 0, and those with data that something uses."""
    index, buffers = {}, [schema.BufferT()]

    def moved(number):
        data = model.buffers[number].data
        if data is None or not len(data):
            return 0
        if number not in index:
            index[number] = len(buffers)
            buffers.append(model.buffers[number])
        return index[number]

    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = moved(tensor.buffer)
    for one in model.metadata or ():
        one.buffer = moved(one.buffer)
    model.buffers = buffers


def _name_apart(model):
    """Gives every tensor a name of its own."""
    taken = set()
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            name = tensor.name or b"tensor"
            candidate, attempt = name, 0
            while candidate in taken:
                attempt += 1
                candidate = b"%s_%d" % (name, attempt)
            taken.add(candidate)
            tensor.name = candidate


def _code(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _has_data(model, tensor):
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0

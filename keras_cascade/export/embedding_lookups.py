"""Embeddings of a TFLite file as `EMBEDDING_LOOKUP`, for weights of few bits.

The converter writes an `Embedding` as `GATHER`, whose table can have one
scale for all rows only. `EMBEDDING_LOOKUP` takes a scale per block of a row,
and row numbers of one axis.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cascade.export.tflite_file import code_of

_OPERATOR, _TYPE = schema.BuiltinOperator, schema.TensorType


def with_embedding_lookups(model, least, width_of):
    """Replaces each `GATHER` of rows of a constant float table, in place.

    Args:
        model: `ModelT` of a file.
        least: int, weights of the smallest table that is replaced.
        width_of: function from a table's width to the width to store it in,
            filled up with zeros, which are cut off again behind the lookup.
    """
    for graph in model.subgraphs:
        editor = _Editor(model, graph)
        operators, wider = [], {}
        for operator in graph.operators:
            table = _table_of(model, graph, operator, least)
            if table is None:
                operators.append(operator)
                continue
            operators += _lookup(editor, operator, table, width_of, wider)
        graph.operators = operators


def _table_of(model, graph, operator, least):
    """Weights of a `GATHER` of whole rows, or `None`."""
    if code_of(model, operator) != _OPERATOR.GATHER:
        return None
    table, rows = (graph.tensors[number] for number in operator.inputs[:2])
    options = operator.builtinOptions
    whole_rows = options is None or (options.axis, options.batchDims) == (0, 0)
    weights = constant_of(model, table)
    if (
        weights is None
        or weights.ndim != 2
        or weights.size < least
        or not whole_rows
        or rows.type != _TYPE.INT32
        or not len(sizes_of(rows))
    ):
        return None
    return weights


def _lookup(editor, operator, weights, width_of, wider):
    """Operations that do what a `GATHER` does.

    Args:
        editor: `_Editor`.
        operator: the `GATHER`.
        weights: float array, its table.
        width_of: as in `with_embedding_lookups`.
        wider: dict of a table's number to that of a wider one, filled here.
    """
    table, rows = map(int, operator.inputs[:2])
    tensors = editor.graph.tensors
    name, (count, width) = tensors[operator.outputs[0]].name, weights.shape
    stored = width_of(width)
    if stored != width and table not in wider:
        wide = np.zeros((count, stored), weights.dtype)
        wide[:, :width] = weights
        wider[table] = editor.constant(tensors[table].name + b"/wide", wide)
    sizes = sizes_of(tensors[rows])
    whole = int(np.prod([abs(size) for size in tensors[rows].shape]))
    is_flat, operators = len(sizes) == 1, []
    flat = rows
    if not is_flat:
        flat = editor.tensor(name + b"/rows", _TYPE.INT32, [-1], [whole])
        one_axis = editor.constant(name + b"/one_axis", np.array([-1], "int32"))
        operators.append(
            editor.operator(_OPERATOR.RESHAPE, [rows, one_axis], [flat])
        )
    output, found = operator.outputs[0], operator.outputs[0]
    if stored != width or not is_flat:
        found = editor.tensor(
            name + b"/found", _TYPE.FLOAT32, [-1, stored], [whole, stored]
        )
    operators.append(
        editor.operator(
            _OPERATOR.EMBEDDING_LOOKUP, [flat, wider.get(table, table)], [found]
        )
    )
    if stored != width:
        cut = output
        if not is_flat:
            cut = editor.tensor(
                name + b"/cut", _TYPE.FLOAT32, [-1, width], [whole, width]
            )
        operators.append(_cut(editor, name, found, width, cut))
        found = cut
    if not is_flat:
        shape, before = _shape(editor, name, rows, sizes, width)
        operators += before
        operators.append(
            editor.operator(_OPERATOR.RESHAPE, [found, shape], [output])
        )
    return operators


def _cut(editor, name, rows, width, output):
    """Operation that keeps the first columns; `SLICE` cannot be resized."""
    ends = {"begin": [0, 0], "end": [0, width], "strides": [1, 1]}
    options = schema.StridedSliceOptionsT()
    options.endMask = 1  # every row
    return editor.operator(
        _OPERATOR.STRIDED_SLICE,
        [
            rows,
            *(
                editor.constant(
                    b"%s/%s" % (name, part.encode()), np.array(value, "int32")
                )
                for part, value in ends.items()
            ),
        ],
        [output],
        schema.BuiltinOptions.StridedSliceOptions,
        options,
    )


def _shape(editor, name, rows, sizes, width):
    """`(tensor, operations)`: the sizes of the row numbers, and the width.

    A `RESHAPE` finds one free size by itself; several are read.
    """
    if (sizes < 0).sum() <= 1:
        value = np.array([*sizes, width], "int32")
        return editor.constant(name + b"/shape", value), []
    read = editor.tensor(name + b"/sizes", _TYPE.INT32, [len(sizes)])
    last = editor.constant(name + b"/width", np.array([width], "int32"))
    shape = editor.tensor(name + b"/shape", _TYPE.INT32, [len(sizes) + 1])
    of_rows = schema.ShapeOptionsT()
    of_rows.outType = _TYPE.INT32
    return shape, [
        editor.operator(
            _OPERATOR.SHAPE, [rows], [read],
            schema.BuiltinOptions.ShapeOptions, of_rows,
        ),
        editor.operator(
            _OPERATOR.CONCATENATION, [read, last], [shape],
            schema.BuiltinOptions.ConcatenationOptions,
            schema.ConcatenationOptionsT(),
        ),
    ]  # fmt: skip


class _Editor:
    """Adds tensors and operations to one graph of a file."""

    def __init__(self, model, graph):
        self.model, self.graph = model, graph
        self._codes = {}

    def constant(self, name, value):
        """Number of a new tensor that holds an array."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(
            np.ascontiguousarray(value).tobytes(), "uint8"
        )
        self.model.buffers.append(buffer)
        kind = {"int32": _TYPE.INT32, "float32": _TYPE.FLOAT32}
        number = self.tensor(name, kind[value.dtype.name], value.shape)
        self.graph.tensors[number].buffer = len(self.model.buffers) - 1
        return number

    def tensor(self, name, kind, sizes, shape=None):
        """Number of a new tensor; sizes of -1 are free, now as in `shape`."""
        tensor = schema.TensorT()
        tensor.name, tensor.type, tensor.buffer = name, kind, 0
        tensor.shape = list(map(int, sizes if shape is None else shape))
        if shape is not None:
            tensor.shapeSignature = list(map(int, sizes))
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, code, inputs, outputs, kind=0, options=None):
        """New operation of a built-in code."""
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs = list(map(int, inputs))
        operator.outputs = list(map(int, outputs))
        operator.builtinOptionsType = kind
        operator.builtinOptions = options
        return operator

    def _code(self, value):
        if value not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode = code.deprecatedBuiltinCode = value
            # Tables of 4 bits came with the fourth version.
            is_lookup = value == _OPERATOR.EMBEDDING_LOOKUP
            code.version = 4 if is_lookup else 1
            self.model.operatorCodes.append(code)
            self._codes[value] = len(self.model.operatorCodes) - 1
        return self._codes[value]


def constant_of(model, tensor):
    """float32 array that a tensor holds, or `None`."""
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or tensor.type != _TYPE.FLOAT32:
        return None
    array = np.frombuffer(np.asarray(data, "uint8").tobytes(), "float32")
    return array.reshape([int(size) for size in tensor.shape])


def sizes_of(tensor):
    """Sizes of a tensor as an int array, -1 where one is free."""
    signature = tensor.shapeSignature
    if signature is None or not len(signature):
        signature = tensor.shape
    return np.array([] if signature is None else signature, "int32")

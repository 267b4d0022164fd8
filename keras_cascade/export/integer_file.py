"""TFLite files whose float inputs become integers of 8 bits.

A student of 8 bits begins with an operation that quantizes its input: without
it the input itself is int8. Pixels are uint8 by a scale that images have, and
the file begins with what makes the student's own numbers of them.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from keras_cascade.errors import ExportError
from keras_cascade.export.tflite_file import (
    operation_of,
    read,
    signature_of,
    write,
)
from keras_cascade.runtime.integer_inputs import IntegerInput

_OPERATORS, _TYPES = schema.BuiltinOperator, schema.TensorType


def with_int8_inputs(content: bytes) -> tuple[bytes, dict]:
    """Makes every float input of an 8-bit student int8, by its own scale.

    The numbers are those that the file computed before: the operation that
    quantized the input is left out.

    Args:
        content: TFLite bytes with the signature `serving_default`.

    Returns:
        `(bytes, inputs)`: the file, and a dict of input name to
        `IntegerInput`.

    Raises:
        ExportError: an input is read by an operation on floats, or none is a
            float.
    """
    model = read(content)
    signature = signature_of(model)
    graph = model.subgraphs[signature.subgraphIndex]
    inputs = {}
    for one in _float_inputs(signature, graph):
        name = one.name.decode()
        readers = _readers(graph, one.tensorIndex)
        others = [
            operation_of(model, reader)
            for reader in readers
            if not _quantizes(model, graph, reader)
        ]
        if others or not readers:
            raise ExportError(
                "Expected, with io_type='int8', a student that computes in 8 "
                f"bits from its input on. Received one in which '{name}' is "
                f"read by {sorted(set(others)) or 'no operation'} in float. "
                "Leave out `float_layers`, or io_type."
            )
        quantized = [reader.outputs[0] for reader in readers]
        forms = [graph.tensors[number].quantization for number in quantized]
        scales = {(float(f.scale[0]), int(f.zeroPoint[0])) for f in forms}
        if len(scales) > 1:
            raise ExportError(
                f"Expected one scale of the input '{name}', with "
                f"io_type='int8'. Received: {sorted(scales)}. Leave out "
                "io_type."
            )
        tensor = graph.tensors[one.tensorIndex]
        tensor.type, tensor.quantization = _TYPES.INT8, forms[0]
        _replace(graph, set(quantized), one.tensorIndex)
        left_out = set(map(id, readers))
        graph.operators = [
            other for other in graph.operators if id(other) not in left_out
        ]
        ((scale, zero_point),) = scales
        inputs[name] = IntegerInput("int8", scale, zero_point)
    if not inputs:
        raise ExportError(
            "Expected, with io_type='int8', a student that takes floats. "
            "Received one whose inputs are integers or texts already. Leave "
            "out io_type."
        )
    return write(model), inputs


def with_pixel_inputs(content: bytes, pixels: dict[str, IntegerInput]) -> bytes:
    """Makes some float inputs uint8, and begins with their scaling.

    A student of 8 bits gets its own integers of the pixels; one in float gets
    the floats that they stand for.

    Args:
        content: TFLite bytes with the signature `serving_default`.
        pixels: dict of input name to `IntegerInput` of uint8.

    Returns:
        TFLite bytes.
    """
    model = read(content)
    signature = signature_of(model)
    graph = model.subgraphs[signature.subgraphIndex]
    for one in _float_inputs(signature, graph):
        form = pixels.get(one.name.decode())
        if form is None:
            continue
        number = one.tensorIndex
        readers = _readers(graph, number)
        whole = form.zero_point == int(form.zero_point)
        zero_point = int(form.zero_point) if whole else 0
        if whole and all(_quantizes(model, graph, one) for one in readers):
            # From integers to integers, without a float in between.
            _make_pixels(graph.tensors[number], form.scale, zero_point)
            for reader in readers:
                code = model.operatorCodes[reader.opcodeIndex]
                code.version = max(code.version, 2)
            continue
        source = _like(graph, number, b"pixels")
        _make_pixels(graph.tensors[source], form.scale, zero_point)
        added = [(_OPERATORS.DEQUANTIZE, [source])]
        if not whole:
            offset = np.float32(-form.zero_point * form.scale)
            added.append((_OPERATORS.ADD, [_constant(model, graph, offset)]))
        operators = []
        last = None
        for position, (code, inputs) in enumerate(added):
            final = position == len(added) - 1
            output = number if final else _like(graph, number, b"floats")
            inputs = inputs if last is None else [last, *inputs]
            operators.append(_operator(model, code, inputs, output))
            last = output
        graph.operators = [*operators, *graph.operators]
        graph.inputs = [
            source if old == number else int(old) for old in graph.inputs
        ]
        one.tensorIndex = source
    return write(model)


def integer_spec(spec: dict, one: IntegerInput) -> dict:
    """Input of a file, in the form of the manifest's `input`.

    Args:
        spec: dict, the cascade's input, as in the manifest.
        one: `IntegerInput` of the file.
    """
    return {
        "name": spec["name"],
        "shape": spec["shape"],
        "dtype": one.dtype.name,
        "range": one.quantized(np.array(spec["range"])).tolist(),
        "quantization": one.describe(),
    }


def _float_inputs(signature, graph):
    return [
        one
        for one in signature.inputs
        if graph.tensors[one.tensorIndex].type == _TYPES.FLOAT32
    ]


def _readers(graph, number):
    return [
        operator
        for operator in graph.operators
        if number in list(operator.inputs)
    ]


def _quantizes(model, graph, operator):
    return operation_of(model, operator) == "QUANTIZE" and (
        graph.tensors[operator.outputs[0]].type == _TYPES.INT8
    )


def _replace(graph, numbers, by):
    for operator in graph.operators:
        operator.inputs = [
            by if number in numbers else int(number)
            for number in operator.inputs
        ]
    graph.outputs = [
        by if number in numbers else int(number) for number in graph.outputs
    ]


def _make_pixels(tensor, scale, zero_point):
    form = schema.QuantizationParametersT()
    form.scale, form.zeroPoint = [scale], [zero_point]
    form.details = None
    tensor.type, tensor.quantization = _TYPES.UINT8, form


def _like(graph, number, name):
    """Adds a tensor of the same sizes; returns its number."""
    original = graph.tensors[number]
    tensor = schema.TensorT()
    tensor.name, tensor.type = original.name + b"_" + name, _TYPES.FLOAT32
    tensor.shape, tensor.buffer = original.shape, 0
    tensor.shapeSignature = original.shapeSignature
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _constant(model, graph, value):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(value.tobytes(), "uint8")
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.type = b"pixel_offset", _TYPES.FLOAT32
    tensor.shape, tensor.buffer = [], len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _operator(model, builtin, inputs, output):
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2 if builtin == _OPERATORS.DEQUANTIZE else 1
    model.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, [output]
    if builtin == _OPERATORS.ADD:
        operator.builtinOptionsType = schema.BuiltinOptions.AddOptions
        operator.builtinOptions = schema.AddOptionsT()
    return operator

"""Weights of 4 bits in a TFLite file, by LiteRT Quantizer."""

import contextlib
import importlib.util
import io

from ai_edge_litert import schema_py_generated as schema

from keras_cascade.errors import ExportError
from keras_cascade.export.embedding_lookups import (
    constant_of,
    with_embedding_lookups,
)
from keras_cascade.export.operation_layers import OperationLayers
from keras_cascade.export.tflite_file import (
    OPERATION_NAMES,
    code_of,
    read,
    write,
)

#: Weights along the inputs of a layer that share one scale (a float16). The
#: smallest block that LiteRT has: on the reference student the answers moved
#: by 0.025, with one scale per channel by 0.048 (benchmarks.weight_bits).
BLOCK = 32
#: Smaller kernels stay in float, as TFLite's converter leaves them: a scale
#: and a zero point per channel take 12 bytes.
LEAST = 1024
_OPERATOR = schema.BuiltinOperator
_IN_BLOCKS = {
    _OPERATOR.FULLY_CONNECTED: "FULLY_CONNECTED",
    _OPERATOR.EMBEDDING_LOOKUP: "EMBEDDING_LOOKUP",
}
#: One scale per channel. 4 bits moved the answers of the same student by
#: 0.044 in its convolutions, 8 bits by 0.003.
_BY_CHANNEL = {
    _OPERATOR.CONV_2D: "CONV_2D",
    _OPERATOR.DEPTHWISE_CONV_2D: "DEPTHWISE_CONV_2D",
    _OPERATOR.TRANSPOSE_CONV: "CONV_2D_TRANSPOSE",
}


def check_int4_installed():
    """Raises unless LiteRT Quantizer is installed.

    Raises:
        ExportError: says what to install.
    """
    if importlib.util.find_spec("litert_quantizer") is None:
        raise ExportError(
            "quantization='int4' needs litert-quantizer, not installed here. "
            'Run `pip install "keras-cascade[optimize]"`.'
        )


def with_int4_weights(content: bytes, model) -> tuple[bytes, dict]:
    """Stores the weights of a float32 file in 4 bits, or 8.

    In 4 bits, with a scale for every 32 weights of a row: dense layers whose
    number of inputs is a multiple of 32, and embeddings (of another width they
    are filled up with zeros where that is smaller than 8 bits). In 8 bits:
    other dense layers and convolutions, with a scale per channel, which the
    device turns back into floats when it opens the file. Kernels of fewer
    than 1,024 weights stay in float. Between operations every value is a
    float; within a dense layer of 4 bits the device rounds its inputs to 8.

    Args:
        content: TFLite bytes, of a student without its gate.
        model: `keras.Model` whose layers are named.

    Returns:
        `(bytes, dict)`; the dict has the lists `in_8_bits` and
        `left_in_float` of `{"layer", "why"}`.

    Raises:
        ExportError: no layer can be stored in 4 bits, or the package is
            missing.
    """
    check_int4_installed()
    file = read(content)
    with_embedding_lookups(file, LEAST, stored_width)
    rules, stored = _rules(file, OperationLayers(model))
    if not any(bits == 4 for _, _, bits in rules):
        raise ExportError(
            "No layer of the student can be stored in 4 bits. Expected: a "
            f"Dense layer with a multiple of {BLOCK} inputs, or an Embedding, "
            f"of at least {LEAST:,} weights. Received: {_listed(stored)}. Use "
            "quantization='dynamic' or 'int8'."
        )
    return _quantized(file, rules), stored


def stored_width(width: int) -> int:
    """Width of an embedding's rows in the file, filled up where that pays.

    Args:
        width: int, of the layer.
    """
    full = -(-width // BLOCK) * BLOCK
    in_4_bits = full // 2 + 2 * (full // BLOCK)
    return full if in_4_bits < width else width


def _rules(file, layers):
    """Rules by which each operation's weights are stored.

    Args:
        file: `ModelT`.
        layers: `OperationLayers`.

    Returns:
        `(list of (position of the operation, name in a recipe, bits),
        dict of lists)`, the dict as in `with_int4_weights`.
    """
    rules = []
    whys = {4: {}, 8: {}, 32: {}}
    for number, graph in enumerate(file.subgraphs):
        paths = layers.paths(graph)
        for position, operator in enumerate(graph.operators):
            code = code_of(file, operator)
            weights = [
                array
                for index in operator.inputs
                if index >= 0
                and (array := constant_of(file, graph.tensors[index]))
                is not None
                and array.ndim > 1
            ]
            if not weights:
                continue
            kernel = max(weights, key=lambda array: array.size)
            bits, why = _bits(code, kernel)
            if why is None and bits == 32:
                continue
            name = graph.tensors[operator.outputs[0]].name.decode()
            found = paths.get(name)
            layer = layers.layer(found) if found else name
            whys[bits].setdefault(layer, why)
            if bits != 32:
                kind = _IN_BLOCKS.get(code) or _BY_CHANNEL[code]
                rules.append(((number, position), kind, bits))
    return rules, {
        "in_8_bits": _described(whys[8]),
        "left_in_float": _described(whys[32]),
    }


def _bits(code, kernel):
    """`(bits, why not 4)` of the largest weights of an operation."""
    if code in _IN_BLOCKS or code in _BY_CHANNEL:
        if kernel.size < LEAST:
            return 32, f"fewer than {LEAST:,} weights"
        if code in _BY_CHANNEL:
            return 8, "4 bits of a convolution move the answers"
        if kernel.shape[-1] % BLOCK:
            width = kernel.shape[-1]
            return 8, f"rows of {width} weights, no multiple of {BLOCK}"
        return 4, None
    if kernel.size < LEAST:
        return 32, None
    return 32, f"{OPERATION_NAMES[code]} takes weights in float only"


def _described(whys):
    return [{"layer": layer, "why": why} for layer, why in whys.items()]


def _listed(stored):
    found = [
        f"'{one['layer']}' ({one['why']})"
        for part in stored.values()
        for one in part
    ]
    return "; ".join(found)[:400] or "no layer with weights"


def _quantized(file, rules):
    """Runs LiteRT Quantizer over a file whose operations have rules."""
    from ai_edge_litert.tools import flatbuffer_utils
    from litert_quantizer import Quantizer, qtyping

    # It finds operations by regular expressions on the names of their
    # outputs, and refuses two tensors of one name.
    for number, graph in enumerate(file.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            tensor.name = b"%d.%d:%s" % (number, index, tensor.name or b"")
    granularity = qtyping.QuantGranularity
    kinds = qtyping.TFLOperationName
    # It prints sizes and durations.
    with contextlib.redirect_stdout(io.StringIO()):
        quantizer = Quantizer(write(file))
        for (number, position), kind, bits in rules:
            operator = file.subgraphs[number].operators[position]
            scope = rf"^{number}\.{int(operator.outputs[0])}:"
            if bits == 4:
                quantizer.add_dynamic_config(
                    scope, kinds(kind), 4, granularity.BLOCKWISE_32
                )
            elif kind == "EMBEDDING_LOOKUP":
                # In float, every run would make the whole table.
                quantizer.add_dynamic_config(
                    scope, kinds(kind), 8, granularity.TENSORWISE
                )
            else:
                quantizer.add_weight_only_config(
                    scope, kinds(kind), 8, granularity.CHANNELWISE
                )
        try:
            content = quantizer.quantize().quantized_model
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())[:300]
            raise ExportError(
                "LiteRT Quantizer cannot store the student's weights in 4 "
                f"bits: {text} Use quantization='dynamic' or 'int8'."
            ) from error
    # Files of 256 KiB and more hold their weights behind the flatbuffer,
    # where the schema's own reader does not look.
    quantized = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in quantized.subgraphs:
        for tensor in graph.tensors:
            tensor.name = tensor.name.split(b":", 1)[-1]
    return write(quantized)

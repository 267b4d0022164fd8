"""Targets of a student's file: microcontrollers, browsers, phones."""

import importlib.util
from collections.abc import Sequence

from ai_edge_litert import schema_py_generated as schema

from keras_cascade.errors import ExportError
from keras_cascade.evaluation.delegated_at import Threshold
from keras_cascade.export.tflite_conversion import layer_of, layers_by_name
from keras_cascade.export.tflite_file import (
    GATE_PREFIX,
    operation_of,
    read,
    signature_of,
)
from keras_cascade.export.tflite_micro_student import TFLiteMicroStudent
from keras_cascade.runtime.compiled_student import DTYPES
from keras_cascade.utils.progress import tell

MICROCONTROLLER, BROWSER, PHONE = TARGETS = (
    "microcontroller", "browser", "phone",
)  # fmt: skip
RUNTIMES = {
    MICROCONTROLLER: "TFLite Micro",
    BROWSER: "LiteRT.js",
    PHONE: "CompiledModel",
}
#: Types that a runtime takes as inputs.
INPUT_TYPES = {
    MICROCONTROLLER: ("float32", "int32", "int8", "uint8", "bool", "int16"),
    BROWSER: ("float32", "int32", "uint8"),
    PHONE: DTYPES,
}
#: Operations of TFLite Micro; the other two have all of TFLite's.
_MICRO = """
ABS ADD ADD_N ARG_MAX ARG_MIN ASSIGN_VARIABLE AVERAGE_POOL_2D BATCH_MATMUL
BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CALL_ONCE CAST CEIL
CONCATENATION CONV_2D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE
DEQUANTIZE DIV DYNAMIC_UPDATE_SLICE ELU EMBEDDING_LOOKUP EQUAL EXP
EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND
GREATER GREATER_EQUAL HARD_SWISH IF L2_NORMALIZATION L2_POOL_2D LEAKY_RELU
LESS LESS_EQUAL LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC LOG_SOFTMAX
MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL PACK PAD
PADV2 PRELU QUANTIZE READ_VARIABLE REDUCE_ALL REDUCE_MAX REDUCE_MIN RELU
RELU6 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_V2 ROUND
RSQRT SELECT_V2 SHAPE SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH
SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM
SVDF TANH TRANSPOSE TRANSPOSE_CONV UNIDIRECTIONAL_SEQUENCE_LSTM UNPACK
VAR_HANDLE WHILE ZEROS_LIKE
"""
MICRO_OPERATIONS = frozenset(_MICRO.split())
_NAMES = {number: name for name, number in vars(schema.TensorType).items()}


def checked_targets(
    targets: str | Sequence[str] | None, quantization: str
) -> tuple[str, ...]:
    """Tuple of the names of targets.

    Args:
        targets: name, or list of names.
        quantization: str, of the file.

    Raises:
        ValueError: an unknown name, or a quantization that the target lacks.
    """
    names = (targets,) if isinstance(targets, str) else tuple(targets or ())
    for name in names:
        if name not in TARGETS:
            raise ValueError(
                f"Expected `targets` out of {list(TARGETS)}. Received: "
                f"{name!r}."
            )
    if MICROCONTROLLER in names and quantization in ("dynamic", "float16"):
        raise ValueError(
            "Expected quantization='int8', 'qat' or None with "
            "targets=['microcontroller']: TFLite Micro has no operations with "
            "weights in fewer bits than activations. Received: "
            f"quantization={quantization!r}."
        )
    return names


def check_target(target: str, artifact, threshold: Threshold) -> None:
    """Raises an `ExportError` unless a target's runtime can run a file.

    Args:
        target: str, out of `TARGETS`.
        artifact: `LinkedStudent`.
        threshold: of the file that is checked, as in `convert`.
    """
    runtime = RUNTIMES[target]
    content = artifact.convert(threshold)
    model = read(content)
    signature = signature_of(model)
    graph = model.subgraphs[signature.subgraphIndex]
    for one in signature.inputs:
        tensor = graph.tensors[one.tensorIndex]
        dtype = _NAMES[tensor.type].lower()
        if dtype not in INPUT_TYPES[target]:
            raise ExportError(
                f"{runtime}, of the target '{target}', takes inputs of "
                f"{', '.join(INPUT_TYPES[target])}. Received: "
                f"'{one.name.decode()}' of {dtype}."
            )
        if tensor.shapeSignature is not None:
            raise ExportError(
                f"{runtime}, of the target '{target}', takes files of one row "
                "and fixed sizes, which the student's cannot be made."
            )
    if target != MICROCONTROLLER:
        return
    missing = missing_operations(
        model, MICRO_OPERATIONS, artifact.student_with_gate
    )
    if missing:
        raise ExportError(
            f"{runtime}, of the target '{target}', lacks operations of the "
            f"student: {', '.join(missing)}. Choose other layers or another "
            "gate."
        )
    if importlib.util.find_spec("tflite_micro") is None:
        return
    student = TFLiteMicroStudent(
        content,
        "student.tflite",
        lambda number: source_of(
            model, graph.operators[number], graph, artifact.student_with_gate
        ),
    )
    tell(f"TFLite Micro runs it in an arena of {student.arena_bytes:,} bytes.")
    student.close()


def missing_operations(model, known, student_with_gate) -> list[str]:
    """Operations of a file that are not known, with the layers they are of.

    Args:
        model: file, as `read` returns it.
        known: set of names of operations.
        student_with_gate: `StudentWithGate` that the file was made of.

    Returns:
        Sorted list of str, such as `"TOPK_V2 (in 'top' (Top))"`.
    """
    users: dict[str, set] = {}
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = operation_of(model, operator)
            if name not in known:
                source = source_of(model, operator, graph, student_with_gate)
                users.setdefault(name, set()).add(source)
    return [
        f"{name} (in {', '.join(sorted(sources - {None}))})"
        if sources - {None}
        else name
        for name, sources in sorted(users.items())
    ]


def source_of(model, operator, graph, student_with_gate) -> str | None:
    """Layer or gate that an operation of a file comes from, for errors.

    Args:
        model: file, as `read` returns it.
        operator: one of its operations.
        graph: subgraph that it is in.
        student_with_gate: `StudentWithGate` that the file was made of.
    """
    gate = student_with_gate.gate
    layers = layers_by_name(student_with_gate)
    layers = {
        name: layer
        for name, layer in layers.items()
        if layer is not student_with_gate
    }
    inputs = () if operator.inputs is None else operator.inputs
    for number in (*operator.outputs, *inputs):
        if number < 0:
            continue
        name = (graph.tensors[number].name or b"").decode()
        if name.startswith(GATE_PREFIX.decode()):
            return f"the gate {type(gate).__name__}"
        for part in name.split(";"):
            source = layer_of(part, layers)
            if source is not None:
                return source
    return None

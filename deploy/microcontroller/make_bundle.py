"""Writes a bundle's student and manifest as C++, into `generated/`.

    python make_bundle.py BUNDLE [--arena BYTES]

`student.cc` is the file, `bundle.h` what the manifest says, and
`operations.h` the operations that the file has, so that no other is linked.
Runs on the machine that builds the firmware, where keras_cascade is installed
with TensorFlow. Run here in CI.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.export.tflite_file import operations, read, signature_of
from keras_cascade.runtime.operating_points import delegation_rules

DEFAULT = "default"
LARGEST = float(np.finfo("float32").max)
#: Names in TFLite's schema to those of `MicroMutableOpResolver`, where they
#: are not the same words.
RESOLVER_NAMES = {
    "ARG_MAX": "ArgMax",
    "ARG_MIN": "ArgMin",
    "BATCH_MATMUL": "BatchMatMul",
    "CONV_2D": "Conv2D",
    "CUMSUM": "CumSum",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2D",
    "AVERAGE_POOL_2D": "AveragePool2D",
    "L2_POOL_2D": "L2Pool2D",
    "MAX_POOL_2D": "MaxPool2D",
    "PADV2": "PadV2",
    "SELECT_V2": "SelectV2",
    "TRANSPOSE_CONV": "TransposeConv",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTM",
}
V2_TYPES = {"float32": "FP32", "int8": "INT8", "uint8": "UINT8"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("bundle")
    parser.add_argument("--output", type=Path, default=Path("generated"))
    parser.add_argument(
        "--arena",
        type=int,
        default=0,
        help="bytes; by default as many as TFLite Micro needs here",
    )
    arguments = parser.parse_args()
    # Refuses an unknown version, and files that are not the manifest's.
    bundle = Bundle.load(arguments.bundle)
    arena = arguments.arena or smallest_arena(bundle)
    for name, text in generated(bundle, arena).items():
        file = arguments.output / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")


def smallest_arena(bundle):
    """Bytes that the student needs in TFLite Micro on this machine."""
    from keras_cascade.export.tflite_micro_student import TFLiteMicroStudent

    content = bundle.read(bundle.manifest["student"]["file"])
    # A board with pointers of 32 bits needs less, another version may more.
    return TFLiteMicroStudent(content, "student.tflite").arena_bytes + 2048


def generated(bundle, arena):
    """Dict of file name to content."""
    content = bundle.read(bundle.manifest["student"]["file"])
    return {
        "student.cc": student_source(content),
        "bundle.h": bundle_header(bundle, content, arena),
        "operations.h": operations_header(content),
    }


def student_source(content):
    """The file as an array, aligned for TFLite Micro."""
    rows = (content[start : start + 16] for start in range(0, len(content), 16))
    lines = "\n".join(f"  {', '.join(map(str, row))}," for row in rows)
    return (
        '#include "bundle.h"\n\nnamespace keras_cascade {\n\n'
        f"alignas(16) const unsigned char kStudent[] = {{\n{lines}\n}};\n\n"
        "}  // namespace keras_cascade\n"
    )


def bundle_header(bundle, content, arena):
    """What the manifest and the file's signature say."""
    manifest = bundle.manifest
    if len(bundle.inputs) != 1 or "text" in manifest["student"]:
        raise SystemExit(
            "Expected a bundle with one input of numbers. Received: "
            f"{[one['name'] for one in bundle.inputs]}, which this example "
            "does not read."
        )
    (spec,) = bundle.inputs
    sizes = spec["shape"][1:]
    if None in sizes:
        raise SystemExit(
            f"Expected an input of fixed sizes. Received: {spec['shape']}."
        )
    teacher = manifest.get("teacher") or bundle.remote_teacher
    (asked,) = bundle.teacher_inputs
    model = read(content)
    signature = signature_of(model)
    order = list(model.subgraphs[signature.subgraphIndex].outputs)
    index = {
        one.name.decode(): order.index(one.tensorIndex)
        for one in signature.outputs
    }
    low, high = spec["range"] or (-LARGEST / 16, LARGEST / 16)
    (own,) = bundle.student_inputs
    quantization = own.get("quantization") or {"scale": 0, "zero_point": 0}
    scale, zero_point = quantization["scale"], quantization["zero_point"]
    delegation_rules(bundle)  # refuses another number of class thresholds
    points = sorted(
        manifest["operating_points"], key=lambda one: one["name"] != DEFAULT
    )
    described = (
        f'"name":{json.dumps(asked["name"])},'
        f'"datatype":"{V2_TYPES[asked["dtype"]]}",'
        f'"shape":{json.dumps([1, *asked["shape"][1:]], separators=(",", ":"))}'
    )
    lines = [
        "// Written by make_bundle.py.",
        "",
        "#ifndef KERAS_CASCADE_GENERATED_BUNDLE_H_",
        "#define KERAS_CASCADE_GENERATED_BUNDLE_H_",
        "",
        '#include "../cascade.h"',
        "",
        "namespace keras_cascade {",
        "",
        "extern const unsigned char kStudent[];",
        f"constexpr int kArenaBytes = {arena};",
        f"constexpr int kInputSize = {math.prod(sizes)};",
        f"constexpr float kInputLow = {number(low)};",
        f"constexpr float kInputHigh = {number(high)};",
        "// Of integers in the place of floats; 0: the tensor says it.",
        f"constexpr float kInputScale = {number(scale)};",
        f"constexpr float kInputZeroPoint = {number(zero_point)};",
        "// Positions of the file's outputs.",
        f"constexpr int kProbabilities = {index['probabilities']};",
        f"constexpr int kScore = {index['score']};",
        f"constexpr int kDelegate = {index['delegate']};",
        f"constexpr int kClassCount = {len(bundle.classes)};",
        "constexpr const char* kClasses[] = {",
        *(f"    {quoted(name)}," for name in bundle.classes),
        "};",
        f"constexpr int kPointCount = {len(points)};",
        *(
            f"constexpr float kClassThresholds{i}[] = "
            f"{{{', '.join(map(number, one['class_thresholds']))}}};"
            for i, one in enumerate(points)
            if one.get("class_thresholds")
        ),
        "constexpr OperatingPoint kOperatingPoints[] = {",
        *(
            f"    {{{quoted(one['name'])}, {number(one['threshold'])}, "
            f"{str(one['name'] == DEFAULT).lower()}, "
            + (
                f"kClassThresholds{i}}},"
                if one.get("class_thresholds")
                else "nullptr},"
            )
            for i, one in enumerate(points)
        ),
        "};",
        "// nullptr: none is known, and any teacher is asked.",
        "constexpr const char* kTeacherIdentity = "
        + (
            "nullptr;"
            if bundle.teacher_identity is None
            else f"{quoted(bundle.teacher_identity)};"
        ),
        f"constexpr const char* kTeacherInput = {quoted(described)};",
        "constexpr const char* kTeacherOutput = "
        + quoted(teacher.get("output", "logits"))
        + ";",
        "",
        "}  // namespace keras_cascade",
        "",
        "#endif  // KERAS_CASCADE_GENERATED_BUNDLE_H_",
    ]
    return "\n".join(lines) + "\n"


def operations_header(content):
    """A resolver with the file's operations and no other."""
    builtin, custom = operations(content)
    if custom:
        raise SystemExit(
            f"TFLite Micro lacks the operations {custom}. Export the student "
            "with other layers."
        )
    adds = "\n".join(
        f"  TF_LITE_ENSURE_STATUS(resolver.Add{resolver_name(name)}());"
        for name in builtin
    )
    return (
        "// Written by make_bundle.py.\n\n"
        "#ifndef KERAS_CASCADE_GENERATED_OPERATIONS_H_\n"
        "#define KERAS_CASCADE_GENERATED_OPERATIONS_H_\n\n"
        '#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"\n\n'
        "namespace keras_cascade {\n\n"
        "using OperationResolver = "
        f"tflite::MicroMutableOpResolver<{len(builtin)}>;\n\n"
        "inline TfLiteStatus AddOperations(OperationResolver& resolver) {\n"
        f"{adds}\n  return kTfLiteOk;\n}}\n\n"
        "}  // namespace keras_cascade\n\n"
        "#endif  // KERAS_CASCADE_GENERATED_OPERATIONS_H_\n"
    )


def resolver_name(operation):
    """Name of an operation in `MicroMutableOpResolver`."""
    return RESOLVER_NAMES.get(operation) or "".join(
        word.capitalize() for word in operation.split("_")
    )


def number(value):
    """A float32 constant, as the device compares it."""
    value = float(np.float32(np.clip(value, -LARGEST, LARGEST)))
    return f"{value.hex()}f"


def quoted(text):
    """A string constant of UTF-8."""
    escaped = {ord('"'): '\\"', ord("\\"): "\\\\"}
    safe = (
        escaped.get(byte)
        or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        for byte in text.encode()
    )
    return f'"{"".join(safe)}"'


if __name__ == "__main__":
    main()

"""Messages of Open Inference Protocol v2 over gRPC.

They follow the protocol's public description and live in a descriptor pool of
their own: KServe and Triton's client each register theirs under the same
names in the common pool, and a process that loads a second one fails.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

SERVICE = "inference.GRPCInferenceService"

# name: {field: (number, type)}; [type] is repeated, {type} the values of a map
# with strings as keys, capitals are messages.
_MESSAGES: dict[str, dict] = {
    "ServerLiveRequest": {},
    "ServerLiveResponse": {"live": (1, "bool")},
    "ServerReadyRequest": {},
    "ServerReadyResponse": {"ready": (1, "bool")},
    "ServerMetadataRequest": {},
    "ServerMetadataResponse": {
        "name": (1, "string"),
        "version": (2, "string"),
        "extensions": (3, ["string"]),
    },
    "ModelMetadataRequest": {"name": (1, "string"), "version": (2, "string")},
    "TensorMetadata": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, ["int64"]),
    },
    "ModelMetadataResponse": {
        "name": (1, "string"),
        "versions": (2, ["string"]),
        "platform": (3, "string"),
        "inputs": (4, ["TensorMetadata"]),
        "outputs": (5, ["TensorMetadata"]),
        "properties": (6, {"string"}),
    },
    "ModelReadyRequest": {"name": (1, "string"), "version": (2, "string")},
    "ModelReadyResponse": {"ready": (1, "bool")},
    "Contents": {
        "bool_contents": (1, ["bool"]),
        "int_contents": (2, ["int32"]),
        "int64_contents": (3, ["int64"]),
        "uint_contents": (4, ["uint32"]),
        "uint64_contents": (5, ["uint64"]),
        "fp32_contents": (6, ["float"]),
        "fp64_contents": (7, ["double"]),
        "bytes_contents": (8, ["bytes"]),
    },
    "Tensor": {
        "name": (1, "string"),
        "datatype": (2, "string"),
        "shape": (3, ["int64"]),
        "contents": (5, "Contents"),
    },
    # A `oneof` in the public description, which makes no difference here.
    "InferParameter": {
        "bool_param": (1, "bool"),
        "int64_param": (2, "int64"),
        "string_param": (3, "string"),
    },
    "RequestedOutput": {"name": (1, "string")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, ["Tensor"]),
        "outputs": (6, ["RequestedOutput"]),
        "raw_input_contents": (7, ["bytes"]),
    },
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, {"InferParameter"}),
        "outputs": (5, ["Tensor"]),
        "raw_output_contents": (6, ["bytes"]),
    },
}

#: The field of `Contents` for each datatype.
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@functools.cache
def messages() -> SimpleNamespace:
    """Returns the message classes, by name.

    Raises:
        ImportError: protobuf is not installed.
    """
    from google.protobuf import (
        descriptor_pb2,
        descriptor_pool,
        message_factory,
    )

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_cascade_v2.proto", package="inference", syntax="proto3"
    )

    def add_field(message, name, number, kind):
        repeated = isinstance(kind, (list, set))
        field = message.field.add(
            name=name,
            number=number,
            label=field_type.LABEL_REPEATED
            if repeated
            else field_type.LABEL_OPTIONAL,
        )
        (element,) = kind if repeated else (kind,)
        if isinstance(kind, set):
            # A map is repeated pairs, as Protocol Buffers define it.
            element = f"{name.title()}Entry"
            entry = message.nested_type.add(name=element)
            entry.options.map_entry = True
            add_field(entry, "key", 1, "string")
            add_field(entry, "value", 2, *kind)
            element = f"{message.name}.{element}"
        if element in _MESSAGES or isinstance(kind, set):
            field.type = field_type.TYPE_MESSAGE
            field.type_name = f".inference.{element}"
        else:
            field.type = field_type.Type.Value(f"TYPE_{element.upper()}")

    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            add_field(message, field_name, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return SimpleNamespace(
        **{
            name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"inference.{name}")
            )
            for name in _MESSAGES
        }
    )

"""Messages of Open Inference Protocol v2 over gRPC.

They follow the protocol's public description and live in a descriptor pool of
their own: KServe and Triton's client each register theirs under the same
names in the common pool, and a process that loads a second one fails.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

SERVICE = "inference.GRPCInferenceService"

# name: {field: (number, type)}; [type] is repeated, {type: type} is a map,
# capitals are messages.
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
    "RequestedOutput": {"name": (1, "string")},
    "ModelInferRequest": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "inputs": (5, ["Tensor"]),
        "outputs": (6, ["RequestedOutput"]),
        "raw_input_contents": (7, ["bytes"]),
    },
    "InferParameter": {"string_param": (3, "string")},
    "ModelInferResponse": {
        "model_name": (1, "string"),
        "model_version": (2, "string"),
        "id": (3, "string"),
        "parameters": (4, {"string": "InferParameter"}),
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

    file = descriptor_pb2.FileDescriptorProto(
        name="keras_cascade_v2.proto", package="inference", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            repeated = isinstance(kind, (dict, list))
            if isinstance(kind, dict):
                # A map is a repeated message of its keys and values.
                ((key, value),) = kind.items()
                entry = message.nested_type.add(
                    name=f"{field_name.title().replace('_', '')}Entry"
                )
                entry.options.map_entry = True
                _add_field(entry, "key", 1, key)
                _add_field(entry, "value", 2, value)
                kind = f"{name}.{entry.name}"
            elif repeated:
                (kind,) = kind
            _add_field(message, field_name, number, kind, repeated)
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


def _add_field(message, name, number, kind, repeated=False):
    from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

    field = message.field.add(
        name=name,
        number=number,
        label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
    )
    if kind[0].isupper():
        field.type = Field.TYPE_MESSAGE
        field.type_name = f".inference.{kind}"
    else:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")

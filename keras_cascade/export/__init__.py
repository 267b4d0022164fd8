"""Export of cascades: converted, run and compared before it is written."""

from keras_cascade.errors import ExportError
from keras_cascade.export.bundle_export import export_bundle
from keras_cascade.export.fused_export import export_fused
from keras_cascade.export.latency_costs import costs_from_latency
from keras_cascade.export.onnx_export import export_onnx
from keras_cascade.export.student_export import export_student

__all__ = [
    "ExportError",
    "costs_from_latency",
    "export_bundle",
    "export_fused",
    "export_onnx",
    "export_student",
]


def __dir__():
    return list(__all__)

"""A bundle's own teacher in this process, by the format of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_cascade.runtime.teachers.onnx_teacher import ONNX, OnnxTeacher
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher

if TYPE_CHECKING:
    from keras_cascade.bundle import Bundle


def is_onnx(bundle: Bundle) -> bool:
    """Returns `True` where the bundle's teacher is an ONNX file."""
    return (bundle.manifest.get("teacher") or {}).get("format") == ONNX


def local_teacher(
    bundle: Bundle, allow_file_operations: bool = False
) -> SavedModelTeacher | OnnxTeacher:
    """Opens a bundle's teacher: a SavedModel or an ONNX file.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        allow_file_operations: bool, as in `SavedModelTeacher.of`. Defaults to
            `False`.

    Raises:
        BundleError: the bundle holds no teacher, or a file was altered.
        TeacherError: TensorFlow or onnxruntime is missing, or cannot open it.
    """
    if is_onnx(bundle) and bundle.teacher_folder is not None:
        return OnnxTeacher.of(bundle)
    return SavedModelTeacher.of(bundle, allow_file_operations)

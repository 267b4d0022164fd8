"""The ONNX files of a bundle, with a threshold fitted on the student's own."""

from keras_cascade.export.artifact import write_fitted
from keras_cascade.export.onnx_export import OnnxStudent, export_onnx

PARTS = ("student", "teacher")


def checked_parts(onnx):
    """Tuple of the models to write, from `True`, `False` or names."""
    if isinstance(onnx, bool) or onnx is None:
        return PARTS if onnx else ()
    parts = (onnx,) if isinstance(onnx, str) else tuple(onnx)
    if set(parts) - set(PARTS):
        raise ValueError(
            "Expected `onnx` to be True, False, or names out of "
            f"{list(PARTS)}. Received: {onnx!r}."
        )
    return parts


def write_onnx(
    cascade, folder, parts, data, example_inputs, signature, batch_size,
    allow_training_data, side,
):  # fmt: skip
    """Writes `student.onnx` and `teacher.onnx`, as far as asked.

    The student's file computes in float32, whatever the TFLite file does, so
    it has a threshold of its own, fitted on its own scores.

    Args:
        cascade: `Cascade`.
        folder: `Path` of the bundle.
        parts: tuple out of `"student"` and `"teacher"`.
        data: `(x, y, sample_weight)` that can be read twice.
        example_inputs: a batch of inputs.
        signature: `Signature` of them.
        batch_size: int, with arrays.
        allow_training_data: bool.
        side: `ModelSide` of the student.

    Returns:
        Dict of part to `(path, OperatingPoint, Comparison)`, the last two
        `None` for the teacher.
    """
    written = {}
    for part in parts:
        path = folder / f"{part}.onnx"
        if part == "teacher":
            export_onnx(cascade, path, example_inputs, part)
            written[part] = (path, None, None)
        else:
            artifact = OnnxStudent(
                side.with_gate(cascade),
                side.inputs(example_inputs),
                side.signature,
            )
            fitted = write_fitted(
                cascade, artifact, path, data, signature, batch_size,
                allow_training_data, side.reader,
            )  # fmt: skip
            written[part] = (path, *fitted)
    return written

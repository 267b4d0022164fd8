"""Export formats by name, as `Cascade.export` takes them."""

import inspect

from keras_cascade.export.bundle_export import export_bundle
from keras_cascade.export.fused_export import export_fused
from keras_cascade.export.onnx_export import export_onnx
from keras_cascade.export.student_export import export_student

EXPORTERS = {
    "bundle": export_bundle,
    "litert": export_student,
    "onnx": export_onnx,
    "tf_saved_model": export_fused,
}


def export_as(format, cascade, filepath, verbose=None, **options):
    """Calls the exporter of a format with the options that were given.

    Args:
        format: str, a key of `EXPORTERS`.
        cascade: `Cascade`.
        filepath: path to write.
        verbose: bool or `None`, of every exporter.
        **options: arguments of the exporter; `None` is its default. Data that
            is not given is what the cascade was calibrated on or saw first.

    Returns:
        The exporter's result.

    Raises:
        ValueError: an unknown format, or an option that it does not take.
    """
    if format not in EXPORTERS:
        raise ValueError(
            "Expected format 'bundle', 'litert', 'onnx' or "
            f"'tf_saved_model'. Received: {format!r}."
        )
    exporter = EXPORTERS[format]
    options = {k: v for k, v in options.items() if v is not None}
    accepted = list(inspect.signature(exporter).parameters)[2:]
    for name in options:
        if name not in accepted:
            raise ValueError(
                f"Expected the arguments of format '{format}': "
                f"{', '.join(accepted)}. Received: {name}."
            )
    known = "calibration_data" if format == "bundle" else "example_inputs"
    options.setdefault(known, getattr(cascade.data_record, known))
    names = cascade.data_record.class_names
    if format == "bundle" and names is not None:
        options.setdefault("class_names", names)
    return exporter(cascade, filepath, verbose=verbose, **options)

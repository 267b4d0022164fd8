"""Student and gate as one TFLite file with built-in operations only."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_cascade.export.backend import check_backend
from keras_cascade.export.converter_process import CONVERTER
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.quantization import (
    FLOAT32,
    TRAINING,
    checked_quantization,
)
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_student import batch_file
from keras_cascade.utils.output_path import output_path
from keras_cascade.utils.progress import progress_shown

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade


def export_student(
    cascade: "Cascade",
    filepath: str | os.PathLike,
    example_inputs: Any = None,
    quantization: str | None = None,
    calibration_data: Any = None,
    batch_size: int = 256,
    allow_training_data: bool = False,
    training_data: Any = None,
    optimization: dict | None = None,
    float_layers: Sequence[str] = (),
    verbose: bool | None = None,
    input_shape: tuple | dict | None = None,
    io_type: str | None = None,
    input_type: str | None = None,
    targets: str | Sequence[str] = (),
) -> Signature:
    """Writes the student and its gate as one TFLite file.

    For a student of texts the file takes token ids, and the tokenizer is
    written beside it: `NAME.tokenizer.json` beside `NAME.tflite`.

    The file has the signature `serving_default` with the outputs
    `probabilities`, `score` and `delegate` (int32, 0 or 1). Its sizes are
    fixed, for one row, so that browsers, GPU delegates and microcontrollers
    take it; LiteRT's interpreter resizes it to any number of rows. Where it
    cannot, as some students compute with the number of rows, or where sizes
    are free, a file for that is written beside it: `NAME_batch.tflite`. With
    calibration data the files are run before this returns, compared with
    Keras, and the threshold fitted on their own scores.

    Args:
        cascade: `Cascade` with a built student.
        filepath: path that ends in `.tflite`. A file there is replaced.
        example_inputs: a batch of inputs; gives names, shapes and types.
            Defaults to inputs that the cascade has seen in this process,
            when the cascade calls this, or the first of `calibration_data`.
        quantization: `None` (float32), `"float16"`, `"dynamic"` (weights of
            8 bits), `"int8"` (activations too; inputs and outputs stay
            float) or `"int4"` (weights of 4 bits, and of 8 where 4 cannot
            be); or one that trains the student on: `"qat"`, `"prune"`,
            `"cluster"`, `"prune+qat"`, `"cluster+qat"`. The gate computes in
            float32. Defaults to `None`.
        calibration_data: held-out labelled examples, as `Cascade.calibrate`
            takes. Defaults, with a quantization, to what `calibrate` was
            given in this process.
        batch_size: int, with arrays. Defaults to `256`.
        allow_training_data: bool. Accepts calibration data that the student
            was trained on. Defaults to `False`.
        training_data: labelled examples, for a quantization that trains.
        optimization: dict of options for
            `keras_cascade.export.optimization.optimize_student`.
        float_layers: of `export_bundle`. Defaults to `()`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.
        input_shape: sizes of one example, in the place of those that the
            models leave free; or a dict of them by input name. Defaults to
            `None`: what is free stays free.
        io_type: `"int8"` makes float inputs of an 8-bit student int8, by a
            scale that the file and a bundle's manifest state; the outputs
            stay float32 and int32, from dequantized logits. Defaults to
            `None`: float32.
        input_type: `"uint8"` makes images uint8, and scales them in the file.
            The teacher takes what it took. Defaults to `None`: float32.
        targets: list of str out of `"microcontroller"`, `"browser"` and
            `"phone"`: raises unless the runtime there has the file's
            operations and types. Where `tflite-micro` is installed, it runs
            the file for `"microcontroller"`. Defaults to `()`.

    Returns:
        `Signature` of the file.

    Raises:
        ExportError: the student needs operations that TFLite lacks, or the
            file does not answer as Keras does.
        RuntimeError: Keras does not run on TensorFlow.
        ValueError: a quantized student without the data to fit its threshold
            on, or no threshold meets the objective on the file.
    """
    check_backend()
    quantization = checked_quantization(quantization)
    filepath = Path(filepath)
    if filepath.suffix != ".tflite":
        raise ValueError(
            f"Expected a path that ends in '.tflite'. Received: '{filepath}'."
        )
    target = output_path(filepath)
    if calibration_data is None and quantization != FLOAT32:
        calibration_data = cascade.data_record.calibration_data
    if quantization not in TRAINING:  # those take their time before
        CONVERTER.start()
    job = ExportJob(
        cascade,
        calibration_data,
        example_inputs,
        batch_size,
        quantization,
        allow_training_data,
        training_data,
        optimization,
        float_layers=float_layers,
        input_shape=input_shape,
        io_type=io_type,
        input_type=input_type,
        targets=targets,
    )
    _check_data(job)
    with (
        progress_shown(verbose),
        job.in_float32(),
        tempfile.TemporaryDirectory(
            prefix=f".{target.name}-", dir=target.parent
        ) as folder,
    ):
        artifact = job.student_artifact()
        reader = job.student.reader
        part = Path(folder, target.name)
        if job.data is None:
            artifact.write(part, cascade.gate.decision_threshold)
        else:
            job.write_student(artifact, part)
        if reader is not None:
            tokenizer = Path(folder, "tokenizer.json")
            tokenizer.write_text(reader.tokenizer.content, encoding="utf-8")
            os.replace(tokenizer, target.with_suffix(".tokenizer.json"))
        if batch_file(part).exists():
            os.replace(batch_file(part), batch_file(target))
        else:  # of an earlier export
            batch_file(target).unlink(missing_ok=True)
        os.replace(part, target)
    return job.student.signature


def _check_data(job):
    """Raises where a quantized file cannot do without calibration data."""
    if job.data is not None or job.quantization == FLOAT32:
        return
    if job.quantization == "int8":
        reason = (
            "the ranges of an int8 student's activations are measured on it"
        )
    elif job.cascade.operating_point is not None:
        reason = "a quantized student's threshold is fitted on its own scores"
    else:
        return
    raise ValueError(
        f"Expected `calibration_data` for quantization='{job.quantization}': "
        f"{reason}. Received none, and the cascade was not calibrated in this "
        "process. Pass held-out labelled examples."
    )

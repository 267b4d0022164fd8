"""Student and gate as one TFLite file with built-in operations only."""

import os
import tempfile
from pathlib import Path

from keras_cascade.errors import ExportError
from keras_cascade.export.artifact import read_twice, write_fitted
from keras_cascade.export.model_side import ModelSide
from keras_cascade.export.optimized_export import optimized_student
from keras_cascade.export.quantization import (
    FLOAT32,
    TRAINING,
    checked_quantization,
    representative_inputs,
)
from keras_cascade.export.signature import Signature
from keras_cascade.export.tflite_student import TFLiteStudent


def export_student(
    cascade,
    filepath,
    example_inputs=None,
    quantization=None,
    calibration_data=None,
    batch_size=256,
    allow_training_data=False,
    training_data=None,
    optimization=None,
):
    """Writes the student and its gate as one TFLite file.

    Of a student of texts the file takes token ids, and its tokenizer stands
    beside it: `NAME.tokenizer.json` beside `NAME.tflite`.

    The file has the signature `serving_default` with the outputs
    `probabilities`, `score` and `delegate`, and takes any batch size. With
    calibration data it is run before this returns, compared with Keras, and
    its threshold fitted on its own scores.

    Args:
        cascade: `Cascade` with a built student.
        filepath: path that ends in `.tflite`. A file there is replaced.
        example_inputs: a batch of inputs; gives names, shapes and types.
            Defaults to inputs that the cascade has seen in this process,
            when the cascade calls this, or the first of `calibration_data`.
        quantization: `None` (float32), `"float16"`, `"dynamic"` (weights of
            8 bits) or `"int8"` (activations too; inputs and outputs stay
            float); or one that trains the student on: `"qat"`, `"prune"`,
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

    Returns:
        `Signature` of the file.

    Raises:
        ExportError: the student needs operations that TFLite lacks, or the
            file does not answer as Keras does.
        ValueError: a quantized student without the data to fit its threshold
            on, or no threshold meets the objective on the file.
    """
    quantization = checked_quantization(quantization)
    filepath = Path(filepath)
    if filepath.suffix != ".tflite":
        raise ValueError(
            f"Expected a path that ends in '.tflite'. Received: '{filepath}'."
        )
    cascade.gate.check_ready()
    if calibration_data is None and quantization != FLOAT32:
        calibration_data = cascade.data_record.calibration_data
    data = None
    if calibration_data is not None:
        data, first = read_twice(calibration_data)
        cascade.prepare(first[0])
        example_inputs = first[0] if example_inputs is None else example_inputs
    _check_given(cascade, quantization, data)
    if example_inputs is None:
        raise ValueError(
            "Expected `example_inputs`, a batch of inputs: they give names, "
            "shapes and types, and this cascade has seen none yet."
        )
    side = ModelSide("student", cascade, example_inputs)
    artifact = convert_student(
        cascade, example_inputs, quantization, data, training_data,
        optimization,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(
        prefix=f".{filepath.name}-", dir=filepath.parent
    ) as folder:
        part = Path(folder, filepath.name)
        if data is None:
            part.write_bytes(artifact.convert(cascade.threshold))
        else:
            write_fitted(
                cascade, artifact, part, data, Signature(example_inputs),
                batch_size, allow_training_data, side.reader,
            )  # fmt: skip
        if side.reader is not None:
            tokenizer = Path(folder, "tokenizer.json")
            content = side.reader.tokenizer.content
            tokenizer.write_text(content, encoding="utf-8")
            os.replace(tokenizer, filepath.with_suffix(".tokenizer.json"))
        os.replace(part, filepath)
    return side.signature


def convert_student(
    cascade,
    example_inputs,
    quantization=FLOAT32,
    data=None,
    training_data=None,
    optimization=None,
):
    """A cascade's student and gate, ready to be written.

    Args:
        cascade: prepared `Cascade`.
        example_inputs: a batch of inputs.
        quantization: str. Defaults to `"float32"`.
        data: `(x, y, sample_weight)` that can be read twice. Only `"int8"`
            looks at it, for the ranges of activations. Defaults to `None`.
        training_data: of `export_student`.
        optimization: of `export_student`.

    Returns:
        `StudentArtifact`.
    """
    side = ModelSide("student", cascade, example_inputs)
    if quantization in TRAINING:
        if side.reader is not None:
            raise ExportError(
                f"quantization='{quantization}' trains students of numbers "
                "on. Received one of texts. Use 'dynamic', 'int8' or "
                "'float16'."
            )
        return optimized_student(
            cascade, example_inputs, quantization, training_data, optimization
        )
    representative = ()
    if quantization == "int8":
        representative = list(map(side.inputs, representative_inputs(data)))
    return TFLiteStudent(
        side.with_gate(cascade),
        side.inputs(example_inputs),
        quantization,
        representative,
        side.signature,
    )


def _check_given(cascade, quantization, data):
    if data is not None or quantization == FLOAT32:
        return
    if quantization == "int8":
        why = "the ranges of an int8 student's activations are measured on it"
    elif cascade.operating_point is not None:
        why = "a quantized student's threshold is fitted on its own scores"
    else:
        return
    raise ValueError(
        f"Expected `calibration_data` for quantization='{quantization}': "
        f"{why}. Received none, and the cascade was not calibrated in this "
        "process. Pass held-out labelled examples."
    )

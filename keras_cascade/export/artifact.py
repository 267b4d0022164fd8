"""The threshold of a file, fitted on the file's own scores."""

import dataclasses

from keras_cascade.bundle import BundleError
from keras_cascade.calibration import (
    calibrate,
    measure_threshold,
    objective_from_description,
)
from keras_cascade.datasets import batches as data_batches
from keras_cascade.datasets.input_checks import checked_batches
from keras_cascade.errors import ExportError
from keras_cascade.export.verification import check_decisions, compare
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.tokenized import TokenizedStudent
from keras_cascade.text.text_columns import as_text_arrays


def read_twice(data):
    """`(x, y, sample_weight)` of data that can be read again.

    Args:
        data: labelled examples, as `Cascade.calibrate` takes.

    Returns:
        Tuple of three, for `iterate_batches`, and the first batch.
    """
    x, y, weight = data_batches.arrays_or_batches(data)
    x = as_text_arrays(x)
    if hasattr(x, "__next__"):
        raise ValueError(
            "Expected calibration data that can be read twice: arrays, a "
            "`tf.data.Dataset` or a `PyDataset`. Received a generator."
        )
    first = next(data_batches.iterate_batches(x, y, weight), None)
    if first is None:
        raise ValueError("Expected at least one calibration example.")
    return (x, y, weight), first


def write_fitted(
    cascade, student_file, path, data, signature, batch_size,
    quantization, allow_training_data, open_file=None, reader=None,
):  # fmt: skip
    """Writes a student's file with the threshold that is right for it.

    LiteRT runs the file over the calibration data; its answers are compared
    with Keras, and the cascade's objective is fitted again on its scores.
    Where that moves the threshold, the file is written once more. In any case
    it is run once more: its scores must be the same, and its decisions those
    of `score < threshold`.

    Args:
        cascade: `Cascade`; keeps its own threshold.
        student_file: `StudentFile`, or another with `convert(threshold)`.
        path: `Path` to write.
        data: `(x, y, sample_weight)` that can be read twice.
        signature: `Signature`; learns the inputs' value ranges.
        batch_size: int, with arrays.
        quantization: str, for errors and tolerances.
        allow_training_data: bool.
        open_file: function from a path to what runs it. Defaults to
            `StudentInterpreter`.
        reader: `TextReader`, where the file takes token ids. Defaults to
            `None`.

    Returns:
        `(OperatingPoint, Comparison)`.

    Raises:
        ExportError: the file does not answer as Keras does.
        ValueError: no threshold meets the objective on the file.
    """
    two_stages = cascade.two_stage_pass()
    open_raw = open_file or _opened

    def opened():
        file = open_raw(path)
        return file if reader is None else TokenizedStudent(file, reader)

    def batches():
        return checked_batches(*data, batch_size, classes=cascade.classes)

    path.write_bytes(student_file.convert(cascade.threshold))
    comparison = compare(
        opened(),
        two_stages.run_student,
        two_stages.ask_teacher,
        batches(),
        signature,
        quantization,
        cascade.data_record.traffic,
    )
    if not allow_training_data:
        calibrated = cascade.operating_point
        guaranteed = (
            ("validation",) if calibrated and calibrated.guarantees else ()
        )
        cascade.data_record.refuse(
            comparison.results.examples, "training", *guaranteed, "gate"
        )
    point = _operating_point(cascade, comparison.results, path, quantization)
    if point.threshold != cascade.threshold:
        path.write_bytes(student_file.convert(point.threshold))
    check_decisions(
        opened(),
        batches(),
        signature,
        point.threshold,
        comparison.scores,
    )
    return point, comparison


def _opened(path):
    try:
        return StudentInterpreter(path)
    except BundleError as error:
        # Such as scales that its kernels cannot compute with, of a student
        # whose outputs hardly vary.
        text = " ".join(str(error.__cause__ or error).split())[:300]
        raise ExportError(
            f"LiteRT cannot open the exported student: {text}. The file was "
            "not kept. Train the student first, or export it without "
            "quantization."
        ) from error


def _operating_point(cascade, results, path, quantization):
    """The cascade's objective, met again on the file's own scores.

    Where that decides as the cascade's threshold does, the threshold stays.
    A threshold that was set by hand is measured only.
    """
    calibrated = cascade.operating_point
    here = measure_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        cascade.threshold,
        sample_weight=results.sample_weight,
        costs=cascade.costs,
    )
    if calibrated is None:
        return here
    try:
        fitted = calibrate(
            results,
            objective_from_description(calibrated.objective),
            cascade.costs,
            cascade.data_record.traffic,
            cascade.data_record.seed,
        )
    except ValueError as error:
        raise ValueError(
            f"No threshold of the file that would ship ({path.name} in "
            f"{quantization}) meets what the cascade was calibrated for, so "
            f"nothing was written. {error}"
        ) from error
    # Thresholds are nested: the same rate is the same set of examples.
    if fitted.delegation_rate == here.delegation_rate:
        return dataclasses.replace(fitted, threshold=here.threshold)
    return fitted

"""Writes a bundle: converts, runs, compares, measures, then moves it."""

import importlib.resources
import warnings
from pathlib import Path

import jinja2
import keras

from keras_cascade.bundle import Bundle, new_folder
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.datasets.batches import iterate_batches
from keras_cascade.export.artifact import read_twice, write_fitted
from keras_cascade.export.manifest_content import (
    STUDENT_FILE,
    TEACHER_FOLDER,
    described_onnx,
    manifest_of,
)
from keras_cascade.export.model_side import ModelSide
from keras_cascade.export.named_points import checked_objectives, named_points
from keras_cascade.export.onnx_bundle import checked_parts, write_onnx
from keras_cascade.export.quantization import FLOAT32, checked_quantization
from keras_cascade.export.signature import Signature
from keras_cascade.export.student_export import convert_student
from keras_cascade.export.teacher_export import export_teacher
from keras_cascade.export.verification import check_teacher
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher

CARD_FILE = "README.md"


def export_bundle(
    cascade,
    filepath,
    calibration_data=None,
    class_names=None,
    batch_size=256,
    overwrite=False,
    allow_training_data=False,
    quantization=None,
    training_data=None,
    optimization=None,
    onnx=False,
    operating_points=None,
):
    """Writes the bundle of a cascade, verified on the files that ship.

    The student and its gate become one TFLite file, which LiteRT runs over
    the calibration data before this returns. Its decisions are compared with
    Keras, and the cascade's objective is fitted again on the file's own
    scores: where that changes a decision, the file gets the new threshold
    and is run again. What the manifest states was measured on the file.

    Args:
        cascade: `Cascade`.
        filepath: folder to write.
        calibration_data: held-out labelled examples, as `Cascade.calibrate`
            takes. Defaults to what `calibrate` was given, when the cascade
            calls this.
        class_names: list of str. Defaults to `"0"`, `"1"`, ....
        batch_size: int, with arrays. Defaults to `256`.
        overwrite: bool. Replaces an existing bundle. Defaults to `False`.
        allow_training_data: bool. Accepts examples that the student was
            trained on, and with them numbers that are too good. Defaults to
            `False`.
        quantization: how the student is stored: `None` (float32),
            `"float16"`, `"dynamic"` (weights of 8 bits) or `"int8"`
            (activations too; their ranges are measured on the calibration
            inputs); or one that trains the student on: `"qat"`, `"prune"`,
            `"cluster"`, `"prune+qat"`, `"cluster+qat"`. Inputs, outputs and
            the gate stay as they are. Defaults to `None`.
        training_data: labelled examples, for a quantization that trains.
        optimization: dict of options for
            `keras_cascade.export.optimization.optimize_student`.
        onnx: bool, or `"student"` or `"teacher"`. Adds `student.onnx` (the
            Keras student with its gate, in float32 whatever `quantization`
            says, with a threshold fitted on its own scores) and
            `teacher.onnx`, run in onnxruntime. Defaults to `False`.
        operating_points: dict of name to objective, or list of objectives:
            further thresholds, fitted on the file's own scores, which a
            device can switch to. Defaults to `None`: only what `calibrate`
            found.

    Returns:
        `keras_cascade.bundle.Bundle`.

    Raises:
        ExportError: a model cannot be converted or answers otherwise.
        ValueError: no data to verify with, or no threshold meets the
            objective on the file that ships.
    """
    _check_backend()
    quantization = checked_quantization(quantization)
    onnx_parts = checked_parts(onnx)
    objectives = checked_objectives(operating_points)
    cascade.gate.check_ready()
    if calibration_data is None:
        raise ValueError(
            "Export runs the exported file on real examples before it "
            "returns. Expected: `calibration_data`, or a cascade that was "
            "calibrated in this process. Received neither."
        )
    if cascade.data_record.outdated:
        warnings.warn(
            "The threshold was chosen before the student or the gate was "
            "trained on, and the bundle will guarantee nothing. Call "
            "`calibrate` again before `export`.",
            stacklevel=3,
        )
    data, first = read_twice(calibration_data)
    cascade.prepare(first[0])
    class_names = _checked_names(class_names, cascade.classes)
    signature = Signature(first[0])
    with new_folder(filepath, overwrite) as folder:
        artifact = convert_student(
            cascade, first[0], quantization, data, training_data, optimization
        )
        student = ModelSide("student", cascade, first[0])
        teacher = ModelSide("teacher", cascade, first[0])
        for side in (student, teacher):
            side.check_lengths(first[0])
        point, comparison = write_fitted(
            cascade, artifact, folder / STUDENT_FILE, data, signature,
            batch_size, allow_training_data, student.reader,
        )  # fmt: skip
        points = [
            point,
            *named_points(
                cascade, comparison.results, objectives, allow_training_data
            ),
        ]
        export_teacher(teacher, folder / TEACHER_FOLDER)
        check_teacher(
            teacher.asked(SavedModelTeacher(folder / TEACHER_FOLDER)),
            cascade.two_stage_pass().ask_teacher,
            first[0],
            signature,
        )
        onnx_files = write_onnx(
            cascade, folder, onnx_parts, data, first[0], signature,
            batch_size, allow_training_data, student,
        )  # fmt: skip
        manifest = manifest_of(
            Path(filepath).name, folder, cascade, class_names, signature,
            points, comparison,
        )  # fmt: skip
        manifest["student"] |= artifact.describe()
        for side in (student, teacher):
            batches = iterate_batches(*data, batch_size)
            manifest[side.role] |= side.ship(folder, batches)
        if quantization != FLOAT32:
            whole = convert_student(cascade, first[0])
            manifest["verification"]["size_over_float32"] = manifest["student"][
                "bytes"
            ] / len(whole.convert(point.threshold))
        if onnx_files:
            manifest["onnx"] = described_onnx(onnx_files)
        card = folder / CARD_FILE
        card.write_text(model_card(manifest), encoding="utf-8")
        manifest["card"] = {"file": CARD_FILE, "sha256": hash_file(card)}
        write_manifest(manifest, folder / MANIFEST)
        Bundle.load(folder)
    return Bundle.load(filepath)


def model_card(manifest):
    """The bundle's README: what it is, its numbers, how to run it."""
    template = importlib.resources.files(__package__).joinpath(
        "model_card.md.jinja"
    )
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sentence"] = guarantee_sentence
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        **manifest, point=manifest["operating_points"][0]
    )


def _check_backend():
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "Export needs the TensorFlow backend. Received: "
            f"'{backend}'. Save the cascade with `cascade.save('c.keras')`, "
            "start Python again with KERAS_BACKEND=tensorflow, and call "
            "`keras.models.load_model('c.keras').export(...)`."
        )


def _checked_names(class_names, classes):
    if class_names is None:
        return [str(number) for number in range(classes)]
    names = [str(name) for name in class_names]
    if len(names) != classes:
        raise ValueError(
            f"Expected {classes} class names, one a logit. Received "
            f"{len(names)}."
        )
    return names

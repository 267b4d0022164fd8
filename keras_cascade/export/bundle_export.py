"""Bundles: converted, run, compared, measured, then moved into place."""

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_cascade.bundle import Bundle, new_folder
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.errors import TeacherError
from keras_cascade.evaluation.teacher_remarks import teacher_remarks
from keras_cascade.export.backend import check_backend
from keras_cascade.export.converter_process import CONVERTER
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.external_teachers import (
    is_external,
    write_external_teacher,
)
from keras_cascade.export.manifest_content import (
    STUDENT_FILE,
    TEACHER_FOLDER,
    described_onnx,
    manifest_of,
    model_card,
)
from keras_cascade.export.onnx_export import OnnxStudent, export_onnx
from keras_cascade.export.quantization import FLOAT32, TRAINING
from keras_cascade.export.teacher_probes import teacher_probes
from keras_cascade.export.verification import check_teacher
from keras_cascade.runtime.student_probes import student_probes
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.teacher_checks import remarks_on_models
from keras_cascade.utils.output_path import output_path
from keras_cascade.utils.progress import progress_shown

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

CARD_FILE = "README.md"
PARTS = ("student", "teacher")


def export_bundle(
    cascade: "Cascade",
    filepath: str | os.PathLike,
    calibration_data: Any = None,
    class_names: Sequence[str] | dict | None = None,
    batch_size: int = 256,
    overwrite: bool = False,
    allow_training_data: bool = False,
    quantization: str | None = None,
    training_data: Any = None,
    optimization: dict | None = None,
    onnx: bool | str = False,
    operating_points: dict | None = None,
    joint: bool = False,
    float_layers: Sequence[str] = (),
    verbose: bool | None = None,
    input_shape: tuple | dict | None = None,
    io_type: str | None = None,
    input_type: str | None = None,
    targets: str | Sequence[str] = (),
) -> Bundle:
    """Writes the bundle of a cascade, verified on its own files.

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
        class_names: list of str, in label order; a dict of label to name, or
            of name to label. Defaults to `"0"`, `"1"`, ....
        batch_size: int, with arrays. Defaults to `256`.
        overwrite: bool. Replaces an existing bundle. Defaults to `False`.
        allow_training_data: bool. Accepts examples that the student was
            trained on, and with them numbers that are too good. Defaults to
            `False`.
        quantization: how the student is stored: `None` (float32),
            `"float16"`, `"dynamic"` (weights of 8 bits) or `"int8"`
            (activations too; their ranges are measured on the calibration
            inputs: the file depends on them, not on their labels, and the
            guarantees take the file as given), `"int4"` (weights of 4 bits,
            and of 8 where 4 cannot be, as the manifest lists); or one that
            trains the student on: `"qat"`, `"prune"`, `"cluster"`,
            `"prune+qat"`, `"cluster+qat"`. Inputs, outputs and the gate stay
            as they are. Defaults to `None`.
        training_data: labelled examples, for a quantization that trains.
        optimization: dict of options for
            `keras_cascade.export.optimization.optimize_student`.
        onnx: bool, or `"student"` or `"teacher"`. Adds `student.onnx` (the
            Keras student with its gate, in float32 whatever `quantization`
            says, with a threshold fitted on its own scores) and
            `teacher.onnx`, run in onnxruntime. Defaults to `False`.
        operating_points: dict of name to objective, or list of objectives:
            further thresholds, fitted on the file's own scores, which a
            device can switch to. Each of their guarantees is for itself.
            Defaults to `None`: only the one that `calibrate` found.
        joint: bool. Splits the error over the operating points that guarantee
            something, the one of `calibrate` among them, so that all hold
            together with the confidence that was asked for; each states its
            own, `1 - error / points`. Defaults to `False`.
        float_layers: list of str, with `"int8"`: names of layers of the
            student, or of models in it, that compute in float. The error of
            an export whose answers move too far names some. Defaults to `()`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.
        input_shape: sizes of one example, in the place of those that the
            models leave free; or a dict of them by input name. Defaults to
            `None`: what is free stays free.
        io_type: of `export_student`. Defaults to `None`.
        input_type: of `export_student`. Defaults to `None`.
        targets: of `export_student`. Defaults to `()`.

    Returns:
        `keras_cascade.bundle.Bundle`.

    Raises:
        ExportError: a model cannot be converted or answers otherwise.
        RuntimeError: Keras does not run on TensorFlow.
        ValueError: no data to verify with, or no threshold meets the
            objective on the student's file.
    """
    check_backend()
    target = output_path(filepath)
    onnx_parts = _checked_parts(onnx)
    if quantization not in TRAINING:  # those take their time before
        CONVERTER.start()
    job = ExportJob(
        cascade,
        calibration_data,
        batch_size=batch_size,
        quantization=quantization,
        allow_training_data=allow_training_data,
        training_data=training_data,
        optimization=optimization,
        operating_points=operating_points,
        joint=joint,
        float_layers=float_layers,
        input_shape=input_shape,
        io_type=io_type,
        input_type=input_type,
        targets=targets,
    )
    if job.data is None:
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
    if is_external(cascade):
        class_names = _names_of_teacher(class_names, cascade.teacher.teacher)
    given = class_names is not None
    class_names = _checked_names(class_names, cascade.classes)
    record = cascade.data_record
    if given and record.class_names is None:  # for data labelled by names
        record.see_class_names(class_names, cascade.classes)
    with (
        progress_shown(verbose),
        job.in_float32(),
        new_folder(target, overwrite) as folder,
    ):
        artifact = job.student_artifact()
        for model in (job.student, job.teacher):
            model.check_lengths(job.example_inputs)
        point, comparison = job.write_student(artifact, folder / STUDENT_FILE)
        points = [point, *job.named_points(comparison.results)]
        teacher, entries = _write_teacher(
            job, folder / TEACHER_FOLDER, class_names
        )
        onnx_files = _write_onnx(job, folder, onnx_parts)
        manifest = manifest_of(
            job, folder, target.name, class_names, points, comparison
        )
        if teacher is None:
            manifest |= entries
        else:
            manifest["teacher"] |= entries.get("teacher", {})
        manifest["student"] |= artifact.describe()
        if artifact.integer_inputs:
            manifest["student"]["input"] = artifact.describe_inputs(
                manifest["input"]
            )
        for model in (job.student, job.teacher):
            if manifest[model.role] is not None:
                manifest[model.role] |= model.write_tokenizer(
                    folder, job.data.batches()
                )
        _add_student_probes(manifest, artifact.open(folder / STUDENT_FILE))
        why_no_probes = _add_probes(
            manifest, _probed(cascade, teacher), job.teacher.example
        )
        if job.quantization != FLOAT32:
            whole = job.artifact_in(FLOAT32).convert(point.decision_threshold)
            manifest["verification"]["size_over_float32"] = manifest["student"][
                "bytes"
            ] / len(whole)
        if onnx_files:
            manifest["onnx"] = described_onnx(onnx_files)
        card = folder / CARD_FILE
        remarks = remarks_on_models(cascade, job.data)
        remarks += teacher_remarks(comparison.results)
        card.write_text(
            model_card(manifest, why_no_probes, remarks), encoding="utf-8"
        )
        manifest["card"] = {"file": CARD_FILE, "sha256": hash_file(card)}
        write_manifest(manifest, folder / MANIFEST)
        Bundle.load(folder)
    return Bundle.load(target)


def _write_teacher(job, folder, class_names):
    """Writes the teacher's SavedModel and compares it with Keras.

    Of a teacher that is no Keras model, what a bundle can hold.

    Returns:
        `(teacher, entries)`: object with `logits(inputs)`, or `None` where
        the bundle holds none; dict of what the manifest says of it.
    """
    if is_external(job.cascade):
        return write_external_teacher(job, folder, class_names)
    job.teacher.write_saved_model(folder)
    teacher = SavedModelTeacher(folder)
    check_teacher(
        job.teacher.as_served(teacher),
        job.cascade.two_stage_pass().ask_teacher,
        job.example_inputs,
        job.signature,
        job.answers,
    )
    return teacher, {}


def _add_student_probes(manifest, student):
    """Adds the probe rows to the student's entry in the manifest.

    Args:
        manifest: dict.
        student: `StudentInterpreter` of the exported file.
    """
    entry = manifest["student"]
    specs = entry.get("input", manifest["input"])
    probes = student_probes(student, specs, entry["sha256"][:16])
    if probes is not None:
        entry["probes"] = probes


def _probed(cascade, teacher):
    """The teacher to ask about probe rows; `None` of one that is not asked.

    Args:
        cascade: `Cascade`.
        teacher: object that executes the bundle's file, or `None`.
    """
    if teacher is None and cascade.teacher.teacher.takes_probes:
        return cascade.teacher.teacher
    return teacher


def _add_probes(manifest, teacher, example):
    """Adds the probe rows to the teacher's entry in the manifest.

    Args:
        manifest: dict.
        teacher: object with `logits(inputs)`, or `None`: it is not asked.
        example: dict of its inputs' names to arrays, a batch.

    Returns:
        str, why there are none, or `None`.
    """
    if teacher is None:
        return None
    entry = manifest["teacher"] or manifest["remote_teacher"]
    specs = entry.get("input", manifest["input"])
    seed = entry.get("files") or {"identity": entry["identity"]}
    try:
        probes = teacher_probes(teacher, specs, example, seed)
    except (TeacherError, ValueError) as error:
        if manifest["teacher"]:
            raise
        why = " ".join(str(error).split())[:200]
        return f"it refuses made-up inputs ({why})"
    why_none = probes.pop("why_no_probes", None)
    entry |= probes
    return why_none


def _write_onnx(job, folder, parts):
    """Writes `student.onnx` and/or `teacher.onnx`, as requested.

    The student's file computes in float32, whatever the TFLite file does, so
    it has a threshold of its own, fitted on its own scores.

    Returns:
        Dict of part to `(path, OperatingPoint, Comparison)`, the last two
        `None` for the teacher.
    """
    written = {}
    for part in parts:
        path = folder / f"{part}.onnx"
        if part == "teacher":
            export_onnx(job.cascade, path, job.example_inputs, part)
            written[part] = (path, None, None)
        else:
            artifact = OnnxStudent(
                job.student.with_gate,
                job.student.inputs(job.example_inputs),
                job.student.signature,
            )
            written[part] = (path, *job.write_student(artifact, path))
            if job.signature.is_free:
                job.check_sizes(artifact, path)
    return written


def _checked_parts(onnx):
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


def _names_of_teacher(class_names, teacher):
    """Class names, compared with those of a teacher that has some."""
    own = teacher.class_names
    if own is None or class_names is None:
        return own if class_names is None else class_names
    names = _checked_names(class_names, len(own))
    # Names of a teacher without any are the numbers of its classes.
    if names != own and own != [str(number) for number in range(len(own))]:
        raise ValueError(
            f"Expected `class_names` as {teacher.describe()} has them: "
            f"{own[:8]}. Received: {names[:8]}. Labels, student and teacher "
            "must have one order."
        )
    return names


def _checked_names(class_names, classes):
    """List of class names in label order.

    Args:
        class_names: sequence of names; a dict of number to name; or of name
            to number, as Keras's `class_indices`; or `None`.
        classes: int.
    """
    if class_names is None:
        return [str(number) for number in range(classes)]
    names = class_names
    if isinstance(names, dict):
        numbers = set(range(classes))
        if set(names) != numbers:
            names = {number: name for name, number in names.items()}
        if set(names) != numbers or len(names) != len(class_names):
            raise ValueError(
                "Expected `class_names` with a name for every number from 0 "
                f"to {classes - 1}, `{{0: 'cat', ...}}` or `{{'cat': 0, ...}}`."
                f" Received: {class_names!r}."
            )
        names = [names[number] for number in range(classes)]
    if isinstance(names, (str, bytes)) or not hasattr(names, "__len__"):
        raise ValueError(
            f"Expected `class_names` as a list of {classes} names, in label "
            f"order. Received: {class_names!r}."
        )
    names = [str(name) for name in names]
    if len(names) != classes:
        raise ValueError(
            f"Expected {classes} class names, one a logit. Received "
            f"{len(names)}."
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            "Expected `class_names` that differ. Received more than once: "
            f"{repeated[:5]}."
        )
    return names

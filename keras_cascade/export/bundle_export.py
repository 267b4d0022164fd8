"""Writes a bundle: converts, runs, compares, measures, then moves it."""

import contextlib
import datetime
import importlib.metadata
import importlib.resources
from pathlib import Path

import jinja2
import keras

from keras_cascade.bundle import Bundle, new_folder
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import (
    FORMAT,
    MANIFEST,
    VERSION,
    write_manifest,
)
from keras_cascade.calibration import (
    fit_threshold,
    measure_threshold,
    objective_from_description,
)
from keras_cascade.datasets import batches as data_batches
from keras_cascade.datasets.example_checks import checked_batches
from keras_cascade.export.signature import ENDPOINT, Signature
from keras_cascade.export.student_export import convert
from keras_cascade.export.verification import check_teacher, compare
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.version import __version__

STUDENT_FILE = "student.tflite"
CARD_FILE = "README.md"
TEACHER_FOLDER = "teacher/1"
VERSIONED = ("keras", "tensorflow", "ai-edge-litert", "numpy")


def export_bundle(
    cascade,
    filepath,
    calibration_data=None,
    class_names=None,
    batch_size=256,
    overwrite=False,
    allow_training_data=False,
):
    """Writes the bundle of a cascade, verified on the files that ship.

    The student and its gate become one TFLite file, which LiteRT runs over
    the calibration data before this returns. Its decisions are compared with
    Keras, and the cascade's objective is fitted again on the file's own
    scores: where that changes a decision, the file is converted once more
    with the new threshold. What the manifest states was measured on the file.

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

    Returns:
        `keras_cascade.bundle.Bundle`.

    Raises:
        ExportError: a model cannot be converted or answers otherwise.
        ValueError: no data to verify with, or no threshold meets the
            objective on the file that ships.
    """
    _check_backend()
    if calibration_data is None:
        raise ValueError(
            "Export runs the exported file on real examples before it "
            "returns. Expected: `calibration_data`, or a cascade that was "
            "calibrated in this process. Received neither."
        )
    x, y, weight, first = _unpacked(calibration_data)
    cascade.prepare(first[0])
    class_names = _checked_names(class_names, cascade.classes)
    signature = Signature(first[0])
    two_stages = cascade.two_stage_pass()
    student_with_gate = two_stages.student_with_gate
    ask_teacher = two_stages.ask_teacher

    def compared(file):
        return compare(
            StudentInterpreter(file),
            two_stages.run_student,
            ask_teacher,
            checked_batches(x, y, weight, batch_size, classes=cascade.classes),
            signature,
        )

    with new_folder(filepath, overwrite) as folder:
        file = folder / STUDENT_FILE
        file.write_bytes(convert(student_with_gate, signature))
        comparison = compared(file)
        if not allow_training_data:
            cascade.record.refuse_training_data(comparison.judged.examples)
        point = _measured(cascade, comparison, cascade.threshold)
        fitted = _fitted_again(cascade, comparison)
        if fitted is not None and not _same_decisions(fitted, point):
            with _threshold_of(cascade, fitted.threshold):
                file.write_bytes(convert(student_with_gate, signature))
                comparison = compared(file)
            point = _measured(cascade, comparison, fitted.threshold)
        signature.write_saved_model(
            folder / TEACHER_FOLDER,
            cascade.teacher,
            _as_logits,
            [cascade.teacher],
        )
        check_teacher(
            SavedModelTeacher(folder / TEACHER_FOLDER),
            ask_teacher,
            first[0],
            signature,
        )
        manifest = _manifest(
            Path(filepath).name, folder, cascade, class_names, signature,
            point, comparison,
        )  # fmt: skip
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


def _unpacked(data):
    x, y, weight = data_batches.arrays_or_batches(data)
    if hasattr(x, "__next__"):
        raise ValueError(
            "Expected calibration data that can be read twice: arrays, a "
            "`tf.data.Dataset` or a `PyDataset`. Received a generator."
        )
    first = next(data_batches.iterate_batches(x, y, weight), None)
    if first is None:
        raise ValueError("Expected at least one calibration example.")
    return x, y, weight, first


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


def _as_logits(outputs):
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs
    return {"logits": logits}


def _measured(cascade, comparison, threshold):
    calibrated = cascade.operating_point
    return measure_threshold(
        comparison.judged.scores,
        comparison.judged.student_correct,
        comparison.judged.teacher_correct,
        threshold,
        sample_weight=comparison.judged.sample_weight,
        costs=cascade.costs,
        objective=None if calibrated is None else calibrated.objective,
    )


def _fitted_again(cascade, comparison):
    """The cascade's objective on the file's own scores; `None` without one."""
    if cascade.operating_point is None:
        return None
    objective = cascade.operating_point.objective
    return fit_threshold(
        comparison.judged.scores,
        comparison.judged.student_correct,
        comparison.judged.teacher_correct,
        objective_from_description(objective),
        sample_weight=comparison.judged.sample_weight,
        costs=cascade.costs,
    )


def _same_decisions(one, other):
    """Thresholds are nested: the same rate is the same set of examples."""
    return one.delegation_rate == other.delegation_rate


@contextlib.contextmanager
def _threshold_of(cascade, threshold):
    """Another threshold for the length of a block."""
    before = cascade.gate.threshold
    cascade.gate.threshold = threshold
    try:
        yield
    finally:
        cascade.gate.threshold = before


def _manifest(name, folder, cascade, class_names, signature, point, comparison):
    student = folder / STUDENT_FILE
    teacher = folder / TEACHER_FOLDER
    gate_config = cascade.gate.get_config()
    gate_config["threshold"] = point.threshold
    costs = cascade.costs
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(
            timespec="seconds"
        ),
        "classes": class_names,
        "input": signature.describe(),
        "student": {
            "file": STUDENT_FILE,
            "sha256": hash_file(student),
            "bytes": student.stat().st_size,
            "quantization": "float32",
        },
        "teacher": {
            "path": TEACHER_FOLDER,
            "files": {
                file.relative_to(teacher).as_posix(): hash_file(file)
                for file in sorted(teacher.rglob("*"))
                if file.is_file()
            },
            "signature": ENDPOINT,
            "output": "logits",
            "url": None,
        },
        "gate": {
            "class": type(cascade.gate).__name__,
            "config": {
                key: value
                for key, value in gate_config.items()
                if key not in ("name", "trainable", "dtype")
            },
        },
        "operating_points": [point.to_dict()],
        "calibration": {
            "examples": comparison.judged.examples.examples,
            "sha256": comparison.judged.examples.hexdigest(),
            "measured_on": f"{STUDENT_FILE} in LiteRT, teacher in Keras",
        },
        "verification": comparison.describe(),
        "costs": {
            "student": costs.student,
            "teacher": costs.teacher,
            "unit": costs.unit,
            "how_measured": costs.how_measured,
        },
        "versions": {
            "keras-cascade": __version__,
            **{
                package: importlib.metadata.version(package)
                for package in VERSIONED
            },
        },
    }

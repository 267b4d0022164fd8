"""Writes a bundle: converts, runs, compares, measures, then moves it."""

import contextlib
import dataclasses
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
    calibrate,
    measure_threshold,
    objective_from_description,
)
from keras_cascade.calibration.promises import promise_sentence
from keras_cascade.datasets import batches as data_batches
from keras_cascade.datasets.example_checks import checked_batches
from keras_cascade.export.score_bins import score_bins
from keras_cascade.export.signature import ENDPOINT, Signature
from keras_cascade.export.student_export import convert
from keras_cascade.export.teacher_export import export_teacher
from keras_cascade.export.verification import check_teacher, compare
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.version import __version__

STUDENT_FILE = "student.tflite"
CARD_FILE = "README.md"
TEACHER_FOLDER = "teacher/1"
#: Longer lists (the group of each example) are not for the manifest.
LONGEST_LIST = 1_000
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
    cascade.gate.check_ready()
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
            cascade.record.traffic,
        )

    with new_folder(filepath, overwrite) as folder:
        file = folder / STUDENT_FILE
        file.write_bytes(convert(student_with_gate, signature))
        comparison = compared(file)
        if not allow_training_data:
            cascade.record.refuse(
                comparison.judged.examples, "training", "gate"
            )
        point = _operating_point(cascade, comparison.judged)
        if point.threshold != cascade.threshold:
            with _threshold_of(cascade, point.threshold):
                file.write_bytes(convert(student_with_gate, signature))
                comparison = compared(file)
        export_teacher(cascade, folder / TEACHER_FOLDER, signature)
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
    environment.filters["sentence"] = promise_sentence
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


def _operating_point(cascade, judged):
    """The cascade's objective, met again on the file's own scores.

    Where that decides as the cascade's threshold does, the threshold stays.
    A threshold that was set by hand is measured only.
    """
    calibrated = cascade.operating_point
    here = measure_threshold(
        judged.scores,
        judged.student_correct,
        judged.teacher_correct,
        cascade.threshold,
        sample_weight=judged.sample_weight,
        costs=cascade.costs,
    )
    if calibrated is None:
        return here
    fitted = calibrate(
        judged,
        objective_from_description(calibrated.objective),
        cascade.costs,
        cascade.record.traffic,
        cascade.record.seed,
    )
    # Thresholds are nested: the same rate is the same set of examples.
    if fitted.delegation_rate == here.delegation_rate:
        return dataclasses.replace(fitted, threshold=here.threshold)
    return fitted


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
        "operating_points": [_described(point)],
        "calibration": {
            "examples": comparison.judged.examples.examples,
            "sha256": comparison.judged.examples.hexdigest(),
            "measured_on": f"{STUDENT_FILE} in LiteRT, teacher in Keras",
            "score_bins": score_bins(
                comparison.judged.scores,
                point.threshold,
                comparison.judged.sample_weight,
            ),
        },
        "verification": comparison.describe(),
        "costs": dataclasses.asdict(costs),
        "versions": {
            "keras-cascade": __version__,
            **{
                package: importlib.metadata.version(package)
                for package in VERSIONED
            },
        },
    }


def _described(point):
    """An operating point for the manifest, long lists by their length."""

    def shortened(value):
        if isinstance(value, dict):
            return {key: shortened(one) for key, one in value.items()}
        if not isinstance(value, list):
            return value
        if len(value) > LONGEST_LIST:
            return f"{len(value)} values"
        return [shortened(one) for one in value]

    values = point.to_dict()
    return {
        **values,
        "objective": shortened(values["objective"]),
        "traffic": shortened(values["traffic"]),
    }

"""Content of a bundle's manifest and model card."""

import dataclasses
import datetime
import importlib.metadata
import importlib.resources
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import jinja2

from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import (
    FORMAT,
    MINOR_VERSION,
    TASK_VERSION,
    VERSION,
)
from keras_cascade.calibration.guarantees import guarantee_sentence
from keras_cascade.export.bundle_task import described_task
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.score_bins import score_bins
from keras_cascade.export.signature import ENDPOINT
from keras_cascade.export.tflite_student import batch_file
from keras_cascade.version import __version__

if TYPE_CHECKING:
    from keras_cascade.evaluation.costs import Costs

STUDENT_FILE = "student.tflite"
TEACHER_FOLDER = "teacher/1"
#: Longer lists (the group of each example) are not for the manifest.
LONGEST_LIST = 1_000
#: Of more classes than these the model card names a few.
MOST_NAMED, FEW_NAMED = 100, 5
VERSIONED = ("keras", "tensorflow", "ai-edge-litert", "numpy")


def manifest_of(
    job: ExportJob, folder, name, class_names, points, comparison
) -> dict:
    """Manifest of files that are written and verified.

    Args:
        job: `ExportJob`.
        folder: `Path` that the files are in.
        name: str.
        class_names: list of str.
        points: list of `OperatingPoint` of the student's file; the first is
            the file's own.
        comparison: `Comparison` of it.
    """
    cascade = job.cascade
    gate_config = cascade.gate.get_config()
    gate_config["threshold"] = points[0].threshold
    if points[0].class_thresholds is not None:
        gate_config["class_thresholds"] = points[0].class_thresholds
    costs = cascade.costs
    task = described_task(cascade.task, job.answers)
    return {
        "format": FORMAT,
        "version": TASK_VERSION if task else VERSION,
        "minor_version": MINOR_VERSION,
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(
            timespec="seconds"
        ),
        "classes": class_names,
        **task,
        "input": _inputs(job),
        "student": _student(job, folder / STUDENT_FILE, comparison),
        "teacher": _teacher(folder / TEACHER_FOLDER),
        "gate": {
            "class": type(cascade.gate).__name__,
            "config": {
                key: value
                for key, value in gate_config.items()
                if key not in ("name", "trainable", "dtype")
            },
        },
        "operating_points": [described_point(point) for point in points],
        "calibration": {
            "examples": comparison.results.examples.examples,
            "sha256": comparison.results.examples.hexdigest(),
            "measured_on": f"{STUDENT_FILE} in LiteRT, teacher in Keras",
            "score_bins": score_bins(
                comparison.results.scores,
                points[0].decision_threshold,
                comparison.results.sample_weight,
                predicted=comparison.results.student_labels,
            ),
        },
        "verification": comparison.describe(points[0].decision_threshold),
        "costs": dataclasses.asdict(cast("Costs", costs)),
        "versions": {
            "keras-cascade": __version__,
            **{
                package: importlib.metadata.version(package)
                for package in VERSIONED
            },
        },
    }


def _teacher(folder):
    """Manifest entry of the teacher's files; `None` without any."""
    if not folder.is_dir():
        return None
    return {
        "path": TEACHER_FOLDER,
        "files": {
            file.relative_to(folder).as_posix(): hash_file(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
        "signature": ENDPOINT,
        "output": "logits",
        "url": None,
    }


def _student(job, path, comparison):
    """Manifest entry of the student's one or two files."""
    entry = described(path)
    if job.student.signature.is_free:
        entry["sizes"] = {
            name: list(map(int, shape))
            for name, shape in job.student.row_shapes.items()
        }
    batch = batch_file(path)
    if batch.exists():
        entry["batch"] = {
            **described(batch),
            "max_score_difference": comparison.alone_difference,
        }
    return entry


def _inputs(job):
    """Manifest entries of the inputs; of images with their scale."""
    entries = job.signature.describe()
    images = job.cascade.data_record.images
    if images is not None and len(entries) == 1:
        return [{**entries[0], "scale": images["scale"]}]
    return entries


def model_card(
    manifest, why_no_probes: str | None = None, remarks: Sequence[str] = ()
) -> str:
    """The bundle's README: purpose, numbers, inputs, and how to run it.

    Args:
        manifest: dict.
        why_no_probes: str, why the teacher has no probe rows. Defaults to
            `None`.
        remarks: sentences on a teacher that is no use. Defaults to `()`.
    """
    template = importlib.resources.files(__package__).joinpath(
        "model_card.md.jinja"
    )
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["sentence"] = guarantee_sentence
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        **{"task": None, **manifest},
        point=manifest["operating_points"][0],
        most_named=MOST_NAMED,
        few_named=FEW_NAMED,
        why_no_probes=why_no_probes,
        remarks=remarks,
    )


def described(path) -> dict:
    """Manifest entry of a file: name, hash and size."""
    return {
        "file": path.name,
        "sha256": hash_file(path),
        "bytes": path.stat().st_size,
    }


def described_onnx(files) -> dict:
    """Manifest entry of the ONNX files.

    Args:
        files: dict of part to `(path, OperatingPoint, Comparison)`, the last
            two `None` for the teacher.
    """
    entries = {}
    for part, (path, point, comparison) in files.items():
        entries[part] = described(path)
        if point is not None:
            entries[part] |= {
                "operating_point": described_point(point),
                "verification": comparison.describe(point.decision_threshold),
            }
    return entries


def described_point(point) -> dict:
    """Manifest entry of an operating point, long lists as their length.

    Args:
        point: `OperatingPoint`.
    """

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

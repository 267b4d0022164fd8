"""Teachers that are no Keras model in a bundle."""

from pathlib import Path
from typing import Any

from keras_cascade.export.verification import check_teacher
from keras_cascade.runtime.teachers.onnx_teacher import (
    ONNX,
    ONNX_FILE,
    OnnxTeacher,
)
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher


def write_external_teacher(job, folder, classes) -> tuple[Any, dict]:
    """Writes what a bundle can hold of a teacher that is no Keras model.

    A file that is written is run, and compared with the teacher's own
    answers.

    Args:
        job: `ExportJob`.
        folder: `Path` of the teacher in the bundle, such as `teacher/1`.
        classes: list of str, in label order.

    Returns:
        `(runner, entries)`: an object with `logits(inputs)` that executes the
        file, `None` where the bundle holds none; and a dict to add to the
        manifest: `teacher` or `remote_teacher`.
    """
    teacher = job.cascade.teacher.teacher
    described = teacher.write(Path(folder), job.signature)
    if described is None:
        remote = teacher.elsewhere()
        remote.setdefault("identity", teacher.served_identity(classes))
        return None, {"teacher": None, "remote_teacher": remote}
    runner: Any
    if described.get("format") == ONNX:
        options = described[ONNX]
        runner = OnnxTeacher(
            Path(folder, ONNX_FILE).read_bytes(), name=ONNX_FILE, **options
        )
    else:
        runner = SavedModelTeacher(folder)
    check_teacher(
        runner,
        job.cascade.two_stage_pass().ask_teacher,
        job.example_inputs,
        job.signature,
        job.answers,
    )
    return runner, {"teacher": described}


def timed_teacher(job, folder):
    """Runner of an external teacher's file, to be timed.

    Args:
        job: `ExportJob`.
        folder: `Path` to write to.

    Raises:
        ValueError: the teacher has no file.
    """
    runner, _ = write_external_teacher(job, folder, [])
    if runner is None:
        raise ValueError(
            "Expected a teacher whose files can be run, for its time. "
            f"Received: {job.cascade.teacher.teacher.describe()}. Pass "
            "`costs=Costs(student, teacher, unit, how_measured)` to the "
            "cascade."
        )
    return runner


def is_external(cascade) -> bool:
    """Returns `True` where the cascade's teacher is no Keras model."""
    return getattr(cascade.teacher, "is_external", False)

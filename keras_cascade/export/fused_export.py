"""The whole cascade as one SavedModel, for a server that holds both models."""

import os
import types
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_cascade.bundle import new_folder
from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.export.backend import check_backend
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.exported_model import check_in_graph
from keras_cascade.export.signature import (
    ENDPOINT,
    Signature,
    as_answer,
    as_logits,
)
from keras_cascade.export.verification import (
    BATCH_SIZES,
    check_same,
    check_teacher,
)
from keras_cascade.gates import StudentWithGate
from keras_cascade.utils.output_path import output_path
from keras_cascade.utils.progress import progress_shown
from keras_cascade.utils.tensor_ops import as_float

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

SAVED_MODEL = "saved_model.pb"


def export_fused(
    cascade: "Cascade",
    filepath: str | os.PathLike,
    example_inputs: Any = None,
    overwrite: bool = False,
    verbose: bool | None = None,
    input_shape: tuple | dict | None = None,
) -> Signature:
    """Writes student, gate and teacher as one SavedModel.

    The student runs on every row, the teacher on the gathered delegated rows
    only, and not at all where nothing is delegated. Every signature is run and
    compared with Keras at 1, 2, 7 and 64 rows before the folder is moved to
    `filepath`.

    Signatures:

    - `serving_default`: `probabilities` `(batch, classes)` of the model that
      answers, `score` `(batch,)`, `delegate` `(batch,)`.
    - `student`: the same outputs, of the student alone.
    - `teacher`: `logits` `(batch, classes)`, for rows that a device
      delegated.

    Args:
        cascade: `Cascade`; its teacher may be a cascade too.
        filepath: folder to write.
        example_inputs: a batch of inputs; gives names, shapes and types.
            Defaults to inputs that the cascade has seen in this process,
            when the cascade calls this.
        overwrite: bool. Replaces an existing SavedModel. Defaults to `False`.
        verbose: bool. `False` prints no progress. Defaults to `None`:
            progress at a terminal or in a notebook.
        input_shape: sizes of one example, in the place of those that the
            models leave free; or a dict of them by input name. Defaults to
            `None`: what is free stays free.

    Returns:
        `Signature` of the inputs.

    Raises:
        BundleError: `filepath` exists and may not be replaced.
        ExportError: a signature does not answer as Keras does.
        RuntimeError: Keras does not run on TensorFlow.
    """
    check_backend()
    target = output_path(filepath)
    job = ExportJob(
        cascade, example_inputs=example_inputs, input_shape=input_shape
    )
    example_inputs, signature = job.example_inputs, job.signature
    student = StudentWithGate(cascade.student, cascade.gate, cascade.classes)
    student(example_inputs)
    check_in_graph(cascade, "A fused graph")
    with (
        progress_shown(verbose),
        job.in_float32(),
        new_folder(
            output_path(target), overwrite, known_by=SAVED_MODEL
        ) as folder,
    ):
        signature.write_endpoints(
            folder,
            {
                ENDPOINT: lambda x: fused(cascade, student, x),
                "student": lambda x: as_answer(student(x, training=False)),
                "teacher": lambda x: as_logits(
                    cascade.teacher(x, training=False)
                ),
            },
            [cascade.student, cascade.gate, cascade.teacher],
        )
        _check(folder, job)
    return signature


def fused(cascade, student_with_gate, inputs):
    """A cascade's answer as one graph; the teacher runs on delegated rows.

    Args:
        cascade: `Cascade`.
        student_with_gate: its `StudentWithGate`.
        inputs: tensors, batch first.

    Returns:
        Dict of `probabilities`, `score` and `delegate`; of another task than
        classes its answers, by their name.
    """
    import tensorflow as tf

    answer = as_answer(student_with_gate(inputs, training=False))
    name = cascade.gate.answer_name
    of_student = answer[name]
    rows = tf.where(answer["delegate"])

    def with_teacher():
        delegated = keras.tree.map_structure(
            lambda tensor: tf.gather_nd(tensor, rows), inputs
        )
        return tf.tensor_scatter_nd_update(
            of_student, rows, _teacher_answers(cascade, delegated)
        )

    # Not every model takes a batch of no rows.
    answer[name] = tf.cond(
        tf.size(rows) > 0, with_teacher, lambda: tf.identity(of_student)
    )
    return answer


def _teacher_answers(cascade, inputs):
    teacher, gate = cascade.teacher, cascade.gate
    if hasattr(teacher, "two_stage_pass"):
        student = StudentWithGate(
            teacher.student, teacher.gate, teacher.classes
        )
        return fused(teacher, student, inputs)[gate.answer_name]
    return gate.answers(as_float(teacher(inputs, training=False)))


def _check(folder, job):
    """Compares every signature with Keras at every batch size."""
    import tensorflow as tf

    cascade, answers = job.cascade, job.answers
    inputs, signature = job.example_inputs, job.signature
    loaded = tf.saved_model.load(str(folder))

    def run(name, named):
        tensors = {key: tf.constant(values) for key, values in named.items()}
        answer = loaded.signatures[name](**tensors)
        return {key: value.numpy() for key, value in answer.items()}

    two_stages = cascade.two_stage_pass()
    check_teacher(
        types.SimpleNamespace(
            logits=lambda named: run("teacher", named)["logits"]
        ),
        two_stages.ask_teacher,
        inputs,
        signature,
        answers,
    )
    rows = np.arange(max(BATCH_SIZES)) % rows_of(inputs)
    for size in BATCH_SIZES:
        part = take_rows(inputs, rows[:size])
        student = two_stages.run_student(part)
        teacher = two_stages.ask_teacher(part)
        for name in ("student", ENDPOINT):
            outputs = run(name, signature.named(part))
            delegate = delegated_at(
                outputs["score"],
                cascade.gate.decision_threshold,
                answers.predicted(student[answers.name]),
            )
            of_student = student[answers.name]
            expected = {
                "score": student["score"],
                "delegate": delegate,
                answers.name: of_student,
            }
            if name == ENDPOINT:
                row = delegate.reshape(-1, *[1] * len(answers.sizes))
                expected[answers.name] = np.where(row, teacher, of_student)
            for output, values in expected.items():
                check_same(
                    f"SavedModel's signature '{name}'",
                    output,
                    outputs[output],
                    values,
                )

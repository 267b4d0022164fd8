"""Check of a teacher before its student is trained."""

import warnings

import keras
import numpy as np
from scipy import stats

from keras_cascade.datasets.batches import rows_of, rows_within
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation.example_results import ExampleResultsBuilder
from keras_cascade.evaluation.teacher_remarks import (
    ERROR,
    MIN_EXAMPLES,
    teacher_remarks,
)

#: At most so many training examples are looked at.
EXAMPLES = 128
#: Beginning of every warning.
TITLE = "Teacher check: "


def warn_of_teacher(cascade, data):
    """Warns of a teacher that is no use, with the figures.

    Looked at are some labelled examples: of arrays rows from all over, of
    batches the first. An iterator still yields them afterwards.

    Args:
        cascade: `Cascade`, prepared.
        data: `LabelledData` that the student is to be trained on.
    """
    remarks = []
    if _share_weights(cascade.teacher, cascade.student):
        remarks.append(
            "Teacher and student share their weights, so that the student has "
            "nothing to learn and the teacher moves with it. Give the student "
            "weights of its own, such as `keras.models.clone_model(teacher)`."
        )
    x, y = data.first_examples(EXAMPLES)
    labels = None if y is None else np.asarray(y).reshape(-1)
    # Labels of another form are an error soon.
    if labels is not None and (
        labels.dtype.kind in "biuf"
        and len(labels) == rows_of(x) >= MIN_EXAMPLES
    ):
        remarks += _remarks_on(cascade, x, labels)
    for remark in remarks:
        warnings.warn(TITLE + remark, stacklevel=3)


def _remarks_on(cascade, x, y):
    two_stages = cascade.two_stage_pass()
    columns, in_training = ExampleResultsBuilder(), []
    parts = LabelledData(x, y, batch_size=min(32, rows_within(x)))
    for inputs, labels, _ in parts.batches():
        student = two_stages.run_student(inputs)
        columns.add(
            labels,
            student["score"],
            student["probabilities"],
            two_stages.ask_teacher(inputs),
        )
        if _has_statistics(cascade.teacher):
            predicted = _training_logits(cascade.teacher, inputs).argmax(-1)
            in_training.append(predicted == labels)
    results = columns.build(None)
    remarks = teacher_remarks(results)
    if in_training:
        correct = np.concatenate(in_training)
        teacher = np.asarray(results.teacher_correct)
        gained = int((correct & ~teacher).sum())
        lost = int((teacher & ~correct).sum())
        lags = gained and stats.binomtest(
            gained, gained + lost, alternative="greater"
        )
        if lags and lags.pvalue < ERROR and gained - lost > 0.1 * len(y):
            remarks.append(
                f"The teacher is right on {correct.mean():.1%} of {len(y)} "
                "examples in training mode and on "
                f"{teacher.mean():.1%} in inference, which is what the "
                "student learns from: the moving statistics of its "
                "BatchNormalization lag behind its weights. Train the teacher "
                "longer, or with a smaller `momentum` of that layer."
            )
    return remarks


def _share_weights(teacher, student):
    own = {id(v) for v in student.variables}
    return bool(own) and own <= {id(v) for v in teacher.variables}


def _has_statistics(model):
    layers = model._flatten_layers()
    return any(isinstance(x, keras.layers.BatchNormalization) for x in layers)


def _training_logits(teacher, x):
    """Logits in training mode; no variable changes."""
    x = keras.tree.map_structure(keras.ops.convert_to_tensor, x)
    outputs, _ = teacher.stateless_call(
        [v.value for v in teacher.trainable_variables],
        [v.value for v in teacher.non_trainable_variables],
        x,
        training=True,
    )
    if isinstance(outputs, dict):
        outputs = outputs["logits"]
    return keras.ops.convert_to_numpy(outputs)

"""Checks of a teacher: before its student is trained, and for reports."""

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
    sample = None
    if cascade.task.one_class_per_example:
        sample = _labelled_sample(data)
    remarks = _remarks_on_weights(cascade, sample)
    if sample is not None:
        remarks += teacher_remarks(_results(cascade, *sample))
    for remark in remarks:
        warnings.warn(TITLE + remark, stacklevel=3)


def remarks_on_models(cascade, data):
    """Remarks that results alone do not tell.

    Args:
        cascade: `Cascade`, prepared.
        data: `LabelledData` that can be read again; some of its examples are
            looked at.

    Returns:
        List of sentences: that teacher and student share their weights, or
        that the teacher's batch statistics lag behind its weights.
    """
    sample = None
    if cascade.task.one_class_per_example:
        sample = _labelled_sample(data)
    return _remarks_on_weights(cascade, sample)


def _labelled_sample(data):
    """`(x, y)` of some examples; `None` where they are few or unlabelled."""
    x, y = data.first_examples(EXAMPLES)
    labels = None if y is None else np.asarray(y).reshape(-1)
    # Labels of another form are an error soon.
    if labels is None or labels.dtype.kind not in "biuf":
        return None
    return (x, labels) if len(labels) == rows_of(x) >= MIN_EXAMPLES else None


def _parts(x, y):
    size = min(32, rows_within(x))
    return LabelledData(x, y, batch_size=size).batches()


def _results(cascade, x, y):
    two_stages, columns = cascade.two_stage_pass(), ExampleResultsBuilder()
    for inputs, labels, _ in _parts(x, y):
        student = two_stages.run_student(inputs)
        columns.add(
            labels,
            student["score"],
            student["probabilities"],
            two_stages.ask_teacher(inputs),
        )
    return columns.build(None)


def _remarks_on_weights(cascade, sample):
    remarks = []
    if _share_weights(cascade.teacher, cascade.student):
        remarks.append(
            "Teacher and student share their weights, so that the student has "
            "nothing to learn and the teacher moves with it. Give the student "
            "weights of its own, such as `keras.models.clone_model(teacher)`."
        )
    if sample is None or not _has_statistics(cascade.teacher):
        return remarks
    ask_teacher = cascade.two_stage_pass().ask_teacher
    columns = []
    for inputs, labels, _ in _parts(*sample):
        in_training = _training_logits(cascade.teacher, inputs).argmax(-1)
        answers = ask_teacher(inputs).argmax(-1)
        columns.append((in_training == labels, answers == labels))
    correct, teacher = map(np.concatenate, zip(*columns, strict=True))
    gained = int((correct & ~teacher).sum())
    lost = int((teacher & ~correct).sum())
    lags = gained and stats.binomtest(
        gained, gained + lost, alternative="greater"
    )
    if lags and lags.pvalue < ERROR and gained - lost > 0.1 * len(teacher):
        remarks.append(
            f"The teacher is right on {correct.mean():.1%} of {len(teacher)} "
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

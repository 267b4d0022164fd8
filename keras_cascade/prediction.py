"""Two-stage prediction: student on every row, teacher on delegated rows."""

import functools

import keras
import numpy as np

from keras_cascade.datasets.batches import (
    concatenate_rows,
    row_form,
    rows_of,
    take_rows,
)
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.example_results import ExampleResultsBuilder
from keras_cascade.gates.student_with_gate import StudentWithGate
from keras_cascade.utils.progress import counted

#: Inputs of a gate, as `StudentWithGate(keep_outputs=True)` names them.
KEPT = ("student_outputs", "features", "gate_inputs")


class TwoStagePass:
    """Runs the two models of a cascade over batches of NumPy arrays.

    Args:
        teacher: `keras.Model` from inputs to logits, or a `Cascade`.
        student: `keras.Model` from inputs to logits.
        gate: `Gate`.
        classes: int, number of classes. Defaults to `None`: one a student
            output.
    """

    def __init__(self, teacher, student, gate, classes=None):
        self.parts = (teacher, student, gate, classes)
        self._computed_in = _compute_dtypes(teacher, student)
        self._class_thresholds = gate.class_thresholds
        self._gate = gate
        self.student_with_gate = StudentWithGate(student, gate, classes)
        self.run_student = inference(self.student_with_gate)
        self._teacher = teacher
        self._run_teacher = inference(teacher)

    def is_of(self, *parts):
        """Returns whether these are its parts, as they are by now.

        Args:
            *parts: teacher, student, gate and number of classes.
        """
        return (
            self.parts == parts
            and self._computed_in == _compute_dtypes(*parts[:2])
            and self._class_thresholds == parts[2].class_thresholds
        )

    def ask_teacher(self, x):
        """The teacher's answers for one batch of inputs.

        A teacher that is itself a cascade asks its own teacher only for the
        rows that it delegates.
        """
        if hasattr(self._teacher, "two_stage_pass"):
            return self._teacher.predict(x, verbose=0)[self._gate.answer_name]
        outputs = self._run_teacher(x)
        if isinstance(outputs, dict):
            outputs = outputs["logits"]
        logits = np.asarray(outputs, dtype="float32")
        return self.answers(logits)

    def answers(self, logits):
        """Answers of the teacher's logits, a float32 array of their shape."""
        return keras.ops.convert_to_numpy(self._gate.answers(logits))

    def predict(self, batches, on_batch_begin, on_batch_end):
        """Predicts every row; gathers delegated rows into full batches.

        Args:
            batches: iterable of `(x, y, sample_weight)`.
            on_batch_begin: function of the batch's number.
            on_batch_end: function of the batch's number and a dict of its
                outputs.

        Returns:
            Dict of `probabilities` `(rows, classes)` (of another task than
            classes: `Task.answer_name`, in its shape), `score` `(rows,)` and
            `delegated` `(rows,)`.
        """
        name = self._gate.answer_name
        parts = {name: [], "score": [], "delegated": []}
        delegated = _DelegatedRows(self.ask_teacher)
        offset = 0
        for step, (x, _, _) in enumerate(batches):
            on_batch_begin(step)
            outputs = self.run_student(x)
            parts[name].append(outputs[name])
            parts["score"].append(outputs["score"])
            parts["delegated"].append(outputs["delegate"])
            delegated.add(x, outputs["delegate"], offset)
            offset += rows_of(x)
            on_batch_end(step, {"outputs": outputs})
        if not offset:
            raise ValueError("Expected at least one example. Received none.")
        answer = {one: np.concatenate(part) for one, part in parts.items()}
        for rows, answers in delegated.finish():
            answered = ~np.isnan(answers).reshape(len(rows), -1).any(axis=1)
            if not answered.all():  # the student's answers stand
                rows, answers = rows[answered], answers[answered]
            answer[name][rows] = answers
        return answer

    def score_examples(self, batches, keep_outputs=False, ask_teacher=None):
        """Scores every example and compares both models with its label.

        Args:
            batches: iterable of `(x, y, sample_weight)`.
            keep_outputs: bool. Keeps the inputs of the gate, for fitting a
                gate. Defaults to `False`.
            ask_teacher: function from inputs to the teacher's answers,
                or to a tuple of its classes and their probabilities. Defaults
                to `None`: the live teacher.

        Returns:
            `keras_cascade.evaluation.ExampleResults`.
        """
        ask_teacher = ask_teacher or self.ask_teacher
        columns, examples = self.results_builder(), Fingerprint()
        run_student = self._run_keeping() if keep_outputs else self.run_student
        # Only gates that need less than all outputs of many have it.
        reduce = getattr(self._gate, "outputs_to_keep", None)
        for x, y, weight in counted(
            batches, "Asking student and teacher", lambda one: rows_of(one[0])
        ):
            examples.update(x)
            outputs = run_student(x)
            kept = {name: outputs[name] for name in KEPT if name in outputs}
            if "student_outputs" in kept and reduce is not None:
                kept["student_outputs"] = reduce(kept["student_outputs"], y)
            columns.add(
                y, outputs["score"], outputs[self._gate.answer_name],
                ask_teacher(x), weight, **kept,
            )  # fmt: skip
        return columns.build(examples)

    def results_builder(self):
        """Returns an empty `ExampleResultsBuilder` of the task."""
        return results_builder(self._gate.task)

    def _run_keeping(self):
        """`run_student` that returns the inputs of the gate as well."""
        _, student, gate, classes = self.parts
        return inference(
            StudentWithGate(student, gate, classes, keep_outputs=True)
        )


def _compute_dtypes(*models):
    return [
        layer.compute_dtype
        for model in models
        for layer in model._flatten_layers()
    ]


def results_builder(task=None):
    """Returns an empty `ExampleResultsBuilder` of a task.

    Args:
        task: `keras_cascade.tasks.Task`. Defaults to `None`: one class per
            example.
    """
    if task is None:
        return ExampleResultsBuilder()
    return ExampleResultsBuilder(
        lambda labels, answers: keras.ops.convert_to_numpy(
            task.quality(labels, answers)
        ),
        task.loss_name,
        task.zero_one_loss,
    )


class _DelegatedRows:
    """Buffers of delegated rows that fill whole batches for the teacher.

    Rows of one length or size are joined; others wait in a buffer each.
    """

    def __init__(self, ask_teacher):
        self._ask_teacher = ask_teacher
        self._buffers = {}
        self._answers = []
        self._batch_size = 0

    def add(self, x, delegate, offset):
        self._batch_size = max(self._batch_size, rows_of(x))
        rows = np.flatnonzero(delegate)
        if not rows.size:
            return
        buffer = self._buffers.setdefault(row_form(x), _Buffer())
        buffer.inputs.append(take_rows(x, rows))
        buffer.rows.append(offset + rows)
        buffer.size += rows.size
        if buffer.size >= self._batch_size:
            self._run(buffer, self._batch_size)

    def finish(self):
        for buffer in self._buffers.values():
            if buffer.size:
                self._run(buffer, buffer.size)
        return self._answers

    def _run(self, buffer, count):
        inputs = concatenate_rows(buffer.inputs)
        rows = np.concatenate(buffer.rows)
        answer = self._ask_teacher(take_rows(inputs, slice(0, count)))
        self._answers.append((rows[:count], answer))
        buffer.inputs = [take_rows(inputs, slice(count, None))]
        buffer.rows = [rows[count:]]
        buffer.size -= count


class _Buffer:
    """Delegated rows of one form, and their numbers."""

    def __init__(self):
        self.inputs, self.rows, self.size = [], [], 0


def inference(model):
    """Compiled function from a NumPy batch to the model's outputs.

    `Model.predict_on_batch` would run once a replica under a distribution
    strategy, and return the rows of all of them.
    """
    if getattr(model, "is_external", False):  # no Keras model inside
        return model.numpy_logits
    if keras.backend.backend() != "tensorflow":
        return model.predict_on_batch
    import tensorflow as tf

    functions = {}

    def run(x):
        tensors = keras.tree.map_structure(tf.convert_to_tensor, x)
        # One function would forget the rank of inputs that come with another.
        ranks = tuple(len(leaf.shape) for leaf in keras.tree.flatten(tensors))
        if ranks not in functions:
            # TensorFlow counts retracing by a function's code, which all
            # models share here, and would warn; a `partial` is counted for
            # itself.
            functions[ranks] = tf.function(
                functools.partial(_forward, model),
                reduce_retracing=True,
                autograph=False,
            )
        return keras.tree.map_structure(
            keras.ops.convert_to_numpy, functions[ranks](tensors)
        )

    return run


def _forward(model, x):
    return model(x, training=False)

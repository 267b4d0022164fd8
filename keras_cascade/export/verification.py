"""Comparison of exported files with Keras, on the same examples."""

import dataclasses
import itertools

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.datasets.fingerprint import Fingerprint, example_hashes
from keras_cascade.errors import ExportError
from keras_cascade.evaluation.delegated_at import Threshold, delegated_at
from keras_cascade.evaluation.example_results import ExampleResults
from keras_cascade.export.quantization import TRAINING
from keras_cascade.utils.answer_form import LINEAR, AnswerForm
from keras_cascade.utils.progress import tell

#: A dynamic batch can collapse to one size: all of these are run.
BATCH_SIZES = (1, 2, 7, 64)
#: Free sizes are tried at so many times the data's, from large to small and
#: back, on so many rows.
SIZES, SIZES_ROWS = (1.0, 2.0, 0.5, 1.0), 3
#: Rows that a portable file is run on, one by one.
ROWS_ALONE = 128
#: Float32 arithmetic in another order moves a probability by about 1e-6.
TOLERANCE = 1e-4
#: The same file gives an example the same score but for its place in a batch.
SCORE_TOLERANCE = 1e-5
#: Weights of 11 significant bits moved one by up to 0.004 on small networks.
FLOAT16_TOLERANCE = 0.05
#: With 8 bits single probabilities may be far off. On average over examples,
#: half the sum of the differences was below 0.03 on networks that lost no
#: accuracy; between unrelated answers it is near 1.
MEAN_DISTANCE = 0.2
#: Next steps where a quantized file does not answer as Keras does.
TO_TRY = {
    "int8": (
        " Layers with activations of a wide range, such as hard-swish, "
        "squeeze-and-excitation and attention, lose most in 8 bits, and so do "
        "weights that were not trained. Try 'dynamic' (weights in 8 bits, "
        "activations in float), 'qat' with `training_data` (which trains the "
        "student on in 8 bits), 'float16', more calibration examples, or "
        "`float_layers`, names of layers that stay in float."
    ),
    "int4": " Try 'dynamic' or 'int8' (weights of 8 bits), or 'float16'.",
    "dynamic": " Try 'float16', or 'qat' with `training_data`.",
    "float16": " Export without `quantization`.",
}


#: The same, of another task than one class per example.
TO_TRY_TASK = {
    "int8": " Try 'dynamic', 'float16', or more calibration examples.",
    "int4": TO_TRY["int4"],
    "dynamic": " Try 'float16'.",
    "float16": TO_TRY["float16"],
}
#: Fewer rows do not say how values spread; below it there is no scale.
FEW_ROWS, SMALLEST = 30, 1e-6


class MovedAnswersError(ExportError):
    """A file whose answers are too far from those of Keras."""


@dataclasses.dataclass
class Comparison:
    """Outputs of an exported student and of Keras on the same examples.

    Attributes:
        results: `keras_cascade.evaluation.ExampleResults`: the student's
            columns are of the exported file, the teacher's of the Keras
            teacher.
        scores: float array `(examples,)`, of the exported file.
        hashes: uint64 array `(examples,)`, of the inputs: another pass over
            the data may have another order.
        delegated: bool array `(examples,)`, by the exported file, with the
            threshold that Keras has.
        keras_delegated: bool array `(examples,)`.
        keras_correct: bool array `(examples,)`, of the Keras student; or
            float array, `1 - loss` of another task.
        label_flips: int, examples with another label than the Keras student
            gives; `None` of tasks without labels.
        max_answer_difference: float.
        max_score_difference: float.
        batch_sizes: list of int that were run.
        answers: `AnswerForm`.
        alone_difference: float, largest difference of a score in the portable
            file, of one row; `None` where that is the same file.
    """

    results: ExampleResults
    scores: np.ndarray
    hashes: np.ndarray
    delegated: np.ndarray
    keras_delegated: np.ndarray
    keras_correct: np.ndarray
    label_flips: int | None
    max_answer_difference: float
    max_score_difference: float
    batch_sizes: list
    answers: AnswerForm
    alone_difference: float | None = None

    def describe(self, threshold: Threshold) -> dict:
        """The manifest's `verification` entry.

        Args:
            threshold: of the file, as in `StudentArtifact.convert`.
        """
        results = self.results
        delegated = delegated_at(self.scores, threshold, results.student_labels)
        keras_correct = self.keras_correct
        flips = {}
        if self.label_flips is not None:
            flips = {"label_flips": self.label_flips}

        def share(correct):
            return float(np.average(correct, weights=results.sample_weight))

        def accuracy(delegated, student_correct):
            return share(
                np.where(delegated, results.teacher_correct, student_correct)
            )

        return {
            "examples": len(results),
            "batch_sizes": self.batch_sizes,
            "decision_flips": _count(delegated != self.keras_delegated),
            "decision_flips_at_float_threshold": _count(
                self.delegated != self.keras_delegated
            ),
            **flips,
            "accuracy_change": accuracy(delegated, results.student_correct)
            - accuracy(self.keras_delegated, keras_correct),
            "student_accuracy_change": share(results.student_correct)
            - share(keras_correct),
            difference_key(self.answers): self.max_answer_difference,
            "max_score_difference": self.max_score_difference,
        }


def difference_key(answers: AnswerForm) -> str:
    """Key of the largest difference of answers in a manifest.

    Args:
        answers: `AnswerForm`.
    """
    one = "value" if answers.activation == LINEAR else "probability"
    return f"max_{one}_difference"


def compare(
    student,
    two_stages,
    batches,
    signature,
    answers,
    quantization="float32",
    traffic=None,
):
    """Runs both students and the teacher over labelled batches.

    Args:
        student: object with `run(inputs)` that executes the exported file.
        two_stages: `TwoStagePass` of the models in Keras.
        batches: iterable of `(x, y, sample_weight)`.
        signature: `Signature`; learns the inputs' value ranges.
        answers: `AnswerForm`.
        quantization: str, of the file; says how close its answers must be.
            Defaults to `"float32"`.
        traffic: `TrafficMix` to weight the examples by. Defaults to `None`.

    Returns:
        `Comparison`.

    Raises:
        ExportError: the file's outputs are not those of Keras.
    """
    columns = two_stages.results_builder()
    of_keras = two_stages.results_builder()
    examples, sizes = Fingerprint(), set()
    names = ("scores", "hashes", "delegated", "keras_delegated")
    parts = {name: [] for name in names}
    gaps, score_gap, flips = _AnswerGaps(answers), 0.0, 0
    for number, (x, y, weight) in enumerate(batches):
        signature.widen(x)
        examples.update(x)
        named = signature.named(x)
        exported = student.run(named)
        keras_outputs = two_stages.run_student(x)
        sizes.add(rows_of(x))
        gaps.add(exported, keras_outputs)
        score_gap = max(score_gap, _gap(exported, keras_outputs, "score"))
        if number == 0:
            _check_batch_sizes(student, named, exported, keras_outputs, answers)
            sizes.update(BATCH_SIZES)
        parts["scores"].append(exported["score"])
        parts["hashes"].append(example_hashes(x))
        parts["delegated"].append(exported["delegate"])
        parts["keras_delegated"].append(keras_outputs["delegate"])
        of_student, expected = (
            outputs[answers.name] for outputs in (exported, keras_outputs)
        )
        teacher = two_stages.ask_teacher(x)
        columns.add(y, exported["score"], of_student, teacher, weight)
        of_keras.add(y, keras_outputs["score"], expected, teacher, weight)
        flips += label_flips(answers, of_student, expected)
    results = columns.build(examples)
    gaps.check(quantization)
    return Comparison(
        results=results if traffic is None else traffic.applied_to(results),
        **{name: np.concatenate(part) for name, part in parts.items()},
        keras_correct=of_keras.build(None).student_correct,
        label_flips=None if answers.activation == LINEAR else flips,
        max_answer_difference=gaps.largest,
        max_score_difference=score_gap,
        batch_sizes=sorted(sizes),
        answers=answers,
    )


def check_decisions(
    student, batches, signature, threshold, comparison, answers
):
    """Runs a file once more, with its final threshold.

    Args:
        student: object with `run(inputs)` that executes the file.
        batches: iterable of `(x, y, sample_weight)`, in any order.
        signature: `Signature`.
        threshold: that the file should have, as in `convert`.
        comparison: `Comparison`, of the file's first run.
        answers: `AnswerForm`.

    Raises:
        ExportError: a score changed, a decision is not `score < threshold`,
            or these are other examples.
    """
    order = np.argsort(comparison.hashes, kind="stable")
    hashes, start = comparison.hashes[order], 0
    for x, _, _ in batches:
        exported = student.run(signature.named(x))
        found = example_hashes(x)
        rows = np.arange(start, start + len(found))
        start += len(found)
        # In another order an example has other neighbours in its batch, which
        # may cost a rounding.
        tolerance = max(SCORE_TOLERANCE, comparison.max_score_difference)
        if np.array_equal(comparison.hashes[start - len(found) : start], found):
            tolerance = 0.0
        else:
            index = np.searchsorted(hashes, found)
            index[index == len(hashes)] = 0
            rows = order[index]
        unknown = int((comparison.hashes[rows] != found).sum())
        if unknown:
            raise ExportError(
                "Expected calibration data with the same examples at every "
                f"pass. Received {unknown} of {len(found)} in a batch that "
                "the first pass did not have: it is augmented, sampled or "
                "padded at random. Give arrays, or batches without that; "
                "their order does not matter. The file was not kept."
            )
        gap = np.abs(exported["score"] - comparison.scores[rows]).max()
        if gap > tolerance:
            raise ExportError(
                "The exported student's scores changed with its threshold. "
                f"Expected: the same scores. Received: up to {gap:.2g} more or "
                "less. The file was not kept."
            )
        expected = delegated_at(
            exported["score"],
            threshold,
            answers.predicted(exported[answers.name]),
        )
        if not np.array_equal(exported["delegate"], expected):
            wrong = _count(exported["delegate"] != expected)
            raise ExportError(
                "The exported student does not decide by its threshold: "
                f"{wrong} of {len(expected)} decisions are not those of "
                f"score < {threshold}. The file was not kept."
            )


def check_rows_alone(
    alone, whole, model, batches, answers, quantization="float32"
):
    """Compares a portable file with the one for many rows, row by row.

    Args:
        alone: object with `run(inputs)` that executes the portable file.
        whole: the same, of the file for any number of rows.
        model: `ExportedModel` of the student.
        batches: iterable of `(x, y, sample_weight)`.
        answers: `AnswerForm`.
        quantization: str, of the files. Defaults to `"float32"`.

    Returns:
        Float, the largest difference of a score; `None` where no example has
        the portable file's sizes.

    Raises:
        ExportError: the two answer differently.
    """
    rows = (row for x, _, _ in batches for row in model.rows_alone(x))
    found: list[tuple] = [
        (alone.run(row), whole.run(row))
        for row in itertools.islice(rows, ROWS_ALONE)
    ]
    if not found:
        return None
    answer, expected = (
        {
            name: np.concatenate([one[name] for one in side])
            for name in (answers.name, "score")
        }
        for side in zip(*found, strict=True)
    )
    _AnswerGaps(answers, [(answer, expected)]).check(quantization)
    return _gap(answer, expected, "score")


def check_sizes(
    student, run_student, x, signature, answers, quantization="float32"
):
    """Compares an exported student with Keras at other sizes of its inputs.

    Args:
        student: object with `run(inputs)` that executes the exported file.
        run_student: function from inputs to the outputs in Keras.
        x: inputs; along free axes they are repeated and cut. Sizes that Keras
            itself refuses, such as texts beyond a model's longest, are left
            out.
        signature: `Signature` with free sizes.
        answers: `AnswerForm`.
        quantization: str, of the file. Defaults to `"float32"`.

    Raises:
        ExportError: the file answers otherwise at some size.
    """
    for resized, expected in answers_at_sizes(x, signature, run_student):
        for part in (slice(0, SIZES_ROWS), slice(0, 1)):
            named = signature.named(take_rows(resized, part))
            try:
                answer = student.run(named)
            except (BundleError, ValueError) as error:
                raise ExportError(
                    f"The exported student does not run at the sizes "
                    f"{signature.row_shapes(resized)}: {error}"
                ) from error
            rows = {name: values[part] for name, values in expected.items()}
            _AnswerGaps(answers, [(answer, rows)]).check(quantization)


def answers_at_sizes(x, signature, answer):
    """Yields inputs of several sizes with Keras's answers to them.

    Args:
        x: inputs; along free axes they are repeated and cut.
        signature: `Signature` with free sizes.
        answer: function from inputs to the outputs in Keras. Sizes that it
            refuses are left out, with a message, but for those of `x`.
    """
    rows = np.arange(SIZES_ROWS) % rows_of(x)
    for factor in SIZES:
        resized = signature.resized(take_rows(x, rows), factor)
        try:
            expected = answer(resized)
        except Exception as error:
            if factor == 1:
                raise
            tell(
                f"Sizes {signature.row_shapes(resized)} are not compared, as "
                f"Keras refuses them: {str(error)[:200]}"
            )
            continue
        yield resized, expected


def check_teacher(teacher, ask_teacher, x, signature, answers):
    """Compares an exported teacher with Keras at every batch size.

    Args:
        teacher: object with `logits(inputs)` that executes the file.
        ask_teacher: function from inputs to the teacher's answers in Keras.
        x: inputs.
        signature: `Signature`.
        answers: `AnswerForm`.

    Raises:
        ExportError: the file does not answer as Keras does.
    """
    rows = np.arange(max(BATCH_SIZES)) % rows_of(x)
    for size in BATCH_SIZES:
        part = take_rows(x, rows[:size])
        exported = answers.of_logits(teacher.logits(signature.named(part)))
        expected = ask_teacher(part)
        check_same("exported teacher", answers.name, exported, expected)


def check_same(artifact, name, output, expected):
    """Raises unless an output equals that of Keras, value by value.

    Args:
        artifact: str, such as `"ONNX file"`, for the error.
        name: str, the output.
        output: array, from the artifact.
        expected: array, batch first, from Keras.

    Raises:
        ExportError: another shape, or values further apart than float32
            arithmetic in another order explains.
    """
    gap = "its shape"
    if output.shape == expected.shape:
        if np.allclose(output, expected, rtol=1e-3, atol=TOLERANCE):
            return
        difference = np.abs(output.astype(float) - expected.astype(float))
        gap = f"values by up to {difference.max():.2g}"
    raise ExportError(
        f"The {artifact} does not answer as Keras does: '{name}' at "
        f"{len(expected)} rows has shape {output.shape}, where "
        f"{expected.shape} is expected, and differs in {gap}. It was not kept."
    )


class _AnswerGaps:
    """Differences of a file's answers from those of Keras.

    Values have no scale of their own: their largest difference is compared
    with the largest value of Keras, and the mean one with the values' standard
    deviation, or with that largest value where rows are few.

    Args:
        form: `AnswerForm`.
        pairs: list of `(outputs, Keras's outputs)` to add. Defaults to `()`.

    Attributes:
        largest: float, largest difference of a number.
    """

    def __init__(self, form, pairs=()):
        self.largest = 0.0
        self._form = form
        self._distance = self._largest_value = 0.0
        self._rows = 0
        self._sums = [0.0, 0.0]
        for pair in pairs:
            self.add(*pair)

    def add(self, outputs, keras_outputs):
        """Adds a batch of outputs."""
        name = self._form.name
        self.largest = max(self.largest, _gap(outputs, keras_outputs, name))
        expected = keras_outputs[name]
        self._rows += len(expected)
        self._distance += float(
            self._form.distance(outputs[name], expected).sum()
        )
        if self._form.activation == LINEAR:
            self._largest_value = max(
                self._largest_value, float(np.abs(expected).max())
            )
            values = expected.astype("float64")
            for power in (1, 2):
                self._sums[power - 1] += (values**power).sum(axis=0)

    def check(self, quantization):
        """Raises where answers are too far from those of Keras."""
        if quantization in TRAINING:
            return  # another student by now; its accuracy is in the manifest
        limits = {"float32": TOLERANCE, "float16": FLOAT16_TOLERANCE}
        of_largest, of_mean, share = self._scales()
        if quantization in limits:
            gap, limit = self.largest / of_largest, limits[quantization]
            how, share = "by up to", share and " of the largest value"
        else:
            gap = self._distance / max(self._rows, 1) / of_mean
            limit, how = MEAN_DISTANCE, "on average by"
        if gap > limit:
            advice = TO_TRY.get(quantization, "")
            if not self._form.one_class:  # takes no further arguments
                advice = TO_TRY_TASK.get(quantization, "")
            raise MovedAnswersError(
                "The exported student does not answer as Keras does: its "
                f"{self._form.name} ({quantization}) differ {how} "
                f"{gap:.2g}{share}, where {limit:.0e} is expected. The file "
                f"was not kept.{advice}"
            )

    def _scales(self):
        """Scales of the largest and the mean difference, and their words."""
        if self._form.activation != LINEAR:
            return 1.0, 1.0, ""
        largest = max(self._largest_value, SMALLEST)
        if self._rows < FEW_ROWS:
            return largest, largest, " of the largest value"
        mean, square = (one / self._rows for one in self._sums)
        spread = float(np.sqrt(np.maximum(square - mean**2, 0.0)).mean())
        return largest, max(spread, SMALLEST), " of the values' spread"


def label_flips(form: AnswerForm, answers, others) -> int:
    """Number of rows with another label, in any position; 0 of values.

    Args:
        form: `AnswerForm`.
        answers: float array, batch first.
        others: float array of the same shape.
    """
    if form.activation == LINEAR:
        return 0
    differ = form.labels(answers) != form.labels(others)
    return _count(differ.reshape(len(differ), -1).any(axis=1))


def _check_batch_sizes(student, named, expected, keras_outputs, answers):
    """Runs the first rows, repeated where they are few, at every size.

    Rounding to few bits may turn the last bit of a sum into a whole step, so
    sizes may differ by what the quantization costs anyway.
    """
    rows = np.arange(max(BATCH_SIZES)) % len(expected["score"])
    expected = {name: values[rows] for name, values in expected.items()}
    named = {name: values[rows] for name, values in named.items()}
    for size in BATCH_SIZES:
        for start in range(0, len(rows), size):
            cut = slice(start, min(start + size, len(rows)))
            part = student.run({k: v[cut] for k, v in named.items()})
            for name in (answers.name, "score"):
                whole = expected[name][cut]
                cost = _gap({name: whole}, keras_outputs, name, rows[cut])
                same_shape = part[name].shape == whole.shape
                if not same_shape or not np.allclose(
                    part[name], whole, rtol=1e-3, atol=max(TOLERANCE, cost)
                ):
                    raise ExportError(
                        f"The exported student's '{name}' depends on the "
                        f"batch size: {size} rows answer otherwise than "
                        f"{len(expected[name])}."
                    )


def _gap(exported, expected, name, rows=slice(None)):
    output, reference = exported[name], expected[name][rows]
    if output.shape != reference.shape:
        raise ExportError(
            f"The exported student's '{name}' has another shape than in "
            f"Keras. Expected: {reference.shape}. Received: {output.shape}."
        )
    difference = np.abs(output - reference)
    if not np.isfinite(difference).all():
        raise ExportError(f"The exported student's '{name}' holds NaN.")
    return float(difference.max())


def _count(flags):
    return int(np.count_nonzero(flags))

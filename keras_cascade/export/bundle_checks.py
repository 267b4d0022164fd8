"""Verification of an exported bundle from its files alone."""

import dataclasses
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import MANIFEST
from keras_cascade.calibration import measure_threshold
from keras_cascade.datasets.batches import rows_of
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.export.bundle_task import builder_of
from keras_cascade.export.onnx_interpreter import (
    OnnxStudentInterpreter,
    open_session,
)
from keras_cascade.export.tflite_file import operations
from keras_cascade.export.verification import (
    BATCH_SIZES,
    TOLERANCE,
    difference_key,
)
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.operating_points import threshold_of
from keras_cascade.runtime.student_interpreter import open_student
from keras_cascade.runtime.teachers.local_teacher import local_teacher
from keras_cascade.runtime.teachers.remote_teacher import validate_logits
from keras_cascade.runtime.tokenized import (
    student_with_tokenizer,
    teacher_with_tokenizer,
)
from keras_cascade.utils.answer_form import LINEAR

#: Numbers of the same examples that need not be equal to the last bit.
SAME = 1e-6
#: Level of the tests of guarantees.
ERROR = 0.01


@dataclasses.dataclass(frozen=True)
class Check:
    """Result of one check.

    Attributes:
        name: str.
        passed: bool.
        detail: str, one sentence about the result.
    """

    name: str
    passed: bool
    detail: str


def check_bundle(
    bundle: Bundle | str | os.PathLike, batches: Iterable[tuple]
) -> tuple[list[Check], dict]:
    """Verifies a bundle by running both of its models on labelled examples.

    Args:
        bundle: `Bundle`, or its folder.
        batches: iterable of `(x, y, sample_weight)`.

    Returns:
        `(checks, measured)`: list of `Check`, and a dict of the operating
        point's numbers on these examples.

    Raises:
        BundleError: a file is missing or altered, or the manifest not valid.
        ValueError: the bundle is of a task whose class is not registered.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.load(bundle)
    if bundle.teacher_folder is None:
        if bundle.manifest.get("remote_teacher") is not None:
            raise BundleError(
                f"{bundle.lacks_teacher()} No decision can be measured "
                "without it: verify the files alone, without data."
            )
        raise BundleError(
            f"The bundle '{bundle.path}' lacks its teacher, without which no "
            "decision can be measured. Expected: the whole bundle, as it was "
            "exported."
        )
    form, builder = bundle.answer_form, builder_of(bundle)
    checks = [
        Check(
            "files",
            True,
            f"every file has the SHA-256 that {MANIFEST} states",
        )
    ]
    student = open_student(bundle)
    checks.append(Check("signature", True, _signature(bundle)))
    built_in, others = operations(
        bundle.read(bundle.manifest["student"]["file"])
    )
    checks.append(
        Check(
            "operations",
            not others,
            f"{len(built_in)} kinds, all built in"
            if not others
            else f"not built in: {', '.join(others)}",
        )
    )
    runs = [
        _FileRun(
            bundle.student_file.name,
            student,
            bundle.operating_point(),
            bundle.manifest["verification"],
            form,
            builder(),
        )
    ]
    if "student" in bundle.onnx_files:
        entry = bundle.manifest["onnx"]["student"]
        name = entry["file"]
        interpreter = OnnxStudentInterpreter(bundle.read(name), name)
        runs.append(
            _FileRun(
                bundle.onnx_files["student"].name,
                student_with_tokenizer(interpreter, bundle),
                entry["operating_point"],
                entry["verification"],
                form,
                builder(),
            )
        )
    examples, teacher_gap = _run(bundle, runs, batches)
    if teacher_gap is not None:
        checks.append(
            Check(
                "teacher.onnx",
                teacher_gap <= TOLERANCE,
                f"its {form.name} differ from the SavedModel's by up to "
                f"{teacher_gap:.1e}",
            )
        )
    measured: dict[str, Any] = {}
    for number, run in enumerate(runs):
        of_file, numbers = _check_file(bundle, run, run.build(examples))
        prefix = f"{run.name}: " if number else ""
        checks += [
            dataclasses.replace(check, name=prefix + check.name)
            for check in of_file
        ]
        measured = measured or numbers
    results = runs[0].build(examples)
    for point in bundle.manifest["operating_points"]:
        if point["name"] == bundle.operating_point()["name"]:
            continue
        if "runtime" in point:  # of other scores: `verify --runtime`
            continue
        of_point = check_point(
            bundle, point, results, measured_at(bundle, results, point)
        )
        checks += [
            dataclasses.replace(check, name=f"{point['name']}: {check.name}")
            for check in of_point
        ]
    return checks, measured


def _check_file(bundle, run, results):
    """`(checks, measured)` of one file."""
    point, measured = run.point, measured_at(bundle, results, run.point)
    checks = [
        Check(
            "batch sizes",
            run.gap <= 1,
            f"answers at {list(BATCH_SIZES)} rows differ by up to "
            f"{run.gap:.1%} of what is accepted",
        ),
        Check(
            "decisions",
            run.wrong == 0,
            f"{run.wrong} of {len(results)} decisions are not those of "
            f"score < {_threshold_in_words(point)}",
        ),
    ]
    checks += check_point(bundle, point, results, measured)
    return checks, measured


def check_point(bundle, point, results, measured) -> list[Check]:
    """Checks of one operating point's numbers and guarantees.

    Args:
        bundle: `Bundle`.
        point: dict, as in the manifest.
        results: `ExampleResults`, of what the point was measured on.
        measured: dict, of `measured_at`.
    """
    checks = []
    same = bundle.manifest["calibration"]["sha256"] == (
        results.examples.hexdigest()
    )
    if same and results.sample_weight is None and not point.get("traffic"):
        checks.append(_same_numbers(point, measured))
    for guarantee in point.get("guarantees", []):
        checks.append(_guarantee_holds(guarantee, results, point, bundle))
    return checks


def _signature(bundle):
    inputs = ", ".join(
        f"{spec['name']} {spec['dtype']}" for spec in bundle.inputs
    )
    form = bundle.answer_form
    if form.one_class:
        return f"inputs {inputs}; {len(bundle.classes)} classes"
    task = bundle.manifest["task"]["class"]
    sizes = [size or "free" for size in form.sizes]
    return f"inputs {inputs}; {form.name} {sizes} of {task}"


def _run(bundle, runs, batches):
    """Runs every file over the examples.

    Returns:
        `(examples, teacher_gap)`: their `Fingerprint`, and how far the
        teacher's ONNX file is from its SavedModel, `None` without one.
    """
    teacher = teacher_with_tokenizer(local_teacher(bundle), bundle)
    session = None
    if "teacher" in bundle.onnx_files:
        name = bundle.manifest["onnx"]["teacher"]["file"]
        session = open_session(bundle.read(name), name)
    examples, gap, form = Fingerprint(), None, bundle.answer_form
    for x, y, weight in batches:
        examples.update(x)
        inputs = prepare_inputs(x, bundle.inputs, allow_single=False)
        logits = validate_logits(teacher.logits(inputs), rows_of(x), form.sizes)
        answers = form.of_logits(logits)
        for run in runs:
            run.add(inputs, y, answers, weight)
        if session is not None:
            reader = getattr(teacher, "reader", lambda inputs: (inputs, None))
            (onnx_logits,) = session.run(["logits"], reader(inputs)[0])
            difference = np.abs(form.of_logits(onnx_logits) - answers).max()
            if form.activation == LINEAR:  # values have no scale of their own
                difference /= max(1.0, np.abs(answers).max())
            gap = max(gap or 0.0, float(difference))
    return examples, gap


def measured_at(bundle, results, point) -> dict:
    """Numbers of an operating point's threshold on these examples.

    Args:
        bundle: `Bundle`.
        results: `ExampleResults`.
        point: dict, as in the manifest.
    """
    return measure_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        threshold_of(point),
        results.sample_weight,
        Costs(**bundle.manifest["costs"]),
        student_labels=results.student_labels,
        loss_name=results.loss_name,
    ).to_dict()


def _same_numbers(point, measured):
    names = ("delegation_rate", "accuracy", "amortized_cost")
    wrong = [
        f"{name} {measured[name]:.6f} instead of {point[name]:.6f}"
        for name in names
        if abs(measured[name] - point[name]) > SAME
    ]
    return Check(
        "numbers",
        not wrong,
        "; ".join(wrong)
        or "these are the calibration examples, and the manifest's numbers",
    )


def _guarantee_holds(guarantee, results, point, bundle):
    """Test of a guarantee on these examples, at the 1 % level.

    It can contradict the guarantee and never prove it: calibration does.
    """
    delegated = delegated_at(
        results.scores, threshold_of(point), results.student_labels
    )
    right = np.where(
        delegated, results.teacher_correct, results.student_correct
    )
    quantity, n = guarantee["quantity"], len(results)
    if results.sample_weight is not None or point.get("traffic"):
        return Check(
            f"guarantee on {quantity}",
            True,
            "not tested: it is for a traffic mix",
        )
    if quantity in ("accuracy_drop", "loss_increase"):
        limit = guarantee["at_most"]
        measured = results.teacher_correct.mean() - right.mean()
        passed = _lowest_drop(results.teacher_correct, right) <= limit
    elif quantity in ("delegation_rate", "amortized_cost"):
        limit, measured = guarantee["at_most"], delegated.mean()
        lowest = _share(delegated, ERROR).low
        if quantity == "amortized_cost":
            costs = Costs(**bundle.manifest["costs"])
            lowest = costs.amortized(lowest)
            measured = costs.amortized(measured)
        passed = lowest <= limit
    elif quantity == "accuracy":
        limit, measured = guarantee["at_least"], right.mean()
        passed = _share(right, ERROR).high >= limit
    elif quantity == "expected_loss":
        limit, measured = guarantee["at_most"], 1 - right.mean()
        passed = _share(right, ERROR).high >= 1 - limit
    elif quantity == "group_accuracy":
        return Check(
            f"guarantee on {quantity}", True, "not tested: no groups are given"
        )
    else:
        limit = guarantee.get("at_most", guarantee.get("at_least"))
        answer = np.where(
            delegated, results.teacher_labels, results.student_labels
        )
        tested = (
            _expected_cost(answer, results.labels, guarantee, point)
            if quantity == "expected_cost"
            else _class_share(answer, results.labels, guarantee, bundle.classes)
        )
        if tested is None:
            return Check(
                f"guarantee on {quantity}",
                True,
                "not tested: none of these examples is of its kind",
            )
        measured, passed = tested
    verdict = "do not speak" if passed else "speak"
    return Check(
        f"guarantee on {quantity}",
        bool(passed),
        f"{measured:.4f} where {limit:.4f} is guaranteed: these {n} examples "
        f"{verdict} against it at the {ERROR:.0%} level",
    )


def _class_share(answer, labels, guarantee, classes):
    """`(measured, passed)` of a class's objective; `None` without examples."""
    of_class = guarantee["class"]
    if isinstance(of_class, str):
        if of_class not in classes:
            return None
        of_class = classes.index(of_class)
    says, is_class = answer == of_class, labels == of_class
    counts, events = {
        "precision": (says, is_class),
        "recall": (is_class, says),
        "false_alarm_rate": (~is_class, says),
    }[guarantee["quantity"]]
    if not counts.any():
        return None
    interval = _share(events[counts], ERROR)
    passed = (
        interval.low <= guarantee["at_most"]
        if "at_most" in guarantee
        else interval.high >= guarantee["at_least"]
    )
    return events[counts].mean(), passed


def _expected_cost(answer, labels, guarantee, point):
    """`(measured, passed)`; the test is Hoeffding's bound of the mean."""
    config = point["objective"]["config"]
    configs = [config] + [one["config"] for one in config.get("objectives", [])]
    for one in configs:
        if one.get("max_cost") != guarantee["at_most"] or "matrix" not in one:
            continue
        if not isinstance(one["matrix"], list):  # too long for a manifest
            continue
        costs = np.asarray(one["matrix"])[labels, answer]
        spread = np.sqrt(np.log(1 / ERROR) / (2 * len(costs)))
        lowest = costs.mean() - np.max(one["matrix"]) * spread
        return costs.mean(), lowest <= guarantee["at_most"]
    return None


def _threshold_in_words(point):
    if point.get("class_thresholds"):
        return "the threshold of the predicted class"
    return f"{point['threshold']}"


def _lowest_drop(teacher, right):
    """Lower bound of the mean of `teacher - right`, at the 1 % level."""
    if right.dtype.kind != "b":
        return -_mean_interval(right - teacher, ERROR, width=2.0).high
    negative_flips = _share(teacher & ~right, ERROR / 2)
    positive_flips = _share(right & ~teacher, ERROR / 2)
    return negative_flips.low - positive_flips.high


def _mean_interval(values, error, width=1.0):
    """Empirical Bernstein interval of a mean (Maurer and Pontil, 2009).

    Args:
        values: float array, in an interval of `width`.
        error: float, probability per end.
        width: float. Defaults to `1.0`.
    """
    n, log = len(values), np.log(2 / error)
    if n < 2:
        return _Interval(-np.inf, np.inf)
    reach = np.sqrt(2 * values.var(ddof=1) * log / n)
    reach += 7 * width * log / (3 * (n - 1))
    mean = values.mean()
    return _Interval(float(mean - reach), float(mean + reach))


class _Interval(NamedTuple):
    low: float
    high: float


def _share(events, error):
    """Interval of a share with an error probability per end.

    Clopper and Pearson's of events; of qualities in [0, 1] that of their mean.
    """
    if events.dtype.kind != "b":
        return _mean_interval(events, error)
    test = stats.binomtest(int(events.sum()), len(events))
    return test.proportion_ci(1 - 2 * error, method="exact")


class _FileRun:
    """Outputs of one file of a student, over labelled examples.

    Args:
        name: str, the file's name.
        student: object with `run(inputs)`.
        point: dict, the manifest's operating point of the file.
        verification: dict, the manifest's entry for the file.
        form: `AnswerForm`.
        columns: empty `ExampleResultsBuilder`.

    Attributes:
        gap: float, how far the answers at other batch sizes are from those
            in a large batch, in units of what is accepted.
        wrong: int, decisions that are not those of `score < threshold`.
    """

    def __init__(self, name, student, point, verification, form, columns):
        self.name = name
        self.point = point
        self.gap = None
        self.wrong = 0
        self._student = student
        # Rounding to few bits may turn the last bit of a sum into a step.
        self._accepted = {
            form.name: verification[difference_key(form)],
            "score": verification["max_score_difference"],
        }
        self._form = form
        self._columns = columns

    def add(self, inputs, y, teacher_answers, weight):
        """Runs one batch and keeps its results.

        Args:
            inputs: dict of input name to array, batch first.
            y: int array `(rows,)`; of another task its labels.
            teacher_answers: array `(rows, classes)`, or in the task's shape.
            weight: array `(rows,)`, or `None`.
        """
        outputs = self._student.run(inputs)
        if self.gap is None:
            self.gap = self._batch_gap(inputs, outputs)
        delegated = delegated_at(
            outputs["score"],
            threshold_of(self.point),
            self._form.predicted(outputs[self._form.name]),
        )
        self.wrong += int((outputs["delegate"] != delegated).sum())
        self._columns.add(
            y, outputs["score"], outputs[self._form.name],
            teacher_answers, weight,
        )  # fmt: skip

    def build(self, examples):
        """`ExampleResults` of the examples of all batches."""
        return self._columns.build(examples)

    def _batch_gap(self, inputs, expected):
        rows = min(len(expected["score"]), max(BATCH_SIZES))
        gap = 0.0
        for size in BATCH_SIZES:
            for start in range(0, rows, size):
                cut = slice(start, min(start + size, rows))
                part = self._student.run({k: v[cut] for k, v in inputs.items()})
                for name, stated in self._accepted.items():
                    difference = np.abs(part[name] - expected[name][cut]).max()
                    accepted = max(TOLERANCE, stated)
                    gap = max(gap, float(difference) / accepted)
        return gap

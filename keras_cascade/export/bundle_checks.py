"""Checks a bundle again, from its files alone."""

import dataclasses

import numpy as np
from scipy import stats

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import MANIFEST
from keras_cascade.calibration import measure_threshold
from keras_cascade.datasets.batches import rows_of
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.threshold_outcome import delegated_at
from keras_cascade.export.file_run import FileRun
from keras_cascade.export.onnx_student import OnnxStudent, open_session
from keras_cascade.export.same_answers import BATCH_SIZES, TOLERANCE
from keras_cascade.export.tflite_operations import operations
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.student_interpreter import open_student
from keras_cascade.runtime.teachers.remote_teacher import validate_logits
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.tokenized import (
    student_with_tokenizer,
    teacher_with_tokenizer,
)
from keras_cascade.utils.numpy_softmax import numpy_softmax

#: Numbers of the same examples that need not be equal to the last bit.
SAME = 1e-6
ERROR = 0.01


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: str.
        passed: bool.
        detail: str, one sentence with what was found.
    """

    name: str
    passed: bool
    detail: str


def check_bundle(path, batches):
    """Opens a bundle and runs both of its models over labelled examples.

    Args:
        path: folder of the bundle.
        batches: iterable of `(x, y, sample_weight)`.

    Returns:
        `(checks, measured)`: list of `Check`, and a dict of what the bundle
        does on these examples.

    Raises:
        BundleError: a file is missing or altered, or the manifest not valid.
    """
    bundle = Bundle.load(path)
    if bundle.teacher_folder is None:
        raise BundleError(
            f"The bundle '{bundle.path}' lacks its teacher, without which no "
            "decision can be measured. Expected: the whole bundle, as it was "
            "exported."
        )
    checks = [
        Check(
            "files",
            True,
            "every file has the SHA-256 that the manifest states "
            f"({MANIFEST} {hash_file(bundle.path / MANIFEST)[:12]}...)",
        )
    ]
    student = open_student(bundle)
    checks.append(Check("signature", True, _signature(bundle)))
    built_in, others = operations(bundle.student_file.read_bytes())
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
        FileRun(
            bundle.student_file.name,
            student,
            bundle.operating_point(),
            bundle.manifest["verification"],
        )
    ]
    if "student" in bundle.onnx_files:
        file = bundle.onnx_files["student"]
        entry = bundle.manifest["onnx"]["student"]
        runs.append(
            FileRun(
                file.name,
                student_with_tokenizer(OnnxStudent(file), bundle),
                entry["operating_point"],
                entry["verification"],
            )
        )
    examples, teacher_gap = _run(bundle, runs, batches)
    if teacher_gap is not None:
        checks.append(
            Check(
                "teacher.onnx",
                teacher_gap <= TOLERANCE,
                "its probabilities differ from the SavedModel's by up to "
                f"{teacher_gap:.1e}",
            )
        )
    measured = {}
    for number, run in enumerate(runs):
        found, of_file = _check_file(bundle, run, run.build(examples))
        prefix = f"{run.name}: " if number else ""
        checks += [
            dataclasses.replace(check, name=prefix + check.name)
            for check in found
        ]
        measured = measured or of_file
    results = runs[0].build(examples)
    for point in bundle.manifest["operating_points"]:
        if point["name"] == bundle.operating_point()["name"]:
            continue
        found = _check_point(
            bundle, point, results, _measured(bundle, results, point)
        )
        checks += [
            dataclasses.replace(check, name=f"{point['name']}: {check.name}")
            for check in found
        ]
    return checks, measured


def _check_file(bundle, run, results):
    """`(checks, measured)` of one file's answers."""
    point, measured = run.point, _measured(bundle, results, run.point)
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
            f"score < {point['threshold']}",
        ),
    ]
    checks += _check_point(bundle, point, results, measured)
    return checks, measured


def _check_point(bundle, point, results, measured):
    """One operating point's numbers, on the same data, and its guarantees."""
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
    return f"inputs {inputs}; {len(bundle.classes)} classes"


def _run(bundle, runs, batches):
    """Runs every file over the examples.

    Returns:
        `(examples, teacher_gap)`: their `Fingerprint`, and how far the
        teacher's ONNX file is from its SavedModel, `None` without one.
    """
    teacher = teacher_with_tokenizer(
        SavedModelTeacher(bundle.teacher_folder), bundle
    )
    file = bundle.onnx_files.get("teacher")
    session = file and open_session(file)
    examples, gap = Fingerprint(), None
    for x, y, weight in batches:
        examples.update(x)
        inputs = prepare_inputs(x, bundle.inputs, allow_single=False)
        logits = validate_logits(
            teacher.logits(inputs), rows_of(x), len(bundle.classes)
        )
        probabilities = numpy_softmax(logits)
        for run in runs:
            run.add(inputs, y, probabilities, weight)
        if session is not None:
            fed = getattr(teacher, "reader", lambda given: (given, None))
            found = session.run(["logits"], fed(inputs)[0])[0]
            found = numpy_softmax(found)
            difference = np.abs(found - probabilities).max()
            gap = max(gap or 0.0, float(difference))
    return examples, gap


def _measured(bundle, results, point):
    return measure_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        point["threshold"],
        results.sample_weight,
        Costs(**bundle.manifest["costs"]),
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
    """Whether these examples speak against a guarantee, at the 1 % level.

    They never prove it: that was done in calibration.
    """
    delegated = delegated_at(results.scores, point["threshold"])
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
    if quantity == "accuracy_drop":
        harmed = _share(results.teacher_correct & ~right, ERROR / 2)
        helped = _share(right & ~results.teacher_correct, ERROR / 2)
        lowest, limit = harmed.low - helped.high, guarantee["at_most"]
        found = results.teacher_correct.mean() - right.mean()
        passed = lowest <= limit
    elif quantity in ("delegation_rate", "amortized_cost"):
        limit, found = guarantee["at_most"], delegated.mean()
        lowest = _share(delegated, ERROR).low
        if quantity == "amortized_cost":
            costs = Costs(**bundle.manifest["costs"])
            lowest, found = costs.amortized(lowest), costs.amortized(found)
        passed = lowest <= limit
    elif quantity == "accuracy":
        limit, found = guarantee["at_least"], right.mean()
        passed = _share(right, ERROR).high >= limit
    else:
        return Check(
            f"guarantee on {quantity}", True, "not tested: no groups are given"
        )
    verdict = "do not speak" if passed else "speak"
    return Check(
        f"guarantee on {quantity}",
        bool(passed),
        f"{found:.4f} where {limit:.4f} is guaranteed: these {n} examples "
        f"{verdict} against it at the {ERROR:.0%} level",
    )


def _share(events, error):
    """Clopper and Pearson's interval, each end with the given error."""
    test = stats.binomtest(int(events.sum()), len(events))
    return test.proportion_ci(1 - 2 * error, method="exact")

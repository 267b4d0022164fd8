"""Checks a bundle again, from its files alone."""

import dataclasses

import numpy as np
from scipy import stats

from keras_cascade.bundle import Bundle
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import MANIFEST
from keras_cascade.calibration import measure_threshold
from keras_cascade.datasets.batches import rows_of
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.judged import JudgedColumns
from keras_cascade.evaluation.threshold_outcome import delegated_at
from keras_cascade.export.tflite_operations import operations
from keras_cascade.numpy_softmax import numpy_softmax
from keras_cascade.runtime.believed import believed_logits
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.student_interpreter import StudentInterpreter

BATCH_SIZES = (1, 2, 7, 64)
TOLERANCE = 1e-4
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
    checks = [
        Check(
            "files",
            True,
            "every file has the SHA-256 that the manifest states "
            f"({MANIFEST} {hash_file(bundle.path / MANIFEST)[:12]}...)",
        )
    ]
    student = StudentInterpreter(bundle.student_file)
    student.check(bundle.inputs, len(bundle.classes))
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
    judged, wrong_decisions, gap = _run(bundle, student, batches)
    point = bundle.operating_point()
    checks += [
        Check(
            "batch sizes",
            gap <= TOLERANCE,
            f"answers at {list(BATCH_SIZES)} rows differ by up to {gap:.1e}",
        ),
        Check(
            "decisions",
            wrong_decisions == 0,
            f"{wrong_decisions} of {len(judged)} decisions are not those of "
            f"score < {point['threshold']}",
        ),
    ]
    measured = _measured(bundle, judged, point)
    same = bundle.manifest["calibration"]["sha256"] == (
        judged.examples.hexdigest()
    )
    if same and judged.sample_weight is None and not point.get("traffic"):
        checks.append(_same_numbers(point, measured))
    for promise in point.get("promises", []):
        checks.append(_promise_stands(promise, judged, point, bundle))
    return checks, measured


def _signature(bundle):
    inputs = ", ".join(
        f"{spec['name']} {spec['dtype']}" for spec in bundle.inputs
    )
    return f"inputs {inputs}; {len(bundle.classes)} classes"


def _run(bundle, student, batches):
    """Judges every example by the files; compares a few batch sizes."""
    teacher = SavedModelTeacher(bundle.teacher_folder)
    threshold = np.float32(bundle.operating_point()["threshold"])
    columns, examples = JudgedColumns(), Fingerprint()
    wrong, gap = 0, None
    for x, y, weight in batches:
        examples.update(x)
        inputs = prepare_inputs(x, bundle.inputs, allow_single=False)
        outputs = student.run(inputs)
        if gap is None:
            gap = _batch_gap(student, inputs, outputs)
        wrong += int(
            (outputs["delegate"] == (outputs["score"] >= threshold)).sum()
        )
        logits = believed_logits(
            teacher.logits(inputs), rows_of(x), len(bundle.classes)
        )
        columns.add(
            y, outputs["score"], outputs["probabilities"],
            numpy_softmax(logits), weight,
        )  # fmt: skip
    return columns.judged(examples), wrong, gap


def _batch_gap(student, inputs, expected):
    rows = min(len(expected["score"]), max(BATCH_SIZES))
    gap = 0.0
    for size in BATCH_SIZES:
        for start in range(0, rows, size):
            cut = slice(start, min(start + size, rows))
            part = student.run({k: v[cut] for k, v in inputs.items()})
            for name in ("probabilities", "score"):
                gap = max(
                    gap, float(np.abs(part[name] - expected[name][cut]).max())
                )
    return gap


def _measured(bundle, judged, point):
    return measure_threshold(
        judged.scores,
        judged.student_correct,
        judged.teacher_correct,
        point["threshold"],
        judged.sample_weight,
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


def _promise_stands(promise, judged, point, bundle):
    """Whether these examples speak against a promise, at the 1 % level.

    They never prove it: that was done in calibration.
    """
    delegated = delegated_at(judged.scores, point["threshold"])
    right = np.where(delegated, judged.teacher_correct, judged.student_correct)
    quantity, n = promise["quantity"], len(judged)
    if judged.sample_weight is not None or point.get("traffic"):
        return Check(
            f"promise on {quantity}",
            True,
            "not tested: it is for a traffic mix",
        )
    if quantity == "accuracy_drop":
        harmed = _share(judged.teacher_correct & ~right, ERROR / 2)
        helped = _share(right & ~judged.teacher_correct, ERROR / 2)
        lowest, limit = harmed.low - helped.high, promise["at_most"]
        found = judged.teacher_correct.mean() - right.mean()
        passed = lowest <= limit
    elif quantity in ("delegation_rate", "amortized_cost"):
        limit, found = promise["at_most"], delegated.mean()
        lowest = _share(delegated, ERROR).low
        if quantity == "amortized_cost":
            costs = Costs(**bundle.manifest["costs"])
            lowest, found = costs.amortized(lowest), costs.amortized(found)
        passed = lowest <= limit
    elif quantity == "accuracy":
        limit, found = promise["at_least"], right.mean()
        passed = _share(right, ERROR).high >= limit
    else:
        return Check(
            f"promise on {quantity}", True, "not tested: no groups are given"
        )
    verdict = "do not speak" if passed else "speak"
    return Check(
        f"promise on {quantity}",
        bool(passed),
        f"{found:.4f} where {limit:.4f} is promised: these {n} examples "
        f"{verdict} against it at the {ERROR:.0%} level",
    )


def _share(events, error):
    """Clopper and Pearson's interval, each end with the given error."""
    test = stats.binomtest(int(events.sum()), len(events))
    return test.proportion_ci(1 - 2 * error, method="exact")

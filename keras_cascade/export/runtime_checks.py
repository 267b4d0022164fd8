"""Comparison of a bundle's student between runtimes, and its refitting."""

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_cascade import calibration
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import (
    MANIFEST,
    SIGNATURE,
    manifest_content,
    manifest_text,
)
from keras_cascade.bundle.writing import replace_file
from keras_cascade.datasets.batches import rows_of
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.example_results import ExampleResults
from keras_cascade.export.bundle_checks import Check, check_point, measured_at
from keras_cascade.export.bundle_task import builder_of
from keras_cascade.export.export_job import OPERATING_POINT_NAME
from keras_cascade.export.manifest_content import described_point
from keras_cascade.export.measured_runtimes import MeasuredRuntime
from keras_cascade.export.verification import difference_key, label_flips
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.operating_points import (
    DEFAULT,
    default_name,
    delegation_rules,
)
from keras_cascade.runtime.student_interpreter import open_student
from keras_cascade.runtime.teachers.local_teacher import local_teacher
from keras_cascade.runtime.teachers.remote_teacher import validate_logits
from keras_cascade.runtime.tokenized import teacher_with_tokenizer
from keras_cascade.traffic_mix import TrafficMix
from keras_cascade.utils.answer_form import AnswerForm

#: What a manifest has in the place of a list that is too long for it.
SHORTENED = re.compile(r"\d+ values")


def compare_runtime(
    bundle: Bundle,
    runtime: MeasuredRuntime,
    batches: Iterable[tuple],
    with_teacher: bool = False,
) -> tuple[list[Check], dict, ExampleResults | None]:
    """Counts the decisions that a runtime makes otherwise than LiteRT's.

    Args:
        bundle: `Bundle`.
        runtime: `MeasuredRuntime`.
        batches: iterable of `(x, y, sample_weight)`.
        with_teacher: bool. Asks the bundle's teacher too, which operating
            points are measured with. Defaults to `False`.

    Returns:
        `(checks, numbers, results)`: list of `Check`, JSON-compatible dict,
        and `ExampleResults` of the runtime, `None` without a teacher.
    """
    points = [
        point
        for point in bundle.manifest["operating_points"]
        if _is_of(point, runtime)
    ]
    teacher = None
    if with_teacher or points:
        teacher = teacher_with_tokenizer(local_teacher(bundle), bundle)
    form = bundle.answer_form
    reference, counts = open_student(bundle), _Counts(form)
    columns, fingerprint = builder_of(bundle)(), Fingerprint()
    for x, y, weight in batches:
        fingerprint.update(x)
        inputs = prepare_inputs(x, bundle.inputs, allow_single=False)
        answers = runtime.student.run(inputs)
        counts.add(reference.run(inputs), answers)
        if teacher is None:
            continue
        logits = validate_logits(teacher.logits(inputs), rows_of(x), form.sizes)
        columns.add(
            y, answers["score"], answers[form.name],
            form.of_logits(logits), weight,
        )  # fmt: skip
    numbers = {
        "runtime": runtime.name,
        "accelerator": runtime.accelerator,
        "version": runtime.version,
        "file": runtime.file,
        **counts.numbers(),
        **runtime.details,
    }
    checks = [
        Check(f"runtime {runtime.name}", counts.passed, _detail(numbers, form))
    ]
    if teacher is None:
        return checks, numbers, None
    results = columns.build(fingerprint)
    for point in points:
        checks += [
            dataclasses.replace(check, name=f"{point['name']}: {check.name}")
            for check in check_point(
                bundle, point, results, measured_at(bundle, results, point)
            )
        ]
    return checks, numbers, results


def refit(
    bundle: Bundle,
    runtime: MeasuredRuntime,
    results: ExampleResults,
    name: str,
    seed: int = 0,
) -> Bundle:
    """Writes an operating point that is fitted on a runtime's scores.

    The objective is that of the bundle's default, and so are the examples.
    The manifest is replaced in one step. A signature, which is of the former
    manifest, is removed first.

    Args:
        bundle: `Bundle`; another operating point of this name is replaced
            where it is of the same runtime.
        runtime: `MeasuredRuntime`.
        results: `ExampleResults`, of `compare_runtime` with a teacher.
        name: str, of the operating point.
        seed: int, of the rejection where examples have weights. Defaults to
            `0`.

    Returns:
        `Bundle`, as it is now.

    Raises:
        BundleError: the bundle was replaced meanwhile.
        ValueError: the name cannot be used, these are not the examples of the
            bundle's calibration, or no threshold meets the objective.
    """
    check_refit(bundle, runtime, name)
    stated = bundle.manifest["calibration"]
    received = results.examples.hexdigest()
    if received != stated["sha256"]:
        raise ValueError(
            "A threshold is fitted on the examples that the bundle was "
            "calibrated with, which the student was not trained on. Expected: "
            f"their fingerprint {stated['sha256'][:12]}... "
            f"({stated['examples']} examples). Received: {received[:12]}... "
            f"({results.examples.examples} examples). Give the data and the "
            "seed of the calibration."
        )
    default = bundle.operating_point(default_name(delegation_rules(bundle)))
    traffic = default.get("traffic")
    mix = None if traffic is None else TrafficMix(**traffic)
    if mix is not None:
        results = mix.applied_to(results)
    point = calibration.calibrate(
        results,
        calibration.deserialize(default["objective"]),
        Costs(**bundle.manifest["costs"]),
        mix,
        seed,
        class_names=bundle.classes,
        **(
            {
                "per_class": True,
                "min_class_examples": default["min_class_examples"],
            }
            if default.get("class_thresholds")
            else {}
        ),
    )
    entry = {
        **described_point(dataclasses.replace(point, name=name)),
        "runtime": runtime.name,
        "measured_on": f"{runtime.title}, teacher in TensorFlow",
    }
    if runtime.accelerator != "cpu":
        entry["accelerator"] = runtime.accelerator
    points = [
        one
        for one in bundle.manifest["operating_points"]
        if one["name"] != name
    ]
    manifest = {**bundle.manifest, "operating_points": [*points, entry]}
    return _replaced(bundle, manifest)


def check_refit(bundle: Bundle, runtime: MeasuredRuntime, name: str) -> None:
    """Raises a `ValueError` where `refit` could not write this point.

    Args:
        bundle: `Bundle`.
        runtime: `MeasuredRuntime`.
        name: str, of the operating point.
    """
    if name == DEFAULT or not OPERATING_POINT_NAME.fullmatch(name):
        raise ValueError(
            "Expected a name of an operating point out of letters, digits, "
            "'_', '.' and '-', and not 'default', whose threshold is in the "
            f"file. Received: {name!r}."
        )
    for point in bundle.manifest["operating_points"]:
        if point["name"] == name and not _is_of(point, runtime):
            raise ValueError(
                f"The bundle has an operating point '{name}' already, which "
                f"is not of {runtime.title}. Choose another name."
            )
    default = bundle.operating_point(default_name(delegation_rules(bundle)))
    if default["objective"] is None:
        raise ValueError(
            f"The bundle's operating point '{default['name']}' was set by "
            "hand, so there is no objective to fit on a runtime. Calibrate "
            "the cascade and export it again."
        )
    if _shortened([default["objective"], default.get("traffic")]):
        raise ValueError(
            "The bundle's objective, or its traffic, has one value per "
            "example, which its manifest does not hold. Calibrate with "
            "classes, or with a traffic mix of classes, and export it again."
        )


def _replaced(bundle, manifest):
    """Bundle with another manifest, unsigned."""
    file = bundle.path / MANIFEST
    content = manifest_text(manifest).encode("utf-8")
    current = hashlib.sha256(manifest_content(file)).hexdigest()
    if current != bundle.manifest_sha256:
        raise BundleError(
            f"'{bundle.path}' was replaced while it was measured. Run this "
            "again."
        )
    # First: a signature beside another manifest would be a wrong one.
    (bundle.path / SIGNATURE).unlink(missing_ok=True)
    replace_file(file, content)
    return Bundle.load(bundle.path, sha256=hashlib.sha256(content).hexdigest())


def _is_of(point, runtime):
    return (
        point.get("runtime") == runtime.name
        and point.get("accelerator", "cpu") == runtime.accelerator
    )


def _shortened(value):
    if isinstance(value, dict):
        return any(map(_shortened, value.values()))
    if isinstance(value, list):
        return any(map(_shortened, value))
    return isinstance(value, str) and SHORTENED.fullmatch(value) is not None


@dataclasses.dataclass
class _Counts:
    """Differences between two runtimes.

    Args:
        form: `AnswerForm`.

    Attributes:
        examples: int.
        decision_flips: int, rows that one delegates and the other keeps.
        label_flips: int, rows with another class, or with another label in
            any position.
        not_finite: int, rows without a finite answer.
        max_answer_difference: float, of the other rows.
        max_score_difference: float, of the other rows.
    """

    form: AnswerForm
    examples: int = 0
    decision_flips: int = 0
    label_flips: int = 0
    not_finite: int = 0
    max_answer_difference: float = 0.0
    max_score_difference: float = 0.0

    @property
    def passed(self):
        return not self.decision_flips and not self.not_finite

    def add(self, expected: dict, answers: dict) -> None:
        """Adds one batch."""
        form, score = self.form, answers["score"]
        found, stated = answers[form.name], expected[form.name]
        finite = np.isfinite(found).reshape(len(found), -1).all(axis=1)
        finite &= np.isfinite(score)
        flips = _decisions(answers) != _decisions(expected)
        self.examples += len(score)
        self.decision_flips += int(flips.sum())
        self.label_flips += label_flips(form, found, stated)
        self.not_finite += int((~finite).sum())
        for name, output in (("answer", form.name), ("score", "score")):
            gap = np.abs(answers[output][finite] - expected[output][finite])
            key = f"max_{name}_difference"
            largest = float(gap.max(initial=0.0))
            setattr(self, key, max(getattr(self, key), largest))

    def numbers(self) -> dict:
        """JSON-compatible dict, with keys as in a manifest."""
        numbers = {
            name: value for name, value in vars(self).items() if name != "form"
        }
        difference = numbers.pop("max_answer_difference")
        numbers[difference_key(self.form)] = difference
        return numbers


def _decisions(answers) -> Any:
    return np.asarray(answers["delegate"]).astype(bool)


def _detail(numbers, form):
    said = (
        f"{numbers['decision_flips']} of {numbers['examples']} decisions are "
        f"not those of the interpreter; {form.name} differ by up to "
        f"{numbers[difference_key(form)]:.2g}, scores by up to "
        f"{numbers['max_score_difference']:.2g}"
    )
    if numbers["not_finite"]:
        said += f"; {numbers['not_finite']} answers are not finite"
    if "arena_bytes" in numbers:
        said += f"; arena of {numbers['arena_bytes']:,} bytes"
    return said

"""Summary of an evaluation: all numbers of a cascade in one dict."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.auroc import (
    auroc_delegating_helps,
    auroc_student_right,
)
from keras_cascade.evaluation.bootstrap import bootstrap_curve
from keras_cascade.evaluation.comparison import BUDGETS
from keras_cascade.evaluation.deferral_curve import deferral_curve
from keras_cascade.evaluation.deferral_score import (
    deferral_area,
    deferral_score,
    oracle_curve,
    random_area,
)
from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.effective_examples import effective_examples
from keras_cascade.evaluation.per_class import per_class, worst_class
from keras_cascade.evaluation.reliability import reliability_diagram
from keras_cascade.evaluation.selective_accuracy import selective_accuracy
from keras_cascade.evaluation.selective_risk import augrc, aurc
from keras_cascade.utils.validation import check_qualities, check_weight

if TYPE_CHECKING:
    from keras_cascade.evaluation.costs import Costs
    from keras_cascade.evaluation.example_results import ExampleResults

#: Shares of the teacher's accuracy whose price is reported.
TEACHER_SHARES = (0.99, 1.0)
#: Points of the curve of selective accuracy.
SELECTIVE_POINTS = 201


def summarize(
    results: "ExampleResults",
    threshold: float | None = None,
    costs: "Costs | None" = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Computes every number of the evaluation report.

    All numbers are weighted by `results.sample_weight`. Where qualities are
    fractions, an accuracy is their mean. A number that the
    examples do not determine is `None`, and `undefined` says why.

    Args:
        results: `ExampleResults`, of examples used neither to train nor to
            calibrate.
        threshold: optional float. Delegate when `score < threshold`. Defaults
            to `None`.
        costs: optional `Costs`. Defaults to `None`.
        confidence: float in (0, 1), of the bootstrap intervals. Defaults to
            `0.95`.
        resamples: int. `0` leaves the bootstrap out. Defaults to `1000`.
        seed: int. Defaults to `0`.

    Returns:
        JSON-compatible dict:

        - `examples`, `effective_examples`, `student_accuracy`,
          `teacher_accuracy`, `threshold`
        - `at_threshold`: `accuracy`, `accuracy_drop` against the teacher,
          `delegation_rate`, `amortized_cost`, and each model's accuracy on
          the accepted and on the delegated examples
          (`student_accuracy_accepted` ...)
        - `deferral`: `area`, `random_area`, `ideal_area`, `score`
        - `ideal_curve`: `delegation_rate`, `accuracy`
        - `budgets`: list of `budget`, and at the highest attainable rate up
          to it `delegation_rate`, `accuracy`, `amortized_cost`
        - `reach_teacher`: list of `share` of the teacher's accuracy,
          `accuracy` to reach, `delegation_rate`, `amortized_cost`
        - `selective_risk`: `aurc`, `augrc`
        - `auroc`: `student_right`, `delegating_helps`
        - `calibration`: `ece` (expected calibration error), `reliability`
        - `selective_accuracy`: lists as in `SelectiveAccuracy`, at most 201
          points
        - `per_class`: as `per_class` returns it; `worst_class`: `student`,
          `teacher`, `cascade`
        - `bootstrap`: as `bootstrap_curve` returns it
        - `undefined`: dict of dotted path to reason

    Example:

    >>> import keras_cascade as kc
    >>> results = kc.evaluation.ExampleResults(
    ...     scores=[0.1, 0.2, 0.5, 0.9],
    ...     student_correct=[False, True, True, True],
    ...     teacher_correct=[True, True, True, True],
    ... )
    >>> summary = kc.evaluation.summarize(results, threshold=0.15)
    >>> summary["at_threshold"]["accuracy"], summary["deferral"]["score"]
    (1.0, 1.0)
    >>> summary["undefined"]["per_class"]
    'the labels are not known'
    """
    sections = _Sections(results, threshold, costs)
    return {
        "examples": sections.curve.examples,
        "effective_examples": effective_examples(sections.weight),
        "student_accuracy": sections.curve.student_accuracy,
        "teacher_accuracy": sections.curve.teacher_accuracy,
        "threshold": None if threshold is None else float(threshold),
        "at_threshold": sections.at_threshold(),
        "deferral": sections.deferral(),
        "ideal_curve": sections.ideal_curve(),
        "budgets": sections.budgets(),
        "reach_teacher": sections.reach_teacher(),
        "selective_risk": sections.selective_risk(),
        "auroc": sections.auroc(),
        "calibration": sections.calibration(),
        "selective_accuracy": sections.selective_accuracy(),
        **sections.classes(),
        "bootstrap": sections.bootstrap(confidence, resamples, seed),
        "undefined": sections.undefined,
    }


class _Sections:
    """Sections of a summary; each method computes one.

    Args:
        results: `ExampleResults`.
        threshold: float or `None`.
        costs: `Costs` or `None`.

    Attributes:
        curve: `DeferralCurve`.
        weight: float array `(examples,)`.
        undefined: dict of dotted path to the reason why a number is `None`.
    """

    def __init__(self, results, threshold, costs):
        self._results, self._costs = results, costs
        self._threshold = threshold
        self._columns = (
            results.scores,
            results.student_correct,
            results.teacher_correct,
            results.sample_weight,
        )
        self.curve = deferral_curve(*self._columns)
        self.weight = check_weight(results.sample_weight, self.curve.examples)
        self._student, self._teacher = check_qualities(*self._columns[1:3])
        self._delegated = None
        if threshold is not None:
            self._delegated = delegated_at(results.scores, threshold)
        self.undefined = {}
        if costs is None:
            self.undefined["amortized_cost"] = "no costs are given"

    def at_threshold(self):
        """Accuracy, delegation rate and cost at the threshold."""
        delegated = self._delegated
        if delegated is None:
            self.undefined["at_threshold"] = "no threshold is given"
            return None
        right = np.where(delegated, self._teacher, self._student)
        accuracy = float(np.average(right, weights=self.weight))
        rate = float(np.average(delegated, weights=self.weight))
        section = {
            "accuracy": accuracy,
            "accuracy_drop": self.curve.teacher_accuracy - accuracy,
            "delegation_rate": rate,
            "amortized_cost": self._cost(rate),
        }
        for side, among, verb in (
            ("accepted", ~delegated, "keeps"),
            ("delegated", delegated, "delegates"),
        ):
            for model, correct in (
                ("student", self._student),
                ("teacher", self._teacher),
            ):
                name = f"{model}_accuracy_{side}"
                section[name] = self._known(
                    f"at_threshold.{name}",
                    _share_among,
                    correct,
                    among,
                    self.weight,
                    f"the threshold {verb} nothing",
                )
        return section

    def deferral(self):
        """Areas under the deferral curve and the deferral score."""
        ideal = oracle_curve(*self._columns[1:])
        return {
            "area": deferral_area(self.curve),
            "random_area": random_area(self.curve),
            "ideal_area": deferral_area(ideal),
            "score": self._known(
                "deferral.score", deferral_score, *self._columns
            ),
        }

    def ideal_curve(self):
        """Deferral curve of an oracle, at most four points."""
        ideal = oracle_curve(*self._columns[1:])
        return {
            "delegation_rate": ideal.delegation_rate.tolist(),
            "accuracy": ideal.accuracy.tolist(),
        }

    def budgets(self):
        """Accuracy at the highest attainable rate within each fixed budget."""
        indices = [self.curve.index_of(budget) for budget in BUDGETS]
        return [
            {
                "budget": budget,
                "accuracy": float(self.curve.accuracy[index]),
                **self._price(float(self.curve.delegation_rate[index])),
            }
            for budget, index in zip(BUDGETS, indices, strict=True)
        ]

    def reach_teacher(self):
        """Lowest rates that reach shares of the teacher's accuracy."""
        goals = [
            share * self.curve.teacher_accuracy for share in TEACHER_SHARES
        ]
        return [
            {
                "share": share,
                "accuracy": goal,
                **self._price(self.curve.rate_to_reach(goal)),
            }
            for share, goal in zip(TEACHER_SHARES, goals, strict=True)
        ]

    def selective_risk(self):
        """Areas under the student's risk-coverage curves."""
        scores, student, _, weight = self._columns
        return {
            "aurc": aurc(scores, student, weight),
            "augrc": augrc(scores, student, weight),
        }

    def auroc(self):
        """Areas under the ROC curves of the score."""
        scores, student, _, weight = self._columns
        return {
            "student_right": self._known(
                "auroc.student_right",
                auroc_student_right,
                scores,
                student,
                weight,
            ),
            "delegating_helps": self._known(
                "auroc.delegating_helps",
                auroc_delegating_helps,
                *self._columns,
            ),
        }

    def calibration(self):
        """Calibration of the student's confidence."""
        if self._results.student_confidence is None:
            reason = "the student's confidence is not known"
            self.undefined["calibration"] = reason
            return None
        if self._student.dtype != bool:
            reason = "qualities are fractions, neither right nor wrong"
            self.undefined["calibration"] = reason
            return None
        diagram = reliability_diagram(
            self._results.student_confidence,
            self._student,
            self._results.sample_weight,
        )
        return {"ece": diagram.error, "reliability": diagram.to_dict()}

    def selective_accuracy(self):
        """Selective accuracy at evenly spread candidates."""
        selective = selective_accuracy(*self._columns)
        count = len(selective.thresholds)
        spread = np.linspace(0, count - 1, SELECTIVE_POINTS)
        indices = np.unique(spread.round().astype(int))
        return {
            name: getattr(selective, name)[indices].tolist()
            for name in (
                "thresholds",
                "coverage",
                "student_accuracy",
                "teacher_accuracy",
            )
        }

    def classes(self):
        """Table of classes, and the worst class of each model."""
        models = ("student", "teacher", "cascade")
        if self._results.labels is None:
            reason = "the labels are not known"
            if self._results.loss_name is not None:
                reason = "the task is not one class per example"
            for path in ("per_class", "worst_class"):
                self.undefined[path] = reason
            return {"per_class": None, "worst_class": None}
        table = per_class(
            self._results.labels,
            self._student,
            self._teacher,
            self._delegated,
            self._results.sample_weight,
        )
        if any(row["share"] == 0 for row in table):
            self.undefined["per_class.accuracy"] = "some classes have no weight"
        return {
            "per_class": table,
            "worst_class": {
                model: self._known(
                    f"worst_class.{model}",
                    worst_class,
                    table,
                    f"{model}_accuracy",
                )
                for model in models
            },
        }

    def bootstrap(self, confidence, resamples, seed):
        """Bootstrap bands and intervals."""
        if resamples == 0:
            self.undefined["bootstrap"] = "no resamples are asked for"
            return None
        section = bootstrap_curve(
            *self._columns,
            threshold=self._threshold,
            confidence=confidence,
            resamples=resamples,
            seed=seed,
        )
        for name, reason in section.pop("undefined").items():
            self.undefined[f"bootstrap.{name}"] = reason
        return section

    def _known(self, path, measure, *arguments):
        try:
            return measure(*arguments)
        except UndefinedMetricError as error:
            self.undefined[path] = str(error)
            return None

    def _price(self, rate):
        return {"delegation_rate": rate, "amortized_cost": self._cost(rate)}

    def _cost(self, rate):
        if self._costs is None:
            return None
        return float(self._costs.amortized(rate))


def _share_among(values, among, weight, nothing):
    """Returns the weighted mean of the values at `among`.

    Args:
        values: bool or float array `(examples,)`.
        among: bool array `(examples,)`.
        weight: float array `(examples,)`.
        nothing: str, the reason where these have no weight.

    Raises:
        UndefinedMetricError: no example, or none with weight.
    """
    if not weight[among].sum() > 0:
        raise UndefinedMetricError(nothing)
    return float(np.average(values[among], weights=weight[among]))

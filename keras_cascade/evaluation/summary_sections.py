"""The parts of a summary, each a few numbers that belong together."""

import numpy as np

from keras_cascade.errors import UndefinedMetricError
from keras_cascade.evaluation.bootstrap import bootstrap_curve
from keras_cascade.evaluation.comparison import BUDGETS
from keras_cascade.evaluation.deferral_curve import deferral_curve
from keras_cascade.evaluation.deferral_score import (
    deferral_area,
    deferral_score,
    oracle_curve,
    random_area,
)
from keras_cascade.evaluation.discrimination import (
    auroc_delegating_helps,
    auroc_student_right,
)
from keras_cascade.evaluation.kept_set import kept_accuracy
from keras_cascade.evaluation.per_class import per_class, worst_class
from keras_cascade.evaluation.reliability import reliability_diagram
from keras_cascade.evaluation.sample_weights import check_weight
from keras_cascade.evaluation.selective_risk import augrc, aurc
from keras_cascade.evaluation.threshold_outcome import (
    delegated_at,
    share_among,
)

#: Shares of the teacher's accuracy whose price is reported.
TEACHER_SHARES = (0.99, 1.0)
KEPT_POINTS = 201


class SummarySections:
    """Measures one part after the other, and notes what is undefined.

    Args:
        results: `ExampleResults`.
        threshold: float or `None`.
        costs: `Costs` or `None`.

    Attributes:
        curve: `DeferralCurve`.
        weight: float array `(examples,)`.
        undefined: dict of dotted path to the reason why it is `None`.
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
        self._student, self._teacher = (
            np.asarray(correct, dtype=bool) for correct in self._columns[1:3]
        )
        self._delegated = None
        if threshold is not None:
            self._delegated = delegated_at(results.scores, threshold)
        self.undefined = {}
        if costs is None:
            self.undefined["amortized_cost"] = "no costs are given"

    def at_threshold(self):
        """What the cascade does at its threshold."""
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
            ("kept", ~delegated, "keeps"),
            ("delegated", delegated, "delegates"),
        ):
            for model, correct in (
                ("student", self._student),
                ("teacher", self._teacher),
            ):
                name = f"{model}_accuracy_{side}"
                section[name] = self._known(
                    f"at_threshold.{name}",
                    share_among,
                    correct,
                    among,
                    self.weight,
                    f"the threshold {verb} nothing",
                )
        return section

    def deferral(self):
        """The curve in four numbers."""
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
        """The oracle's curve, at most four points."""
        ideal = oracle_curve(*self._columns[1:])
        return {
            "delegation_rate": ideal.delegation_rate.tolist(),
            "accuracy": ideal.accuracy.tolist(),
        }

    def budgets(self):
        """The highest attainable rate up to each fixed budget."""
        places = [self.curve.place_of(budget) for budget in BUDGETS]
        return [
            {
                "budget": budget,
                "accuracy": float(self.curve.accuracy[place]),
                **self._price(float(self.curve.delegation_rate[place])),
            }
            for budget, place in zip(BUDGETS, places, strict=True)
        ]

    def reach_teacher(self):
        """The lowest rate at which the cascade is nearly the teacher."""
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
        """The student as a selective classifier."""
        scores, student, _, weight = self._columns
        return {
            "aurc": aurc(scores, student, weight),
            "augrc": augrc(scores, student, weight),
        }

    def auroc(self):
        """How well the score tells examples apart."""
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
        """Does the student's confidence say how often it is right?"""
        if self._results.student_confidence is None:
            reason = "the student's confidence is not known"
            self.undefined["calibration"] = reason
            return None
        diagram = reliability_diagram(
            self._results.student_confidence,
            self._student,
            self._results.sample_weight,
        )
        return {"ece": diagram.error, "reliability": diagram.to_dict()}

    def kept_accuracy(self):
        """Accuracy on the kept set, at evenly spread candidates."""
        kept = kept_accuracy(*self._columns)
        count = len(kept.thresholds)
        spread = np.linspace(0, count - 1, KEPT_POINTS)
        places = np.unique(spread.round().astype(int))
        return {
            name: getattr(kept, name)[places].tolist()
            for name in (
                "thresholds",
                "fraction_kept",
                "student_accuracy",
                "teacher_accuracy",
            )
        }

    def classes(self):
        """The table of classes, and the worst of them."""
        models = ("student", "teacher", "cascade")
        if self._results.labels is None:
            for path in ("per_class", "worst_class"):
                self.undefined[path] = "the labels are not known"
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
        """How far all that would move on other examples."""
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

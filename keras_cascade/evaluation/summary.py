"""Every number of a cascade's evaluation, in one dict."""

from keras_cascade.evaluation.sample_weights import effective_examples
from keras_cascade.evaluation.summary_sections import SummarySections


def summarize(
    results, threshold=None, costs=None, confidence=0.95, resamples=1000, seed=0
):
    """Measures a cascade in every way that the report shows.

    All numbers are weighted by `results.sample_weight`. A number that the
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
          the kept and on the delegated examples
          (`student_accuracy_kept` ...)
        - `deferral`: `area`, `random_area`, `ideal_area`, `score`
        - `ideal_curve`: `delegation_rate`, `accuracy`
        - `budgets`: list of `budget`, and at the highest attainable rate up
          to it `delegation_rate`, `accuracy`, `amortized_cost`
        - `reach_teacher`: list of `share` of the teacher's accuracy,
          `accuracy` to reach, `delegation_rate`, `amortized_cost`
        - `selective_risk`: `aurc`, `augrc`
        - `auroc`: `student_right`, `delegating_helps`
        - `calibration`: `ece` (expected calibration error), `reliability`
        - `kept_accuracy`: lists as in `KeptAccuracy`, at most 201 points
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
    sections = SummarySections(results, threshold, costs)
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
        "kept_accuracy": sections.kept_accuracy(),
        **sections.classes(),
        "bootstrap": sections.bootstrap(confidence, resamples, seed),
        "undefined": sections.undefined,
    }

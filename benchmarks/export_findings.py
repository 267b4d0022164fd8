"""What `benchmarks.export` concludes: paired gains, and targets met or not."""

import numpy as np
from scipy import stats

LARGEST = {
    "size_over_float32": {
        "float16": 0.55,
        "dynamic": 0.32,
        "int8": 0.32,
        "int4": 0.20,
    },
    "gzipped_over_float32": {"prune+qat": 0.20},
}
#: Points of cascade accuracy, and of modes that may lose more.
LARGEST_DROP, DROPS = 0.3, {"int4": 0.5}
GAINS = (
    "student_accuracy_change",
    "accuracy_change",
    "accuracy_change_at_equal_rate",
)


def paired(runs, one, other):
    """What a mode gains over another, seed by seed, in points.

    Args:
        runs: list of dicts, of `one_seed`.
        one, other: str, the modes.

    Returns:
        Dict of measure to dict of `gains`, `mean`, and with several seeds
        Student's `interval_95` of the mean and its `p_value`.
    """
    pairs = [(run[one], run[other]) for run in runs]
    gains = {
        name: _gain([a[name] - b[name] for a, b in pairs]) for name in GAINS
    }
    gains["accuracy_at"] = {
        rate: _gain(
            [100 * (a["accuracy_at"][rate] - b["accuracy_at"][rate])
             for a, b in pairs]
        )
        for rate in pairs[0][0]["accuracy_at"]
    }  # fmt: skip
    return gains


def _gain(gains):
    statistics = {"gains": gains, "mean": float(np.mean(gains))}
    if len(gains) > 1 and np.std(gains) > 0:
        test = stats.ttest_1samp(gains, 0.0)
        statistics["interval_95"] = list(test.confidence_interval(0.95))
        statistics["p_value"] = float(test.pvalue)
    return statistics


def targets(result):
    """What the sizes and the accuracies are held against."""
    checks = [
        (name, mode, result[name][mode], limit)
        for name, limits in LARGEST.items()
        for mode, limit in limits.items()
        if mode in result[name]
    ]
    checks += [
        ("accuracy_drop", mode, -change, DROPS.get(mode, LARGEST_DROP))
        for mode, change in result["accuracy_change"].items()
    ]
    return [
        {"target": name, "mode": mode, "found": value, "at_most": limit,
         "met": bool(value <= limit)}
        for name, mode, value, limit in checks
    ]  # fmt: skip

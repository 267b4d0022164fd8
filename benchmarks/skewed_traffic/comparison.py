"""Tuning on the validation split and paired comparison on the test split."""

import numpy as np
from scipy import stats

from benchmarks.skewed_traffic.contenders import (
    ABSTAIN,
    ALPHAS,
    BASELINES,
    CLASS_SPECIFIC,
    T1,
    class_specific_setting,
)
from benchmarks.skewed_traffic.one_run import RATES

BEST_BASELINE = "best-tuned baseline"
OWN_GATE = "abstain, its own gate"
CONFIDENCE = 0.95


def tuned(runs):
    """Returns the best setting of each family on one seed's validation part.

    Args:
        runs: dict of `(family, setting)` to what `run` returned.

    Returns:
        Dict of family, and of `"best-tuned baseline"` and `"abstain, its own
        gate"`, to `{"setting", "epochs", "test"}`. Picked by the mean
        validation accuracy over the rates.
    """
    best = {}
    for (family, setting), measured in runs.items():
        for epochs, gates in measured.items():
            for gate, accuracies in gates.items():
                named = OWN_GATE if gate == "abstain" else family
                one = {
                    "family": family,
                    "setting": setting,
                    "epochs": epochs,
                    "validation": float(np.mean(accuracies["validation"])),
                    "test": accuracies["test"],
                }
                groups = [named]
                if family in BASELINES:
                    groups.append(BEST_BASELINE)
                for group in groups:
                    before = best.get(group)
                    if before is None or (
                        one["validation"] > before["validation"]
                    ):
                        best[group] = one
    return best


def paired(one, other):
    """Computes differences in points with a t interval over seeds.

    Args:
        one: float array `(seeds, rates)`, accuracies in [0, 1].
        other: the same of the baseline.

    Returns:
        List, one dict per rate, of `difference`, `low`, `high`.
    """
    points = 100 * (np.asarray(one) - np.asarray(other))
    mean = points.mean(axis=0)
    error = stats.sem(points, axis=0)
    reach = error * stats.t.ppf((1 + CONFIDENCE) / 2, len(points) - 1)
    return [
        {
            "rate": rate,
            "difference": float(m),
            "low": float(m - r),
            "high": float(m + r),
        }
        for rate, m, r in zip(RATES, mean, reach, strict=True)
    ]


def compared(seeds):
    """Computes the tables of one width.

    Args:
        seeds: list with a dict per seed, of `(family, setting)` to what `run`
            returned.

    Returns:
        JSON-compatible dict.
    """
    picks = [tuned(runs) for runs in seeds]
    test = {name: [pick[name]["test"] for pick in picks] for name in picks[0]}
    methods = (CLASS_SPECIFIC, ABSTAIN, OWN_GATE)
    return {
        "accuracy": {
            name: np.mean(values, axis=0).tolist()
            for name, values in test.items()
        },
        "picked": {
            name: [_described(pick[name]) for pick in picks] for name in test
        },
        "against": {
            method: {
                baseline: paired(test[method], test[baseline])
                for baseline in (BEST_BASELINE, *BASELINES)
            }
            for method in methods
        },
        "untuned": _untuned(seeds),
    }


def _untuned(seeds):
    """Compares each α at T=1 with T=1 distillation, at the most epochs."""

    def last(runs, family, setting):
        measured = runs[family, setting]
        return measured[max(measured)]["margin"]["test"]

    base = [last(runs, T1, "") for runs in seeds]
    return {
        f"alpha={alpha:g}": paired(
            [
                last(runs, CLASS_SPECIFIC, class_specific_setting(alpha, 1.0))
                for runs in seeds
            ],
            base,
        )
        for alpha in ALPHAS
    }


def _described(pick):
    parts = [pick["family"], pick["setting"], f"{pick['epochs']} epochs"]
    return ", ".join(part for part in parts if part)

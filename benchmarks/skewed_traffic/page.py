"""Documentation page of a result.

python -m benchmarks.skewed_traffic.page RESULT.json PAGE.md
"""

import json
import sys
from pathlib import Path

from benchmarks.skewed_traffic.comparison import BEST_BASELINE, OWN_GATE
from benchmarks.skewed_traffic.contenders import (
    ABSTAIN,
    BASELINES,
    CLASS_SPECIFIC,
)

_INTRODUCTION = """\
# Class-specific distillation under skewed traffic

Data: Banking77, where {classes} of 77 intents make {traffic:.0f} % of the
requests; these intents are drawn anew for each of {seeds} seeds. The student is
a bag of words with a bottleneck of a few units
(`kc.models.text_bag(width=...)`). The teacher is {teacher},
with an accuracy of {teacher_accuracy:.1f} % under this traffic; the
student learns from cross-fitted logits. Training ({train:,}
examples), tuning ({validation:,}) and the numbers below ({test:,}) are weighted
by the traffic. The gate is the margin.

Every method is tuned alike, per seed on the validation split, by the mean
cascade accuracy at {rates} delegation: alpha, T and the epochs. The
*best-tuned baseline* is the best on that split of {baselines}. All methods of
a width share one learning rate, which was set with cross-entropy alone.

Differences are points of cascade accuracy on the test split, paired over
seeds, with 95 % t intervals. **Bold**: the interval excludes 0. The intervals
are not corrected for multiple comparisons: of twenty differences between
equals, one is expected to exclude 0.

Made by `python -m benchmarks.skewed_traffic --json --data FOLDER` on {date}.
"""


def page(result):
    """Formats a result as a Markdown page.

    Args:
        result: dict, as `python -m benchmarks.skewed_traffic --json` prints.

    Returns:
        String.
    """
    rates = [f"{100 * rate:.0f} %" for rate in result["rates"]]
    widths = result["widths"]
    text = _INTRODUCTION.format(
        classes=result["head_classes"],
        traffic=100 * result["head_traffic"],
        seeds=result["seeds"],
        teacher={"minilm": "MiniLM with a trained head"}.get(
            result["teacher"], f"a bag of words, trained {result['teacher']}"
        ),
        teacher_accuracy=100 * result["teacher_accuracy"],
        rates="/".join(rates).replace(" %/", "/"),
        baselines=", ".join(BASELINES),
        date=result["date"],
        **result["examples"],
    )
    for method in (CLASS_SPECIFIC, ABSTAIN, OWN_GATE):
        against = {
            width: one["against"][method] for width, one in widths.items()
        }
        text += f"\n## {method[0].upper()}{method[1:]}\n\n"
        text += f"{_verdict(against)}\n\n"
        text += _table(["units", "against", *rates]) + "".join(
            _row([width, baseline, *map(_difference, found)])
            for width, one in against.items()
            for baseline, found in one.items()
        )
    text += (
        "\n## Untuned alpha\n\nAt T = 1 and the most epochs, against T=1 "
        "distillation for as many epochs.\n\n"
    )
    text += _table(["units", "", *rates]) + "".join(
        _row([width, name, *map(_difference, found)])
        for width, one in widths.items()
        for name, found in one["untuned"].items()
    )
    text += "\n## Accuracies\n\nMeans over seeds, tuned.\n\n"
    text += _table(["units", "", *rates]) + "".join(
        _row([width, name, *(f"{100 * value:.1f}" for value in values)])
        for width, one in widths.items()
        for name, values in one["accuracy"].items()
    )
    text += "\n## Chosen settings\n\nThe other choices are in the JSON.\n\n"
    text += _table(["units", "", "seed by seed"]) + "".join(
        _row([width, name, "; ".join(picks)])
        for width, one in widths.items()
        for name, picks in one["picked"].items()
        if name in (BEST_BASELINE, CLASS_SPECIFIC)
    )
    return text


def _verdict(against):
    cells = [cell for one in against.values() for cell in one[BEST_BASELINE]]
    above = sum(cell["low"] > 0 for cell in cells)
    below = sum(cell["high"] < 0 for cell in cells)
    return (
        f"Against the best-tuned baseline, over {len(against)} widths and "
        f"{len(cells) // len(against)} rates: above it in {above} of "
        f"{len(cells)} intervals, below it in {below}, no significant "
        f"difference in {len(cells) - above - below}."
    )


def _difference(cell):
    text = f"{cell['difference']:+.1f} ({cell['low']:+.1f} to "
    text += f"{cell['high']:+.1f})"
    differs = cell["low"] > 0 or cell["high"] < 0
    return f"**{text}**" if differs else text


def _table(heads):
    return _row(heads) + _row(["---"] * len(heads))


def _row(cells):
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(
        page(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8"
    )

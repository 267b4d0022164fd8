"""docs/quantization.md: its figures are those of the benchmarks' files."""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_figures_of_five_seeds():
    found = json.loads(
        (DOCS / "benchmarks/export_post_training.json").read_text()
    )
    text = (DOCS / "quantization.md").read_text().replace("\N{MINUS SIGN}", "-")
    size, mean, worst = re.search(
        r'Over five seeds of the first, `"int4"` is (\S+) of float32 and moves '
        r"the cascade's accuracy\s+by (\S+) points on average and by (\S+) at",
        text,
    ).groups()
    assert found["seeds"]["int4"] == 5
    assert float(size) == round(found["size_over_float32"]["int4"], 3)
    assert float(mean) == round(found["accuracy_change"]["int4"], 2)
    assert float(worst) == round(found["worst_accuracy_change"]["int4"], 2)
    assert all(target["met"] for target in found["targets"])

"""Table of the models that each exporter supports, with reasons.

    python -m benchmarks.coverage --json [--quick] [--only NAME ...]
        [--write docs/coverage.md] [--workers 2] [--resume FILE]

A full run takes long. With `--resume` each model is kept in a file as soon as
it is through, and one that is there is not measured again.

`models`: by name, and by column of the table, what was measured of the file,
or `refused` and `why`. `exported_share`: share of all cells with a file.
`seconds`: of all conversions and comparisons together.
"""

import argparse
import concurrent.futures
import datetime
import importlib.metadata
import json
import sys
from pathlib import Path

from benchmarks.coverage.artifacts import BATCH_SIZES, COLUMNS
from benchmarks.coverage.child_process import measured
from benchmarks.coverage.page import page
from benchmarks.coverage.zoo import ZOO
from benchmarks.harness import show
from keras_cascade.export.verification import (
    FLOAT16_TOLERANCE,
    MEAN_DISTANCE,
    TOLERANCE,
)

VERSIONED = (
    "tensorflow",
    "keras",
    "keras-hub",
    "ai-edge-litert",
    "tensorflow-model-optimization",
    "tf2onnx",
    "onnxruntime",
)


def main():
    """Measures, prints, and writes the page."""
    chosen = _options()
    models = _measured(chosen)
    cells = [
        cell for model in models.values() for cell in model["columns"].values()
    ]
    result = {
        "models": models,
        "exported_share": sum("why" not in cell for cell in cells) / len(cells),
        "columns": list(COLUMNS),
        "batch_sizes": list(BATCH_SIZES),
        "limits": {
            "float32 and ONNX": TOLERANCE,
            "float16": FLOAT16_TOLERANCE,
            "8 bits": MEAN_DISTANCE,
        },
        "versions": {
            package: importlib.metadata.version(package)
            for package in VERSIONED
        },
        "seconds": round(sum(cell.get("seconds", 0) for cell in cells)),
        "date": datetime.date.today().isoformat(),
    }
    if chosen.write:
        chosen.write.write_text(page(result), encoding="utf-8")
    show(result, chosen.json)


def _measured(chosen):
    """Dict of name to what was measured, of every model that is chosen."""
    kept = {}
    if chosen.resume and chosen.resume.exists():
        kept = json.loads(chosen.resume.read_text(encoding="utf-8"))
    missing = [name for name in chosen.only if name not in kept]
    with concurrent.futures.ThreadPoolExecutor(chosen.workers) as pool:
        running = {pool.submit(measured, name): name for name in missing}
        for done in concurrent.futures.as_completed(running):
            name = running[done]
            kept[name] = done.result()
            print(f"{name}: measured", file=sys.stderr, flush=True)
            if chosen.resume:
                chosen.resume.write_text(json.dumps(kept), encoding="utf-8")
    return {name: kept[name] for name in chosen.only}


def _options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few models: to see that it runs"
    )
    parser.add_argument(
        "--only", nargs="+", choices=ZOO, metavar="NAME", help="these models"
    )
    parser.add_argument("--write", type=Path, help="the page to write")
    parser.add_argument("--resume", type=Path, help="what is measured already")
    parser.add_argument("--workers", type=int, default=2, help="processes")
    chosen = parser.parse_args()
    if chosen.only is None:
        chosen.only = [
            name for name in ZOO if ZOO[name].quick or not chosen.quick
        ]
    return chosen


if __name__ == "__main__":
    main()

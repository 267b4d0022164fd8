"""Measurement of each model in a child process; a crash is a result."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.coverage.artifacts import COLUMNS

#: Seconds that all columns of one model may take.
LIMIT = 3600
#: A core for each worker.
ONE_CORE = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def measured(name, limit=LIMIT):
    """Measures every column of one model.

    A process that dies or takes too long is started again for the columns
    behind the one at which it was.

    Args:
        name: str, of the zoo.
        limit: float, seconds for one process. Defaults to `3600`.

    Returns:
        Dict of `parameters` and `spread`, if the model could be made, and
        `columns`, dict of column to what was measured.
    """
    measurements = {"columns": {}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "columns.jsonl")
        while missing := [
            c for c in COLUMNS if c not in measurements["columns"]
        ]:
            why = _run(name, file, missing, limit)
            for line in file.read_text(encoding="utf-8").splitlines():
                values = json.loads(line)
                column = values.pop("column", None)
                if column is None:
                    measurements |= values
                else:
                    measurements["columns"][column] = _shortened(values)
            file.unlink()
            still = [c for c in missing if c not in measurements["columns"]]
            if still:
                failed = _shortened({"refused": "crash", "why": why})
                measurements["columns"][still[0]] = failed
    return measurements


def _shortened(values):
    """A reason in one line, without the paths of one machine."""
    if "why" not in values:
        return values
    why = re.sub(r"'?/(?:[\w.+-]+/)+[\w.+-]*'?", "...", values["why"])
    return {**values, "why": " ".join(why.split())[:400]}


def _run(name, file, columns, limit):
    """Runs the child; returns how it ended."""
    file.touch()
    environment = {**os.environ, **ONE_CORE, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [
        sys.executable, "-m", f"{__package__}.one_model", name, file, *columns,
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        try:
            status = subprocess.run(
                command,
                stdout=log,
                stderr=log,
                env=environment,
                timeout=limit,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            return f"The process took longer than {limit:.0f} s."
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "no words"
    return f"The process ended with exit status {status}: {last[:300]}"

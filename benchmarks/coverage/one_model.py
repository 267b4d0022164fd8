"""The child process: `python -m benchmarks.coverage.one_model NAME FILE ...`.

Each column of one model is a line of JSON in the file as soon as it is
measured, so that a crash loses no more than the column that crashed.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.coverage.artifacts import Candidate
from benchmarks.coverage.zoo import ZOO


def main():
    """Measures the columns that are named."""
    name, file, *columns = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, Path(file).open("a") as out:

        def write(**line):
            out.write(json.dumps(line) + "\n")
            out.flush()

        candidate = Candidate(ZOO[name], folder)
        write(parameters=candidate.parameters, spread=candidate.spread)
        for column in columns:
            start = time.perf_counter()
            try:
                cell = candidate.measure(column)
            # What fails is what is asked for: any reason is a result.
            except Exception as error:
                cell = {"refused": type(error).__name__, "why": str(error)}
            seconds = round(time.perf_counter() - start, 1)
            write(column=column, seconds=seconds, **cell)


if __name__ == "__main__":
    main()

"""Executes the tutorials in a clean kernel and saves their outputs.

    python tutorials/execute.py              every notebook
    python tutorials/execute.py 01 05        those whose names begin so
    python tutorials/execute.py --check 01   the same, without writing

A tutorial is a pair: `NAME.py`, the source (jupytext's percent format), and
`NAME.ipynb`, which this script writes, with outputs. Each runs in a temporary
folder laid out like `tutorials/`, so that no file is left in the checkout.
"""

import argparse
import json
import sys
import tempfile
import time
from concurrent import futures
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

FOLDER = Path(__file__).parent
SECONDS = 600


def names():
    """Returns the names of the tutorials, in order."""
    return sorted(file.stem for file in FOLDER.glob("[0-9][0-9]_*.py"))


def execute(name):
    """Executes one tutorial.

    Args:
        name: str, one of `names()`.

    Returns:
        The notebook, with outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
        ValueError: a cell wrote to standard error, or the last picture is
            missing.
        TimeoutError: a cell took more than 300 s.
    """
    notebook = jupytext.read(FOLDER / f"{name}.py")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "tutorials"
        folder.mkdir()
        (folder / "data").symlink_to(FOLDER / "data")
        (Path(root) / "saved_models").symlink_to(FOLDER.parent / "saved_models")
        # Unix sockets in this folder: closed to other users of the machine.
        ipc = {"transport": "ipc", "ip": f"{root}/kernel"}
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            coalesce_streams=True,
            config=Config(KernelManager=ipc),
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
        ).execute()
    _check(name, notebook)
    notebook.metadata = {
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # runs differ in outputs only
    return notebook


def _check(name, notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise ValueError(
                    f"Expected {name} to write nothing to standard error. "
                    f"Received:\n{output.text}\nin the cell:\n{cell.source}"
                )
    if not any("image/png" in o.get("data", {}) for o in code[-1].outputs):
        raise ValueError(f"{name} does not end with a picture.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("beginnings", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--jobs", type=int, default=1, help="tutorials at a time (default: 1)"
    )
    arguments = parser.parse_args()
    beginnings = tuple(arguments.beginnings) or ("",)
    chosen = [name for name in names() if name.startswith(beginnings)]
    if not chosen:
        parser.error(f"expected beginnings of {names()}, got {beginnings}")
    seconds, start = {}, time.perf_counter()
    with futures.ProcessPoolExecutor(arguments.jobs) as pool:
        for name, (notebook, took) in zip(
            chosen, pool.map(_timed, chosen), strict=True
        ):
            seconds[name] = took
            if not arguments.check:
                nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    total = round(time.perf_counter() - start, 1)
    print(json.dumps({"seconds": seconds, "total": total}))


def _timed(name):
    print(f"{name} ...", file=sys.stderr, flush=True)
    start = time.perf_counter()
    notebook = execute(name)
    return notebook, round(time.perf_counter() - start, 1)


if __name__ == "__main__":
    main()

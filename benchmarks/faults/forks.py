"""Forks of a process that queues and logs rows, and its death by kill -9.

    python -m benchmarks.faults.forks --json [--quick]

A process queues rows and logs answers, and writes down each that was
acknowledged. Meanwhile it forks children, which close the files, exit (with
Python's clean-up, and without), collect garbage, write, or are killed. At the
end it kills itself. `fork_rows_lost` counts acknowledged rows that are not in
the queue afterwards, or with other inputs, `fork_log_rows_lost` those of the
log. `fork_rows_refused`: rows whose `put` raised an error in the parent;
`fork_children_crashed`: children that a signal other than our own ended;
`fork_database_intact`: `PRAGMA integrity_check` of both files, before they are
opened by this package again.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.harness import options, show
from keras_cascade.runtime import TeacherError, TeacherLog, TeacherQueue

ROWS, QUICK = 20_000, 2_000
FORKS = 20
PER_PUT = 10
SPECS = [{"name": "input", "shape": [None, 8], "dtype": "float32"}]
CLASSES = ["a", "b"]
ENDINGS = ("close", "exit", "_exit", "collect", "write", "kill")

PARENT = """
import gc, json, os, signal, sys
import numpy as np
from keras_cascade.runtime import TeacherError, TeacherLog, TeacherQueue

(queue_file, log_file, journal_file, specs, classes, puts, per_put, forks,
 endings) = json.loads(sys.argv[1])
queue = TeacherQueue(queue_file, specs, classes, max_rows=10**6)
log = TeacherLog(log_file, specs, classes, max_rows=10**6)
journal = os.open(journal_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
flat = np.full((per_put, len(classes)), 0.5, "float32")

def note(*content):
    os.write(journal, (json.dumps(content) + "\\n").encode())

def write(number):
    x = {"input": np.full((per_put, 8), number, "float32")}
    note("put", number, queue.put(x, np.zeros(per_put), flat, "default"))
    before = len(log) if number % 10 == 0 else 0
    if number % 10 == 0:
        log.add(x, flat)
        if len(log) == before + per_put:
            note("log", number)

def end(how):
    global queue, log
    if how == "close":
        queue.close(), log.close()
    elif how == "collect":
        del queue, log
        gc.collect()
    elif how == "write":
        for _ in range(5):
            try:
                queue.put({"input": np.zeros((per_put, 8), "float32")},
                          np.zeros(per_put), flat, "child")
                log.clear()
            except TeacherError:
                pass
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "_exit":
        os._exit(0)
    sys.exit()

children = {}
for number in range(puts):
    if number % (puts // forks) == puts // forks // 2:
        how = endings[len(children) % len(endings)]
        child = os.fork()
        if child == 0:
            end(how)
        children[child] = how
    try:
        write(number)
    except TeacherError as error:
        note("refused", str(error)[:200])
for child, how in children.items():
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    note("child", how, status)
os.kill(os.getpid(), signal.SIGKILL)
"""


def measure(quick: bool) -> dict:
    """Runs the benchmark; returns its results."""
    rows = QUICK if quick else ROWS
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [folder / name for name in ("queue", "log", "journal")]
        work = [
            *map(str, files), SPECS, CLASSES, rows // PER_PUT, PER_PUT, FORKS,
            ENDINGS,
        ]  # fmt: skip
        parent = subprocess.run(
            [sys.executable, "-c", PARENT, json.dumps(work)],
            capture_output=True,
            text=True,
        )
        if parent.returncode != -signal.SIGKILL:
            raise RuntimeError(f"The parent ended early: {parent.stderr}")
        journal = [
            json.loads(line) for line in files[2].read_text().splitlines()
        ]
        intact = [_is_intact(file, folder) for file in files[:2]]
        return {
            **_lost_of_queue(files[0], journal),
            **_lost_of_log(files[1], journal),
            "fork_rows_refused": PER_PUT
            * sum(entry[0] == "refused" for entry in journal),
            "fork_children_crashed": sum(
                entry[2] < 0 and entry[1] != "kill"
                for entry in journal
                if entry[0] == "child"
            ),
            "fork_database_intact": all(intact),
            "forks": FORKS,
        }


def _is_intact(file, folder):
    """Checks a copy, with SQLite alone."""
    copy = folder / f"{file.name}-copy"
    for end in ("", "-wal"):
        source = Path(f"{file}{end}")
        if source.exists():
            Path(f"{copy}{end}").write_bytes(source.read_bytes())
    database = sqlite3.connect(copy)
    try:
        return database.execute("PRAGMA integrity_check").fetchall() == [
            ("ok",)
        ]
    except sqlite3.Error:
        return False
    finally:
        database.close()


def _lost_of_queue(file, journal):
    stored = {
        row_id: number
        for kind, number, *ids in (e for e in journal if e[0] == "put")
        for row_id in ids[0]
    }
    kept = {}
    try:
        queue = TeacherQueue(file, SPECS, CLASSES)
        try:
            for row in queue.read(queue.waiting()):
                kept[row.id] = row.inputs["input"]
        finally:
            queue.close()
    except TeacherError:
        kept = {}  # none can be read
    lost = sum(
        row_id not in kept or not (kept[row_id] == number).all()
        for row_id, number in stored.items()
    )
    return {"fork_rows_lost": lost, "fork_rows_acknowledged": len(stored)}


def _lost_of_log(file, journal):
    numbers = [entry[1] for entry in journal if entry[0] == "log"]
    values = np.empty(0)
    try:
        log = TeacherLog(file)
        try:
            values = log.read()[0]["input"][:, 0]
        finally:
            log.close()
    except (TeacherError, ValueError):
        pass  # none can be read
    lost = sum(
        PER_PUT - min(PER_PUT, int((values == number).sum()))
        for number in numbers
    )
    return {
        "fork_log_rows_lost": lost,
        "fork_log_rows_acknowledged": PER_PUT * len(numbers),
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    show(measure(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()

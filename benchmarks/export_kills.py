"""Kills exports at random moments, and looks at what is left.

    python -m benchmarks.export_kills --json [--quick]

Half of the exports write to a path where there is nothing, half replace a
bundle. Half of the kills come at any moment of the work (`anywhere`), half
within milliseconds of the move into place (`at_the_end`). After each kill the
path must hold nothing, the bundle that was there or the new one, whole:
anything else is counted as `broken`. One process imports, and forks the ones
that are killed.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import options, show
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import MANIFEST

KILLS = 200
#: Seconds in which the rest of an export happens after its last file.
LAST = 0.03
MODES = ("float32", "float16", "dynamic", "int8")


def make_and_export(path, mode):
    """The work that is killed: builds a cascade and exports it."""
    import keras

    import keras_cascade as kc

    def model(units):
        return keras.Sequential(
            [
                keras.Input((6,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(4),
            ]
        )

    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6)).astype("float32")
    cascade = kc.Cascade(model(64), model(8))
    cascade.export(
        path,
        calibration_data=(x, rng.integers(0, 4, len(x))),
        quantization=mode,
        overwrite=True,
    )


def started(path, mode):
    """Process id of a fork that exports."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        make_and_export(path, mode)
        status = 0
    finally:
        os._exit(status)


def ended(process, timeout):
    """Exit status, or `None` where the process was still at it: killed."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def wait_for_manifest(path, process):
    """Waits until an export has written its last file, beside `path`."""
    while not any(path.parent.glob(f".{path.name}-*/{MANIFEST}")):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0005)


def what_is_at(path, old):
    """`"nothing"`, `"old"`, `"new"` or `"broken"`."""
    if not path.exists():
        return "nothing"
    try:
        Bundle.load(path)
    except BundleError:
        return "broken"
    return "old" if manifest_of(path) == old else "new"


def manifest_of(path):
    """The manifest as text, or `None`."""
    file = path / MANIFEST
    return file.read_text() if file.exists() else None


def killed(path, mode, length, at_the_end, dice):
    """Kills one export that was not through yet; returns what is there."""
    while True:
        old = manifest_of(path)
        process = started(path, mode)
        moment = dice.uniform(0, LAST if at_the_end else 1.1 * length)
        if at_the_end:
            wait_for_manifest(path, process)
        status = ended(process, moment)
        if status is None:
            return what_is_at(path, old), old is not None
        if status:
            raise RuntimeError(f"An export of '{mode}' failed.")
        if old is None:
            shutil.rmtree(path)


def run(kills, modes=MODES, seed=0):
    """Counts by what was there before and what is there after each kill."""
    dice = random.Random(seed)
    outcomes = {}
    with tempfile.TemporaryDirectory() as folder:
        # Imports, in the process that forks, without running anything: a
        # fork of running threads would hang.
        import keras_cascade as kc
        from keras_cascade.export import bundle_export  # noqa: F401

        kc.Cascade  # noqa: B018
        target = Path(folder, "replaced")
        lengths = {}
        for mode in modes:
            start = time.monotonic()
            if ended(started(target, mode), 300) != 0:
                raise RuntimeError(f"An export of '{mode}' failed.")
            lengths[mode] = time.monotonic() - start
        for number in range(kills):
            mode = modes[number // 4 % len(modes)]
            path = target if number % 2 else Path(folder, f"fresh-{number}")
            at_the_end = number % 4 >= 2
            state, replacing = killed(
                path, mode, lengths[mode], at_the_end, dice
            )
            if state == "nothing" and replacing:
                state = "broken"
            what = "replacing" if replacing else "fresh"
            when = "at_the_end" if at_the_end else "anywhere"
            counts = outcomes.setdefault(f"{what}, {when}", {})
            counts[state] = counts.get(state, 0) + 1
    broken = sum(counts.get("broken", 0) for counts in outcomes.values())
    return {"kills": kills, "broken": broken, "found": outcomes}


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    show(run(12 if chosen.quick else KILLS), chosen.json)


if __name__ == "__main__":
    main()

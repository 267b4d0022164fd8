"""Kills caching and training at random moments and compares the results.

    python -m benchmarks.kills --json [--quick]

Every run is a separate process. A killed one is restarted, and killed again,
until it finishes; then its cache must have the same bytes, and its student the
same weights, as those of an uninterrupted run.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import options, show

KILLS = 20

WORK = """
import sys
from pathlib import Path
import keras, numpy as np
import keras_cascade as kc

work, folder = sys.argv[1], Path(sys.argv[2])
keras.utils.set_random_seed(3)

def model(units):
    return keras.Sequential([
        keras.Input((64,)), keras.layers.Dense(units, activation="relu"),
        keras.layers.Dense(20)])

teacher, student = model(2048), model(16)
rng = np.random.default_rng(0)
x = rng.normal(size=(20_000, 64)).astype("float32")
y = rng.integers(0, 20, len(x))
print("begin", flush=True)
if work == "cache":
    kc.cache_teacher_logits(x, teacher, folder / "cache", batch_size=64,
                            chunk_examples=256)
else:
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer="adam")
    cascade.fit(
        x[:4000], y[:4000], epochs=12, shuffle=False, verbose=0,
        callbacks=[kc.callbacks.CrashSafeBackup(folder / "backup")])
    np.savez(folder / "weights.npz", *student.get_weights())
print("end", flush=True)
"""


def start(work, folder):
    """Starts the work and waits until the imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, work, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if process.stdout.readline() != "begin\n":
        raise RuntimeError(f"The work '{work}' did not begin.")
    return process


def uninterrupted(work, folder):
    """Runs the work without a kill and returns its duration in seconds."""
    folder.mkdir()
    process = start(work, folder)
    begin = time.perf_counter()
    rest = process.communicate()[0]
    if process.returncode or rest != "end\n":
        raise RuntimeError(f"The work '{work}' failed.")
    return time.perf_counter() - begin


def killed(work, folder, length, kills, dice):
    """Kills the work `kills` times at random moments, then lets it finish."""
    folder.mkdir()
    done = 0
    while done < kills:
        process = start(work, folder)
        try:
            process.wait(dice.uniform(0, 1.2 * length / 3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.communicate()
        if process.returncode == 0:
            break  # finished in spite of the kills
    process = start(work, folder)
    printed, errors = process.communicate()
    if printed != "end\n" or process.returncode:
        raise RuntimeError(
            f"The work '{work}' could not be resumed: {errors[-2000:]}"
        )
    return done


def bytes_of(folder):
    """Returns a dict of file name to bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    kills = 2 if chosen.quick else KILLS
    dice = random.Random(0)
    result = {"kills": {}, "identical_caches": True, "weight_difference": 0.0}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for work in ("cache", "fit"):
            reference = root / work
            length = uninterrupted(work, reference)
            total, trial = 0, 0
            while total < kills:
                folder = root / f"{work}-{trial}"
                total += killed(work, folder, length, kills - total, dice)
                trial += 1
                if work == "cache":
                    result["identical_caches"] &= bytes_of(
                        folder / "cache"
                    ) == bytes_of(reference / "cache")
                    continue
                one, other = (
                    np.load(path / "weights.npz")
                    for path in (reference, folder)
                )
                gap = max(
                    float(np.abs(one[name] - other[name]).max())
                    for name in one.files
                )
                result["weight_difference"] = max(
                    result["weight_difference"], gap
                )
            result["kills"][work] = total
            result[f"{work}_runs"] = trial
    show(result, chosen.json)


if __name__ == "__main__":
    main()

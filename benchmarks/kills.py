"""Kills caching and training at random moments, and compares the ends.

    python -m benchmarks.kills --json [--quick]

Every run is a process of its own. A killed one is started again, and killed
again, until it gets through; then its cache must have the same bytes, and its
student the same weights, as those of a run that was never killed.
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

what, folder = sys.argv[1], Path(sys.argv[2])
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
if what == "cache":
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


def start(what, folder):
    """Starts the work and waits until the imports are over."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, what, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if process.stdout.readline() != "begin\n":
        raise RuntimeError(f"The work '{what}' did not begin.")
    return process


def whole(what, folder):
    """Runs the work to its end; returns its seconds."""
    folder.mkdir()
    process = start(what, folder)
    began = time.perf_counter()
    rest = process.communicate()[0]
    if process.returncode or rest != "end\n":
        raise RuntimeError(f"The work '{what}' failed.")
    return time.perf_counter() - began


def killed(what, folder, length, kills, dice):
    """Kills the work `kills` times at random moments, then lets it end."""
    folder.mkdir()
    done = 0
    while done < kills:
        process = start(what, folder)
        try:
            process.wait(dice.uniform(0, 1.2 * length / 3))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            done += 1
        process.communicate()
        if process.returncode == 0:
            break  # through, in spite of the kills
    process = start(what, folder)
    printed, errors = process.communicate()
    if printed != "end\n" or process.returncode:
        raise RuntimeError(
            f"The work '{what}' could not be resumed: {errors[-2000:]}"
        )
    return done


def bytes_of(folder):
    """Dict of file name to bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    wanted = 2 if chosen.quick else KILLS
    dice = random.Random(0)
    result = {"kills": {}, "identical_caches": True, "weight_difference": 0.0}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for what in ("cache", "fit"):
            reference = root / what
            length = whole(what, reference)
            total, trial = 0, 0
            while total < wanted:
                folder = root / f"{what}-{trial}"
                total += killed(what, folder, length, wanted - total, dice)
                trial += 1
                if what == "cache":
                    result["identical_caches"] &= bytes_of(
                        folder / "cache"
                    ) == bytes_of(reference / "cache")
                    continue
                one, other = (
                    np.load(place / "weights.npz")
                    for place in (reference, folder)
                )
                gap = max(
                    float(np.abs(one[name] - other[name]).max())
                    for name in one.files
                )
                result["weight_difference"] = max(
                    result["weight_difference"], gap
                )
            result["kills"][what] = total
            result[f"{what}_runs"] = trial
    show(result, chosen.json)


if __name__ == "__main__":
    main()

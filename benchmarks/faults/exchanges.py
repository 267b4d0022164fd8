"""Bundles that are exchanged, truncated and rewritten while they are used.

    python -m benchmarks.faults.exchanges --json [--quick]

1,000 times a bundle is loaded and used in a child process, as a device (the
student, in old and new threads) or as a server (the teacher), while its files
are exchanged for another bundle's, in one step or in place, truncated,
overwritten or removed: during the load, or between the check of the hashes and
the use. Every prediction is compared with what the files of the manifest that
the process holds really answer. `unhashed_predictions`: predictions that are
not theirs. `exchange_crashes`: processes that died (SIGBUS), or did not answer
in time. A load or a prediction that is refused with an error is neither.
"""

import collections
import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import options, show
from keras_cascade.bundle.writing import exchange
from keras_cascade.runtime import SavedModelTeacher, StudentInterpreter

#: Rounds as a device and as a server, whose every load takes TensorFlow about
#: a second.
ROUNDS = {"device": 850, "server": 150}
QUICK = {"device": 60, "server": 10}
CLEAR = ("BundleError", "TeacherError", "ValueError")
CLASSES, FEATURES, EXAMPLES, ROWS = 5, 12, 400, 8
#: Seconds that a load may take, as far as a mutation may come during it.
LOAD_SECONDS = {"device": 0.02, "server": 0.5}
PATIENCE = 120.0
SAME = 1e-5
STUDENT = "student.tflite"


def exported(folder, seed):
    """Exports a cascade of random models; returns its folder and its inputs."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype("float32")

    def model(units):
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(units, activation="tanh"),
                keras.layers.Dense(CLASSES),
            ]
        )

    cascade = kc.Cascade(model(64), model(16))
    cascade.compile()
    labels = rng.integers(0, CLASSES, EXAMPLES)
    cascade.calibrate((x, labels), kc.MaxDelegationRate(0.4))
    cascade.export(folder)
    return folder, x[:ROWS]


def truth(bundle, x):
    """Returns a bundle's seal, and the answers of its two models."""
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    name = manifest["input"][0]["name"]
    student = StudentInterpreter(bundle / STUDENT).run({name: x})
    teacher = SavedModelTeacher(bundle / "teacher" / "1").logits({name: x})
    return manifest["sha256"], {
        "device": student["probabilities"],
        "server": teacher,
    }


class User:
    """Child process that uses bundles; replaced when it has died.

    Args:
        kind: `"device"` or `"server"`.
        rows: path of a .npy file.
    """

    def __init__(self, kind, rows):
        self._command = [
            sys.executable, "-m", "benchmarks.faults.bundle_user", kind,
            str(rows),
        ]  # fmt: skip
        self._process = None

    def say(self, line):
        """Writes a line to the child."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if self._line() != b"ready\n":
                raise RuntimeError("The child process does not start.")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())
            self._process.stdin.flush()

    def hear(self):
        """Returns the child's answer; `{"crash": ...}` if it has died."""
        line = self._line()
        if line.endswith(b"\n"):
            return json.loads(line)
        return {"crash": self.close()}

    def close(self):
        """Ends the child; returns how it ended."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            status = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = "no answer"
        process.stdout.close()
        if isinstance(status, int) and status < 0:
            return signal.Signals(-status).name
        return str(status)

    def _line(self):
        stream = self._process.stdout
        ready, _, _ = select.select([stream], [], [], PATIENCE)
        return stream.readline() if ready else b""


def in_place(file, content):
    """Overwrites a file without replacing it."""
    with open(file, "r+b") as stream:
        stream.write(content)
        stream.truncate()


def replaced(file, content):
    """Replaces a file in one step."""
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(content)
    os.replace(part, file)


def mutations(rng, path, other, spare):
    """Returns a dict of name to function that changes the bundle at `path`.

    Args:
        rng: `random.Random`.
        path: `Path` of the bundle.
        other: `Path` of another valid bundle.
        spare: `Path` of a copy of `other`, to be exchanged.
    """
    names = [
        file.relative_to(other).as_posix()
        for file in other.rglob("*")
        if file.is_file()
    ]
    teacher = [name for name in names if name.startswith("teacher/")]
    one = rng.choice([STUDENT] * 4 + names)
    raw = (path / one).read_bytes()

    def each(some, write):
        for name in some:
            write(path / name, (other / name).read_bytes())

    return {
        "exchange": lambda: exchange(spare, path),
        "exchange of the teacher": lambda: exchange(
            spare / "teacher", path / "teacher"
        ),
        "student replaced": lambda: each([STUDENT], replaced),
        "student rewritten": lambda: each([STUDENT], in_place),
        "teacher rewritten": lambda: each(teacher, in_place),
        "all rewritten": lambda: each(names, in_place),
        "truncated": lambda: os.truncate(
            path / one, rng.choice((0, 1, 16, rng.randrange(len(raw))))
        ),
        "noise": lambda: in_place(path / one, rng.randbytes(len(raw))),
        "removed": lambda: shutil.rmtree(path),
    }


def one_round(rng, user, kind, root, bundles):
    """Uses a bundle while it is changed.

    Returns:
        `(change, what the child answered)`.
    """
    first, other = rng.sample(bundles, 2)
    path, spare = root / "bundle", root / "spare"
    for folder, source in ((path, first), (spare, other)):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
    every = mutations(rng, path, other, spare)
    name = rng.choice(list(every))
    moment = rng.choice(("while it is loaded", "after the check"))
    user.say(path)
    if moment == "while it is loaded":
        time.sleep(rng.uniform(0, LOAD_SECONDS["device"]))
        every[name]()
    loaded = user.hear()
    if "crash" in loaded:
        return f"{name} {moment}", loaded
    user.say("go")
    if moment == "after the check" and kind == "device":
        every[name]()
    elif moment == "after the check":
        time.sleep(rng.choice((0, rng.uniform(0, LOAD_SECONDS[kind]))))
        every[name]()
    return f"{name} {moment}", user.hear()


class Tally:
    """Counts of what the children answered.

    Args:
        truths: dict of a manifest's seal to the answers of its models.
    """

    def __init__(self, truths):
        self._truths = truths
        self.counts = collections.Counter()
        self.unhashed, self.crashes = collections.Counter(), []
        self.unclear = set()

    def add(self, kind, change, answer):
        """Counts one round."""
        self.counts["rounds"] += 1
        if "crash" in answer:
            self.crashes.append(f"{kind}: {change}: {answer['crash']}")
            return
        for values, error in answer["outcomes"]:
            if error is not None:
                self.counts["refused"] += 1
                if error.partition(":")[0] not in CLEAR:
                    self.unclear.add(error)
                continue
            self.counts["predictions"] += 1
            expected = self._truths[answer["seal"]][kind]
            if not np.allclose(values, expected, atol=SAME):
                self.unhashed[f"{kind}: {change}"] += 1


def measure(quick=False):
    """Runs the benchmark; returns its counts as a dict."""
    rng, plan = random.Random(0), QUICK if quick else ROUNDS
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        made = [exported(root / name, n) for n, name in enumerate("ab")]
        bundles, x = [bundle for bundle, _ in made], made[0][1]
        np.save(root / "rows.npy", x)
        tally = Tally(dict(truth(bundle, x) for bundle in bundles))
        for kind, rounds in plan.items():
            user = User(kind, root / "rows.npy")
            with contextlib.closing(user):
                for _ in range(rounds):
                    tally.add(kind, *one_round(rng, user, kind, root, bundles))
    return {
        "exchanges": tally.counts["rounds"],
        "unhashed_predictions": tally.unhashed.total(),
        "exchange_crashes": len(tally.crashes),
        "exchange_predictions": tally.counts["predictions"],
        "exchange_refusals": tally.counts["refused"],
        "exchange_unclear_errors": sorted(tally.unclear)[:10],
        "unhashed_after": dict(tally.unhashed),
        "crashed_after": dict(collections.Counter(tally.crashes)),
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    show(measure(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()

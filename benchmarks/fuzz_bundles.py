"""Opens bundles that were tampered with, as a device would.

    python -m benchmarks.fuzz_bundles --json [--quick]

2,000 copies of a reference bundle, each valid before something was done to
it, in three classes:

- *files*: what lies in the folder was changed (bytes, lengths, links, pipes,
  folders, more or fewer files); the manifest was not.
- *manifest*: what the manifest says was changed, its files were not.
- *rewritten*: either was changed, and every hash was made to fit again. A
  manifest is not signed, so whoever does that is believed; nothing may
  crash all the same.

Each is loaded and asked for one row, in a child process. Counted:
`accepted_altered`, opened although, by comparing every byte and the parsed
manifest, something is not what it was, or with other answers (not in
*rewritten*; a copy without the teacher as a whole is a device's copy);
`refused_unaltered`, the opposite, in *files*; `unclear_errors`, of another
kind than `BundleError`, `TeacherError` or a plain `ValueError`; `crashes`,
children that died or did not answer in time.
"""

import collections
import contextlib
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bundle_mutations import (
    spoil_a_file,
    spoil_and_rewrite,
    spoil_the_manifest,
)
from benchmarks.harness import options, show
from keras_cascade.bundle.manifest import MANIFEST, SEAL

BUNDLES, QUICK = 2_000, 200
CLEAR = ("BundleError", "TeacherError", "ValueError")
PATIENCE = 60.0  # seconds for one bundle
SAVED_MODELS = Path(__file__).parents[1] / "saved_models"


class Reader:
    """A child process that opens bundles; another when it has crashed."""

    def __init__(self):
        self._process = None

    def __call__(self, path):
        """What the child says of a bundle, or `{"crash": ...}`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.bundle_reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{path}\n".encode())
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else b""
        if line.endswith(b"\n"):
            return json.loads(line)
        if not ready:
            self._process.kill()
        status = self.close()
        return {"crash": f"status {status}" if ready else "no answer"}

    def close(self):
        """Ends the child; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()
        return process.returncode


def content(folder):
    """What a folder holds: path to bytes, links and others by their kind."""
    found = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            found[name] = "a link"
        elif file.is_file():
            found[name] = file.read_bytes()
        elif not file.is_dir():
            found[name] = "something else"
    return found


def meaning(raw):
    """What a manifest says, but for its own hash; `None` where nothing."""
    try:
        parsed = json.loads(raw)
        return {key: parsed[key] for key in parsed if key != SEAL}
    except (ValueError, TypeError, RecursionError):
        return None


def is_unaltered(folder, original):
    """Whether a copy is still what it was, or that without its teacher."""
    found = content(folder)
    if isinstance(found.get(MANIFEST), bytes):
        same = meaning(found.pop(MANIFEST)) == meaning(original[MANIFEST])
    else:
        same = False
    rest = {name: raw for name, raw in original.items() if name != MANIFEST}
    alone = {n: raw for n, raw in rest.items() if not n.startswith("teacher/")}
    return same and found in (rest, alone)


def linked_copy(source, target):
    """Copies a folder; its files are the same ones, not to be written to."""
    shutil.copytree(source, target, copy_function=os.link)


@contextlib.contextmanager
def deep():
    """In the block, JSON is written that others cannot read."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def fuzz_bundles(quick=False):
    """Counts of everything, as a dict."""
    bundles = QUICK if quick else BUNDLES
    dice, reader = random.Random(0), Reader()
    found = collections.Counter()
    by_class = collections.defaultdict(collections.Counter)
    remarkable = []
    with tempfile.TemporaryDirectory() as temporary, contextlib.closing(reader):
        root = Path(temporary)
        good, other = root / "good", root / "other"
        shutil.copytree(SAVED_MODELS / "fashion_mnist", good)
        shutil.copytree(SAVED_MODELS / "fashion_mnist_float32", other)
        original, expected = content(good), reader(good)
        if "answers" not in expected:
            raise RuntimeError(f"The bundle itself is refused: {expected}.")
        kinds = {
            "files": lambda copy: spoil_a_file(copy, dice, other),
            "manifest": lambda copy: spoil_the_manifest(copy, dice),
            "rewritten": lambda copy: spoil_and_rewrite(copy, dice, other),
        }
        for number in range(bundles):
            kind = list(kinds)[number % len(kinds)]
            copy = root / f"copy-{number}"
            linked_copy(good, copy)
            with deep():
                done = kinds[kind](copy)
                said = reader(copy)
                results = verdict(kind, said, expected, copy, original)
            found[results] += 1
            by_class[kind][said.get("error") or next(iter(said))] += 1
            if results not in ("refused", "accepted"):
                remarkable.append(
                    {"number": number, "class": kind, "done": done,
                     "verdict": results, "said": str(said)[:300]}
                )  # fmt: skip
            shutil.rmtree(copy)
        if content(good) != original:
            raise RuntimeError("A mutation wrote into the shared files.")
    return {
        "fuzzed_bundles": bundles,
        "crashes": found["crashes"],
        "accepted_altered": found["accepted_altered"],
        "refused_unaltered": found["refused_unaltered"],
        "unclear_errors": found["unclear_errors"],
        "refused": found["refused"],
        "accepted": found["accepted"],
        "outcomes": {kind: dict(counts) for kind, counts in by_class.items()},
        "remarkable": remarkable[:20],
    }


def verdict(kind, said, expected, copy, original):
    """What an outcome counts as."""
    if "crash" in said:
        return "crashes"
    if "error" in said and said["error"] not in CLEAR:
        return "unclear_errors"
    if kind == "rewritten":
        return "refused" if "error" in said else "accepted"
    unaltered = is_unaltered(copy, original)
    if "error" in said:
        # A manifest may say the same in a form that is not taken.
        wrongly = unaltered and kind == "files"
        return "refused_unaltered" if wrongly else "refused"
    same = unaltered and said == expected
    return "accepted" if same else "accepted_altered"


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    show(fuzz_bundles(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()

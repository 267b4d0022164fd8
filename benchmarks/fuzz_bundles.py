"""Opens bundles that were tampered with, as a device would.

    python -m benchmarks.fuzz_bundles --json [--quick]

2,000 mutated copies of a valid reference bundle, in three classes:

- *files*: the folder was changed (bytes, lengths, links, pipes,
  folders, more or fewer files); the manifest was not.
- *manifest*: the manifest was changed, its files were not.
- *rewritten*: either was changed, and every hash was made to fit again. A
  manifest is not signed, so such a bundle may be accepted; nothing may crash
  all the same.

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
    mutate_and_rewrite,
    mutate_file,
    mutate_manifest,
)
from benchmarks.harness import options, show
from keras_cascade.bundle.manifest import MANIFEST, SEAL

BUNDLES, QUICK = 2_000, 200
CLEAR = ("BundleError", "TeacherError", "ValueError")
PATIENCE = 60.0  # seconds for one bundle
SAVED_MODELS = Path(__file__).parents[1] / "saved_models"


class Reader:
    """Child process that opens bundles; replaced when it has crashed."""

    def __init__(self):
        self._process = None

    def __call__(self, path):
        """Returns the child's outcome of a bundle, or `{"crash": ...}`."""
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
        """Ends the child; returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()
        return process.returncode


def content(folder):
    """Returns a dict of path to bytes; of links and others, to their kind."""
    files = {}
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if file.is_symlink():
            files[name] = "a link"
        elif file.is_file():
            files[name] = file.read_bytes()
        elif not file.is_dir():
            files[name] = "something else"
    return files


def meaning(raw):
    """Parses a manifest, without its own hash; `None` if it is no JSON."""
    try:
        parsed = json.loads(raw)
        return {key: parsed[key] for key in parsed if key != SEAL}
    except (ValueError, TypeError, RecursionError):
        return None


def is_unaltered(folder, original):
    """Returns `True` for an unchanged copy, with or without its teacher."""
    files = content(folder)
    if isinstance(files.get(MANIFEST), bytes):
        same = meaning(files.pop(MANIFEST)) == meaning(original[MANIFEST])
    else:
        same = False
    rest = {name: raw for name, raw in original.items() if name != MANIFEST}
    alone = {n: raw for n, raw in rest.items() if not n.startswith("teacher/")}
    return same and files in (rest, alone)


def linked_copy(source, target):
    """Copies a folder with hard links; its files must not be written to."""
    shutil.copytree(source, target, copy_function=os.link)


@contextlib.contextmanager
def deep():
    """Raises the recursion limit, so that deeply nested JSON is written."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def fuzz_bundles(quick=False):
    """Runs the benchmark; returns its counts as a dict."""
    bundles = QUICK if quick else BUNDLES
    rng, reader = random.Random(0), Reader()
    totals = collections.Counter()
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
            "files": lambda copy: mutate_file(copy, rng, other),
            "manifest": lambda copy: mutate_manifest(copy, rng),
            "rewritten": lambda copy: mutate_and_rewrite(copy, rng, other),
        }
        for number in range(bundles):
            kind = list(kinds)[number % len(kinds)]
            copy = root / f"copy-{number}"
            linked_copy(good, copy)
            with deep():
                done = kinds[kind](copy)
                said = reader(copy)
                results = verdict(kind, said, expected, copy, original)
            totals[results] += 1
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
        "crashes": totals["crashes"],
        "accepted_altered": totals["accepted_altered"],
        "refused_unaltered": totals["refused_unaltered"],
        "unclear_errors": totals["unclear_errors"],
        "refused": totals["refused"],
        "accepted": totals["accepted"],
        "outcomes": {kind: dict(counts) for kind, counts in by_class.items()},
        "remarkable": remarkable[:20],
    }


def verdict(kind, said, expected, copy, original):
    """Classifies an outcome."""
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

"""Tampered bundles, and how `benchmarks.fuzz_bundles` judges them."""

import json
import random
import shutil

import pytest

from benchmarks.bundle_mutations import (
    mutate_and_rewrite,
    mutate_file,
    mutate_manifest,
)
from benchmarks.fuzz_bundles import (
    SAVED_MODELS,
    Reader,
    content,
    fuzz_bundles,
    is_unaltered,
    linked_copy,
    verdict,
)


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(SAVED_MODELS / "fashion_mnist", tmp_path / "bundle")
    return tmp_path / "bundle"


def test_nothing_altered_is_accepted():
    found = fuzz_bundles(quick=True)
    assert found["fuzzed_bundles"] == 200
    for wrong in (
        "crashes", "accepted_altered", "refused_unaltered", "unclear_errors",
    ):  # fmt: skip
        assert found[wrong] == 0, found["remarkable"]
    assert found["refused"] + found["accepted"] == 200
    assert found["refused"] > 100


def test_what_counts_as_unaltered(copied):
    original = content(copied)
    assert is_unaltered(copied, original)
    (copied / "empty").mkdir()
    manifest = copied / "manifest.json"
    parsed = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(parsed, sort_keys=True))
    assert is_unaltered(copied, original)
    shutil.rmtree(copied / "teacher")
    assert is_unaltered(copied, original)
    parsed["classes"][0] = "shirt"
    manifest.write_text(json.dumps(parsed))
    assert not is_unaltered(copied, original)
    manifest.write_bytes(original["manifest.json"])
    (copied / "README.md").write_bytes(original["README.md"] + b" ")
    assert not is_unaltered(copied, original)


def test_verdicts(copied):
    original, good = content(copied), {"answers": 1}
    (copied / "extra").write_text("x")

    def results(kind, said):
        return verdict(kind, said, good, copied, original)

    assert results("files", {"crash": "status -11"}) == "crashes"
    assert results("rewritten", {"error": "KeyError"}) == "unclear_errors"
    assert results("files", {"error": "BundleError"}) == "refused"
    assert results("files", good) == "accepted_altered"
    assert results("manifest", good) == "accepted_altered"
    assert results("rewritten", good) == "accepted"
    (copied / "extra").unlink()
    assert results("files", good) == "accepted"
    assert results("files", {"error": "BundleError"}) == "refused_unaltered"
    assert results("files", {"answers": 2}) == "accepted_altered"


@pytest.mark.parametrize("kind", ["files", "manifest", "rewritten"])
def test_mutations_repeat_and_leave_the_shared_files(copied, tmp_path, kind):
    original, found = content(copied), []
    for _ in range(2):
        dice, contents = random.Random(7), []
        for number in range(25):
            copy = tmp_path / f"copy-{number}"
            linked_copy(copied, copy)
            done = {
                "files": lambda c=copy, d=dice: mutate_file(c, d, copied),
                "manifest": lambda c=copy, d=dice: mutate_manifest(c, d),
                "rewritten": lambda c=copy, d=dice: mutate_and_rewrite(
                    c, d, copied
                ),
            }[kind]()
            contents.append((done, content(copy)))
            shutil.rmtree(copy)
        found.append(contents)
    assert found[0] == found[1]
    assert content(copied) == original
    assert any(one != original for _, one in found[0])


def test_a_child_that_dies_is_noticed(copied):
    reader = Reader()
    assert "answers" in reader(copied)
    reader._process.kill()
    reader._process.wait()
    assert reader(copied) == {"crash": "status -9"}
    assert "answers" in reader(copied)
    assert reader.close() == 0

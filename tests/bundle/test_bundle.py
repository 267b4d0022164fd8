"""Bundles, manifests and the writing of folders."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.bundle import Bundle, BundleError, new_folder, writing
from keras_cascade.bundle.manifest import (
    check_manifest,
    seal,
    write_manifest,
)
from keras_cascade.bundle.writing import exchange


@pytest.fixture
def copied(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def manifest(bundle_path):
    return json.loads((bundle_path / "manifest.json").read_text())


def change(folder, edit, sealed=True):
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    edit(manifest)
    if sealed:
        manifest["sha256"] = seal(manifest)
    file.write_text(json.dumps(manifest))


def test_a_good_bundle(bundle_path):
    bundle = Bundle.load(bundle_path)
    assert bundle.classes == ["a", "b", "c", "d"]
    assert bundle.student_file.is_file()
    assert (bundle.teacher_folder / "saved_model.pb").is_file()
    assert bundle.operating_point()["name"] == "default"
    with pytest.raises(BundleError, match="out of \\['default'\\]"):
        bundle.operating_point("night")


def test_a_devices_copy_may_lack_the_teacher(copied, tmp_path):
    shutil.rmtree(copied / "teacher")
    bundle = Bundle.load(copied)
    assert bundle.teacher_folder is None
    assert bundle.student_file.is_file()
    # Not a way past the other checks.
    (copied / "teacher" / "1").mkdir(parents=True)
    assert Bundle.load(copied).teacher_folder is None
    (copied / "teacher" / "1" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(BundleError, match=r"was altered|lacks"):
        Bundle.load(copied)
    shutil.rmtree(copied / "teacher")
    (tmp_path / "1").mkdir()
    (copied / "teacher").symlink_to(tmp_path)
    with pytest.raises(BundleError, match="without links"):
        Bundle.load(copied)
    (copied / "teacher").unlink()
    change(copied, lambda m: m["teacher"].update(path="../elsewhere"))
    with pytest.raises(BundleError, match="inside the bundle"):
        Bundle.load(copied)


def test_it_can_be_moved(copied):
    assert Bundle.load(copied).path == copied


@pytest.mark.parametrize(
    "name", ["student.tflite", "teacher/1/saved_model.pb", "manifest.json"]
)
def test_a_missing_file(copied, name):
    (copied / name).unlink()
    with pytest.raises(BundleError, match=r"lacks|readable manifest"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    "name", ["student.tflite", "teacher/1/saved_model.pb", "README.md"]
)
def test_an_altered_file(copied, name):
    raw = bytearray((copied / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copied / name).write_bytes(raw)
    with pytest.raises(BundleError, match="was altered"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    "name", ["teacher/1/assets.extra", "evil.sh", "teacher/2/saved_model.pb"]
)
def test_an_added_file(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_text("x")
    with pytest.raises(BundleError, match="does not list"):
        Bundle.load(copied)


def test_a_linked_file(copied, tmp_path):
    file = copied / "student.tflite"
    file.rename(tmp_path / "elsewhere.tflite")
    file.symlink_to(tmp_path / "elsewhere.tflite")
    with pytest.raises(BundleError, match="without links"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    "path", ["../student.tflite", "/etc/passwd", "a/../../b", "a\\..\\b"]
)
def test_a_path_that_leads_out(copied, path):
    change(copied, lambda m: m["student"].update(file=path))
    with pytest.raises(BundleError, match="inside the bundle"):
        Bundle.load(copied)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(version=3), "reads versions 1 and 2"),
        (lambda m: m.update(version=2), "1 was expected"),
        (lambda m: m.update(format="other"), "format"),
        (lambda m: m.pop("student"), "'student' is a required property"),
        (lambda m: m["student"].update(sha256="abc"), "sha256"),
        (lambda m: m.update(classes=["one"]), "classes"),
        (lambda m: m["operating_points"].clear(), "operating_points"),
        (
            lambda m: m["operating_points"][0].update(delegation_rate=1.5),
            "delegation_rate",
        ),
    ],
)
def test_a_manifest_that_does_not_fit(copied, edit, message):
    change(copied, edit)
    with pytest.raises(BundleError, match=message):
        Bundle.load(copied)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "NaN", "[" * 100_000])
def test_a_manifest_that_is_not_one(copied, text):
    (copied / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.load(copied)


def test_not_a_number_is_not_json(copied):
    text = (copied / "manifest.json").read_text()
    threshold = json.loads(text)["operating_points"][0]["threshold"]
    (copied / "manifest.json").write_text(text.replace(str(threshold), "NaN"))
    with pytest.raises(BundleError, match="NaN is not a JSON number"):
        Bundle.load(copied)


def test_an_altered_manifest(copied):
    """Layout may change, values may not."""
    change(copied, lambda m: None, sealed=False)
    assert Bundle.load(copied).classes[0] == "a"
    change(copied, lambda m: m["classes"].reverse(), sealed=False)
    with pytest.raises(BundleError, match="altered since it was written"):
        Bundle.load(copied)
    change(copied, lambda m: m.pop("sha256"), sealed=False)
    assert Bundle.load(copied).classes[0] == "d"


def test_the_seal_is_of_sorted_json_without_spaces():
    text = b'{"a":[1.5,"\\u00e9"],"b":null}'
    expected = hashlib.sha256(text).hexdigest()
    assert seal({"b": None, "a": [1.5, "\u00e9"]}) == expected
    assert seal({"sha256": "x", "b": None, "a": [1.5, "\u00e9"]}) == expected


def test_a_key_that_stands_there_twice(copied):
    file = copied / "manifest.json"
    file.write_text(file.read_text().replace("{", '{"version": 1,', 1))
    with pytest.raises(BundleError, match="'version' stands there twice"):
        Bundle.load(copied)


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1" + "0" * 400, "9" * 17])
def test_numbers_that_others_read_as_something_else(copied, text):
    change(copied, lambda m: m.update(costs={**m["costs"], "extra": "HERE"}))
    file = copied / "manifest.json"
    file.write_text(file.read_text().replace('"HERE"', text))
    with pytest.raises(BundleError, match="not a JSON number that can be read"):
        Bundle.load(copied)


@pytest.mark.parametrize("depth", range(200, 1000, 50))
def test_a_manifest_that_is_nested_deeply(copied, depth):
    file = copied / "manifest.json"
    deep = "[" * depth + "]" * depth
    file.write_text(file.read_text().replace("{", f'{{"extra": {deep},', 1))
    with pytest.raises(BundleError):
        Bundle.load(copied)


def test_a_manifest_elsewhere(copied, tmp_path):
    (copied / "manifest.json").rename(tmp_path / "manifest.json")
    (copied / "manifest.json").symlink_to(tmp_path / "manifest.json")
    with pytest.raises(BundleError, match="without links"):
        Bundle.load(copied)


@pytest.mark.parametrize("name", ["manifest.json", "student.tflite"])
def test_a_pipe_is_not_waited_for(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(BundleError, match=r"lacks|readable manifest"):
        Bundle.load(copied)


def test_a_manifest_without_end(copied, monkeypatch):
    monkeypatch.setattr("keras_cascade.bundle.manifest.MAX_BYTES", 100)
    with pytest.raises(BundleError, match="at most 100 bytes"):
        Bundle.load(copied)


def test_no_bundle_at_all(tmp_path):
    with pytest.raises(BundleError, match="There is none at"):
        Bundle.load(tmp_path / "nothing")
    with pytest.raises(BundleError, match="Is this the folder that"):
        Bundle.load(tmp_path)


# Values that no key of the manifest may have.
junk = st.one_of(
    st.just({"unknown": 1}), st.just([None]), st.just(-1), st.just("")
)


def paths_in(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, key)
            yield from paths_in(inner, (*path, key))


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_a_mutated_manifest_is_refused_or_still_fits(manifest, data):
    mutated = copy.deepcopy(manifest)
    path = data.draw(st.sampled_from(sorted(paths_in(manifest), key=repr)))
    target = mutated
    for key in path[:-1]:
        target = target[key]
    if data.draw(st.booleans()):
        del target[path[-1]]
    else:
        target[path[-1]] = data.draw(junk)
    try:
        check_manifest(mutated)
    except BundleError as error:
        assert "manifest" in str(error)
        return
    # What is accepted still has everything that the runtime reads.
    assert isinstance(mutated["student"]["file"], str)
    assert len(mutated["student"]["sha256"]) == 64
    assert len(mutated["classes"]) >= 2
    assert mutated["input"]
    assert mutated["operating_points"]


def test_a_written_manifest_reads_back(manifest, tmp_path):
    write_manifest(manifest, tmp_path / "manifest.json")
    assert json.loads((tmp_path / "manifest.json").read_text()) == manifest
    with pytest.raises(BundleError):
        write_manifest({**manifest, "version": 0}, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_thresholds_are_written_exactly(manifest):
    threshold = manifest["operating_points"][0]["threshold"]
    assert json.loads(json.dumps(threshold)) == threshold
    assert manifest["gate"]["config"]["threshold"] == threshold


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "bundle"
    with pytest.raises(RuntimeError), new_folder(target) as work:
        (work / "half").write_text("x")
        raise RuntimeError
    assert list((tmp_path / "deep").iterdir()) == []
    with new_folder(target) as work:
        (work / "whole").write_text("first")
        assert not target.exists()
    assert [p.name for p in target.iterdir()] == ["whole"]


def test_an_existing_bundle_is_kept_by_default(copied):
    before = sorted(p.name for p in copied.iterdir())
    with pytest.raises(BundleError, match="exists already"), new_folder(copied):
        pass
    with pytest.raises(RuntimeError), new_folder(copied, overwrite=True):
        raise RuntimeError
    assert sorted(p.name for p in copied.iterdir()) == before
    with new_folder(copied, overwrite=True) as work:
        (work / "new").write_text("x")
    assert [p.name for p in copied.iterdir()] == ["new"]
    assert [p.name for p in copied.parent.iterdir()] == ["copy"]


def bundle_like(folder, content):
    """A folder that may be replaced, with distinguishable content."""
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text('{"format": "keras_cascade.bundle"}')
    (folder / "content").write_text(content)


def content_of(folder):
    return (folder / "content").read_text()


def test_exchange_swaps_two_paths(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    bundle_like(one, "1")
    bundle_like(other, "2")
    assert exchange(one, other)
    assert (content_of(one), content_of(other)) == ("2", "1")
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "nothing")
    assert content_of(one) == "2"


# A process that is killed at any system call: the calls that change what a
# path names are stopped before and after each.
STEPS = ("rename", "exchange")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_while_replacing_leaves_the_old_or_the_new(
    tmp_path, step, moment
):
    bundle_like(tmp_path / "b", "old")
    code = f"""
import os, pathlib, signal
from keras_cascade.bundle import new_folder, writing

def dying(function):
    def run(*args):
        if {moment!r} == "after":
            function(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    return run

writing.exchange = dying(writing.exchange)
pathlib.Path.rename = dying(pathlib.Path.rename)
path = pathlib.Path({str(tmp_path / "b")!r})
if {step!r} == "rename":
    path = path.with_name("c")  # nothing is there yet
with new_folder(path, overwrite=True) as work:
    (work / "manifest.json").write_text('{{"format": "keras_cascade.bundle"}}')
    (work / "content").write_text("new")
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -9
    new = moment == "after"
    if step == "exchange":
        assert content_of(tmp_path / "b") == ("new" if new else "old")
    else:
        assert (tmp_path / "c").exists() == new
        assert content_of(tmp_path / "b") == "old"


def test_a_system_without_exchange(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "exchange", lambda *_: False)
    target = tmp_path / "b"
    bundle_like(target, "old")
    with new_folder(target, overwrite=True) as work:
        bundle_like(work, "new")
    assert content_of(target) == "new"
    assert list(tmp_path.iterdir()) == [target]
    # Killed between its two renames, before and after the second.
    target.rename(tmp_path / ".b.replaced")
    with pytest.raises(BundleError, match="exists already"), new_folder(target):
        pass
    assert content_of(target) == "new"
    bundle_like(tmp_path / ".b.replaced", "old")
    with pytest.raises(BundleError, match="exists already"), new_folder(target):
        pass
    assert list(tmp_path.iterdir()) == [target]
    assert content_of(target) == "new"


def test_folders_of_killed_processes_are_removed(tmp_path):
    """Folders being written and the user's own stay."""
    target = tmp_path / "b"
    left, mine = tmp_path / ".b-12345678.unfinished", tmp_path / ".b-backup"
    for folder in (left, mine):
        bundle_like(folder, "x")
        os.utime(folder, (0, 0))
    fresh = tmp_path / ".b-87654321.unfinished"
    fresh.mkdir()
    with new_folder(target) as work:
        bundle_like(work, "1")
        assert not left.exists()
        os.utime(work, (0, 0))
        with new_folder(tmp_path / "b", overwrite=True) as other:
            bundle_like(other, "2")
        assert work.exists()
        shutil.rmtree(target)
    assert content_of(target) == "1"
    assert sorted(tmp_path.iterdir()) == sorted([fresh, mine, target])


@pytest.mark.parametrize("content", [None, "{}", "[]", "{"])
def test_other_folders_are_never_replaced(tmp_path, content):
    target = tmp_path / "mine"
    target.mkdir()
    (target / "thesis.txt").write_text("x")
    if content is not None:
        (target / "manifest.json").write_text(content)
    for path in (target, target / "thesis.txt"):
        with (
            pytest.raises(BundleError, match="is not a bundle"),
            new_folder(path, overwrite=True),
        ):
            pass
    assert (target / "thesis.txt").read_text() == "x"
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty", overwrite=True) as work:
        (work / "new").write_text("x")
    assert [p.name for p in (tmp_path / "empty").iterdir()] == ["new"]


def test_the_package_needs_neither_tensorflow_nor_keras():
    code = (
        "import keras_cascade.bundle, sys; "
        "print([m for m in ('keras', 'tensorflow') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        check=True,
    )
    assert found.stdout.strip() == "[]"

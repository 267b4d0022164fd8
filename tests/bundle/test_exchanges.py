"""Bundles that are exchanged or altered while they are in use."""

import hashlib
import json
import os
import shutil
import stat
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle import bundle as bundle_module
from keras_cascade.bundle.manifest import seal
from tests.helpers.bundle_exchange import replace_bundle


@pytest.fixture
def path(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return tmp_path / "bundle"


def content(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def another_card(manifest, folder):
    (folder / "README.md").write_text("another")
    manifest["card"]["sha256"] = hashlib.sha256(b"another").hexdigest()


def test_the_manifests_hash(path):
    raw = (path / "manifest.json").read_bytes()
    found = Bundle.load(path).manifest_sha256
    assert found == hashlib.sha256(raw).hexdigest()


def test_what_a_device_opens_later_is_kept(path):
    raw = (path / "student.tflite").read_bytes()
    bundle = Bundle.load(path)
    shutil.rmtree(path)
    assert bundle.read("student.tflite") == raw
    assert bundle.read("student.tflite") is bundle.read("student.tflite")


def test_other_files_are_hashed_when_they_are_read(path):
    raw = (path / "README.md").read_bytes()
    bundle = Bundle.load(path)
    assert bundle.read("README.md") == raw
    (path / "README.md").write_bytes(raw + b"\n")
    with pytest.raises(BundleError, match=r"'README\.md'.*was altered"):
        bundle.read("README.md")
    (path / "README.md").unlink()
    with pytest.raises(BundleError, match=r"lacks 'README\.md'"):
        bundle.read("README.md")
    os.mkfifo(path / "README.md")
    with pytest.raises(BundleError, match=r"lacks 'README\.md'"):
        bundle.read("README.md")


@pytest.mark.parametrize("name", ["manifest.json", "teacher", "../x", ""])
def test_only_listed_files_are_read(path, name):
    with pytest.raises(BundleError, match="file that the manifest of"):
        Bundle.load(path).read(name)


def test_a_file_that_is_listed_with_two_hashes(path):
    """Which of the two was checked could not be told."""
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["card"]["file"] = "student.tflite"
    (path / "README.md").unlink()
    manifest["sha256"] = seal(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"'student.tflite' twice"):
        Bundle.load(path)


# Every moment of a load at which another bundle may come: before each file
# that is opened.
@pytest.mark.parametrize("moment", range(1, 8))
def test_a_bundle_that_is_exchanged_while_it_is_loaded(
    path, monkeypatch, moment
):
    """It is seen whole: the one before or the one after."""
    opened = []

    def watched(name):
        function = getattr(bundle_module, name)

        def run(*args):
            opened.append(args)
            if len(opened) == moment:
                replace_bundle(path, another_card)
            return function(*args)

        monkeypatch.setattr(bundle_module, name, run)

    for name in ("manifest_content", "read_file", "hash_file"):
        watched(name)
    before = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    bundle = Bundle.load(path)
    assert len(opened) >= moment
    after = hashlib.sha256((path / "manifest.json").read_bytes()).hexdigest()
    assert before != after
    assert bundle.manifest_sha256 == after
    bundle.verify()


def test_a_bundle_that_is_exchanged_without_end(path, monkeypatch):
    read = bundle_module.manifest_content

    def exchanged(file):
        replace_bundle(path, another_card)
        raw = read(file)
        replace_bundle(path, lambda manifest, folder: manifest.update(name="x"))
        (path / "student.tflite").write_bytes(b"half")
        return raw

    monkeypatch.setattr(bundle_module, "manifest_content", exchanged)
    with pytest.raises(BundleError, match="was altered"):
        Bundle.load(path)


def test_a_copy_of_the_teacher(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    bundle = Bundle.load(path)
    expected = content(path / "teacher" / "1")
    with bundle.teacher_copy() as copy:
        assert content(copy) == expected
        assert copy.name == "1"
        (private,) = (tmp_path / "tmp").iterdir()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private in copy.parents
        # No link to the original: a write in place would go through it.
        shutil.rmtree(path / "teacher")
        assert content(copy) == expected
    assert not list((tmp_path / "tmp").iterdir())
    with (
        pytest.raises(BundleError, match="lacks 'teacher/1/"),
        bundle.teacher_copy(),
    ):
        pass
    assert not list((tmp_path / "tmp").iterdir())


def test_a_teacher_that_is_written_to_in_place(path):
    bundle = Bundle.load(path)
    file = path / "teacher" / "1" / "saved_model.pb"
    raw = file.read_bytes()
    with bundle.teacher_copy() as copy:
        file.write_bytes(b"another")
        assert (copy / "saved_model.pb").read_bytes() == raw
    with (
        pytest.raises(BundleError, match=r"saved_model.pb'.*was altered"),
        bundle.teacher_copy(),
    ):
        pass


def test_a_copy_without_the_teacher(path):
    shutil.rmtree(path / "teacher")
    bundle = Bundle.load(path)
    with pytest.raises(BundleError, match="no teacher"), bundle.teacher_copy():
        pass


def test_copies_of_killed_processes_are_removed(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    left = tmp_path / "tmp" / "keras-cascade-teacher-x.unfinished"
    (left / "1").mkdir(parents=True)
    os.utime(left, (0, 0))
    with Bundle.load(path).teacher_copy() as copy:
        assert not left.exists()
        os.utime(copy.parent, (0, 0))
        with Bundle.load(path).teacher_copy():
            assert copy.exists()  # it is in use


def cut(raw, at):
    return raw[: at % len(raw)]


def flipped(raw, at):
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["student.tflite", "README.md", "manifest.json"]),
            st.sampled_from([cut, flipped]),
            st.integers(min_value=0, max_value=100_000),
        ),
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_what_is_read_has_the_manifests_hash(bundle_path, changes):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bundle")
        shutil.copytree(bundle_path, path)
        bundle = Bundle.load(path)
        for name, change, at in changes:
            file = os.path.join(path, name)
            with open(file, "rb") as stream:
                raw = stream.read() or b"x"
            with open(file, "wb") as stream:  # in place
                stream.write(change(raw, at))
        for name in ("student.tflite", "README.md"):
            original = (bundle_path / name).read_bytes()
            try:
                assert bundle.read(name) == original
            except BundleError:
                assert name == "README.md"

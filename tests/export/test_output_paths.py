"""Paths of outputs: found wrong before the work, alike for every format."""

import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle, new_folder
from keras_cascade.runtime import EdgeCascade
from keras_cascade.utils.output_path import output_path


@pytest.fixture(scope="module")
def cascade():
    def model():
        return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])

    cascade = kc.Cascade(model(), model())
    cascade.compile()
    rng = np.random.default_rng(0)
    cascade.calibrate(
        (rng.random((48, 6), "float32"), np.arange(48) % 3),
        kc.MaxDelegationRate(0.5, tolerance=1.0),
    )
    return cascade


def test_links_are_followed_and_parents_created(tmp_path, monkeypatch):
    real = tmp_path / "disk" / "größe 1"
    link = tmp_path / "link"
    link.symlink_to(real)
    assert output_path(link) == real
    assert real.parent.is_dir() and not real.exists()
    monkeypatch.chdir(tmp_path / "disk")
    assert output_path(".") == tmp_path / "disk"
    assert output_path("a/b/c.tflite") == tmp_path / "disk/a/b/c.tflite"
    assert (tmp_path / "disk" / "a" / "b").is_dir()


def test_what_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"file/bundle'.*cannot be written"):
        output_path(tmp_path / "file" / "bundle")

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(OSError, match=r"Read-only file system.*Choose another"):
        output_path(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("bundle", "b"),
        ("litert", "s.tflite"),
        ("tf_saved_model", "m"),
        ("onnx", "s.onnx"),
    ],
)
def test_every_format_is_refused_before_the_work(
    cascade, tmp_path, monkeypatch, format, name
):
    (tmp_path / "file").write_text("x")

    def work(*_, **__):
        raise AssertionError("the export began")

    for module in (
        "bundle_export", "student_export", "fused_export", "onnx_export",
    ):  # fmt: skip
        monkeypatch.setattr(f"keras_cascade.export.{module}.ExportJob", work)
    with pytest.raises(OSError, match="cannot be written to"):
        cascade.export(tmp_path / "file" / name, format=format)


def test_a_file_in_a_new_folder(cascade, tmp_path):
    cascade.export(tmp_path / "a" / "b" / "s.tflite", format="litert")
    assert (tmp_path / "a" / "b" / "s.tflite").is_file()


def test_the_current_folder_and_a_link(cascade, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    bundle = cascade.export(".", overwrite=True)
    assert bundle.manifest["name"] == "here"
    assert Path.cwd() == here and Path("manifest.json").is_file()
    link = tmp_path / "current"
    link.symlink_to(here)
    cascade.export(link, overwrite=True)
    assert link.is_symlink() and Bundle.load(link).manifest["name"] == "here"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["current", "here"]


def test_a_new_folder_behind_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("x")
    assert (tmp_path / "real" / "a").is_file()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("format", "name"),
    [
        ("bundle", "bündle 日本"),
        ("litert", "schüler 日本.tflite"),
        ("tf_saved_model", "modell ü"),
        ("onnx", "schüler ü.onnx"),
    ],
)
def test_other_letters_a_new_parent_and_a_link(cascade, tmp_path, format, name):
    (tmp_path / "link").symlink_to(tmp_path / "größe 1")
    target = tmp_path / "link" / "neu" / name
    (tmp_path / "größe 1").mkdir()
    cascade.export(target, format=format)
    assert (tmp_path / "größe 1" / "neu" / name).exists()
    assert (tmp_path / "link").is_symlink()
    assert [one.name for one in target.parent.iterdir()] == [name]


def test_a_bundle_that_travels_as_a_zip(cascade, tmp_path):
    place = tmp_path / "my bündle 日本" / "v 1"
    cascade.export(place)
    shutil.make_archive(str(tmp_path / "z"), "zip", place)
    shutil.unpack_archive(str(tmp_path / "z.zip"), tmp_path / "unzipped")
    x = np.random.default_rng(1).random((8, 6), "float32")
    answers = []
    for path in (place, tmp_path / "unzipped"):
        with EdgeCascade.load(path, on_failure="answer") as edge:
            answers.append(edge.predict(x).probabilities)
    np.testing.assert_array_equal(*answers)

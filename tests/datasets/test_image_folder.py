"""`dir:` specs: what is a class, what is an image, and what is damaged."""

import numpy as np
import pytest
from PIL import Image

import keras_cascade as kc
from keras_cascade.datasets import image_folder
from keras_cascade.utils.image_format import ImageFormat

CLASSES = ("ant", "bee")


@pytest.fixture
def folder(tmp_path):
    """Two classes of eight distinct images of 10 x 12."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for number in range(8):
            write(tmp_path / "data" / name / f"{number}.png", rng)
    return tmp_path / "data"


def write(file, rng, size=(10, 12), mode="RGB"):
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(file)


def load(folder, **options):
    return kc.datasets.load(f"dir:{folder}", **options)


def all_rows(splits):
    parts = [splits.arrays(part) for part in splits.sizes]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir"]
)
def test_folders_of_tools_are_no_classes(folder, name):
    rng = np.random.default_rng(1)
    for inner in (folder / name, folder / "ant" / name):
        write(inner / "0.png", rng)
    splits = load(folder)
    assert splits.class_names == ["ant", "bee"]
    assert sum(splits.sizes.values()) == 16


def test_hidden_files_and_other_endings_are_left_out(folder):
    (folder / "ant" / "._0.png").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    (folder / "ant" / ".DS_Store").write_bytes(b"\0")
    (folder / "ant" / "notes.txt").write_text("not an image")
    (folder / "labels.csv").write_text("a,b")
    assert sum(load(folder).sizes.values()) == 16


def test_images_in_nested_folders_are_of_the_class(folder):
    write(folder / "ant" / "2024" / "may" / "x.PNG", np.random.default_rng(1))
    splits = load(folder)
    assert sum(splits.sizes.values()) == 17


def test_a_folder_too_deep_is_suggested(folder):
    with pytest.raises(ValueError, match=f"Did you mean 'dir:{folder}'"):
        load(folder.parent)


def test_an_empty_folder_is_named(folder):
    (folder / "cow").mkdir()
    with pytest.raises(ValueError, match=r"\['cow'\] hold no images"):
        load(folder)


def test_class_folders_that_are_numbers_keep_their_order(tmp_path):
    rng = np.random.default_rng(0)
    for name in range(11):
        for number in range(4):
            write(tmp_path / str(name) / f"{number}.png", rng)
    assert load(tmp_path).class_names == [str(name) for name in range(11)]


def test_a_test_folder_without_classes_is_no_test_split(folder):
    rng = np.random.default_rng(1)
    whole = folder.parent / "whole"
    whole.mkdir()
    folder.rename(whole / "train")
    for number in range(3):
        write(whole / "test" / f"{number}.png", rng)
    splits = load(whole)
    assert splits.class_names == ["ant", "bee"]
    assert sum(splits.sizes.values()) == 16
    # A validation folder with classes is one, and repeats leave training.
    for name in CLASSES:
        write(whole / "val" / name / "new.png", rng)
        copy = (whole / "train" / name / "0.png").read_bytes()
        (whole / "val" / name / "copy.png").write_bytes(copy)
    splits = load(whole)
    assert splits.sizes["test"] == 4
    assert splits.sizes["train"] + splits.sizes["calibration"] == 14
    assert "2 that the test split holds are left out" in splits.how


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_first_image_decides_nothing(folder, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(image_folder, "BYTES_IN_MEMORY", 0)
    rng = np.random.default_rng(1)
    write(folder / "ant" / "!first.png", rng, size=(300, 400), mode="L")
    splits = load(folder)
    assert splits.input_shape == (96, 96, 3)
    assert load(folder, image_size=(5, 7)).input_shape == (5, 7, 3)
    gray = load(folder, color="grayscale", image_size=(4, 4), scale="-1-1")
    assert gray.input_shape == (4, 4, 1)
    assert gray.scale == "-1-1"
    x, y = all_rows(gray)
    assert x.dtype == np.float32 and x.min() < 0
    expected = {
        ImageFormat(4, 4, 1, "-1-1").read(file).tobytes(): CLASSES.index(
            file.parent.name
        )
        for file in folder.glob("*/*.png")
    }
    assert {
        row.tobytes(): label for row, label in zip(x, y, strict=True)
    } == expected
    assert len({row.tobytes() for row, _ in gray.shuffled.as_numpy_iterator()})


def test_bytes_as_they_are(folder):
    x, _ = load(folder, scale="none").arrays("train")
    assert x.dtype == np.uint8 and x.max() > 1


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_are_all_named(folder, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(image_folder, "BYTES_IN_MEMORY", 0)
    (folder / "ant" / "3.png").write_bytes(b"")
    (folder / "bee" / "5.png").write_bytes(b"<html>404</html>")
    cut = folder / "bee" / "6.png"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"(2|3) of 16 files") as error:
        load(folder)
    assert "ant/3.png" in str(error.value) and "bee/5.png" in str(error.value)
    assert "`skip_damaged=True`" in str(error.value)
    with pytest.warns(UserWarning, match="left out 3 of 16 files"):
        splits = load(folder, skip_damaged=True)
    assert sum(splits.sizes.values()) == 13
    assert len(all_rows(splits)[1]) == 13


@pytest.mark.parametrize("in_memory", [True, False])
def test_copies_of_an_image_stay_in_one_split(folder, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr(image_folder, "BYTES_IN_MEMORY", 0)
    original = (folder / "ant" / "0.png").read_bytes()
    for number in range(5):
        (folder / "ant" / f"copy {number}.png").write_bytes(original)
    splits = load(folder)
    assert "5 repeated inputs are in the split" in splits.how
    parts = [
        {row.tobytes() for row in splits.arrays(part)[0]}
        for part in splits.sizes
    ]
    for one in range(3):
        assert not parts[one] & parts[one - 1]
    assert sum(map(len, parts)) == 16


@pytest.mark.parametrize("ending", ["HEIC", "avif", "dng", "jxl"])
def test_photos_of_other_formats_are_named(folder, ending):
    photo = folder / "ant" / f"IMG_1.{ending}"
    photo.write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(ValueError, match=rf"1 of 17.*IMG_1\.{ending}.*Convert"):
        load(folder)
    with pytest.warns(UserWarning, match="left out 1 of 17"):
        assert sum(load(folder, skip_damaged=True).sizes.values()) == 16


def test_the_preview_of_a_raw_file_is_not_taken_for_the_photo(folder):
    Image.new("RGB", (4, 4)).save(folder / "ant" / "x.nef", "TIFF")
    with pytest.raises(ValueError, match=r"x\.nef.*raw data of a camera"):
        load(folder)


def test_a_jpeg_with_the_ending_of_heic_is_read(folder):
    Image.new("RGB", (10, 12)).save(folder / "ant" / "x.heic", "JPEG")
    assert sum(load(folder).sizes.values()) == 17


@pytest.mark.parametrize("ending", ["PNG", "JPG", "jfif", "JPEG", "Gif"])
def test_endings_in_any_case(folder, ending):
    kind = {"PNG": "PNG", "Gif": "GIF"}.get(ending, "JPEG")
    Image.new("RGB", (10, 12)).save(folder / "ant" / f"x.{ending}", kind)
    assert sum(load(folder).sizes.values()) == 17


def test_what_windows_leaves_behind(folder):
    for file in (folder / "desktop.ini", folder / "ant" / "desktop.ini"):
        file.write_text("[.ShellClassInfo]")
    (folder / "ant" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    assert sum(load(folder).sizes.values()) == 16


def test_links(folder, tmp_path):
    """To a class elsewhere, to a file, and round in a circle."""
    rng = np.random.default_rng(2)
    for number in range(4):
        write(tmp_path / "elsewhere" / f"{number}.png", rng)
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    (folder / "ant" / "round").symlink_to(folder)
    splits = load(folder)
    assert splits.class_names == ["ant", "bee", "cat"]
    assert sum(splits.sizes.values()) == 20
    (folder / "bee" / "gone.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"1 of 21.*bee/gone\.png"):
        load(folder)


def test_of_an_animation_the_first_frame_is_read(folder):
    rng = np.random.default_rng(3)
    first, second = (
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype="uint8"))
        for _ in range(2)
    )
    images = ImageFormat(10, 12, scale="none")
    for ending in ("gif", "webp", "png", "tiff"):
        file = folder / f"a.{ending}"
        options = {"lossless": True} if ending == "webp" else {}
        first.save(file, save_all=True, append_images=[second], **options)
        with Image.open(file) as image:
            expected = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(images.read(file), expected)


def test_a_name_in_another_form_is_the_same_class(tmp_path):
    """macOS writes an accent as a character of its own."""
    rng = np.random.default_rng(4)
    for part, name in (("train", "cafe\u0301"), ("test", "caf\u00e9")):
        for other in (name, "tea"):
            for number in range(8):
                write(tmp_path / part / other / f"{number}.png", rng)
    assert load(tmp_path).class_names == ["caf\u00e9", "tea"]

"""A folder of photos of every kind, through every command."""

import json

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from keras_cascade.cli import saved_cascade
from keras_cascade.cli.cascade_data import splits_of
from keras_cascade.cli.prediction import predict_input
from keras_cascade.serving import ServerProcess
from keras_cascade.utils.image_format import ImageFormat
from tests.helpers.teacher_accuracies import check_equal, teacher_accuracies

SIZE = (24, 24)
MODES = ("RGB", "L", "P", "RGBA", "CMYK", "1")
ENDINGS = ("jpg", "png", "bmp", "gif", "webp", "tif")


def write_photos(root, count, seed=0, largest=80):
    """Bright and dark photos of mixed sizes, modes and orientations.

    Returns:
        List of paths, the damaged ones not among them.
    """
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        bright = number % 2
        shape = (*rng.integers(8, largest, 2), 3)
        low, high = (120, 256) if bright else (0, 150)
        pixels = rng.integers(low, high, shape).astype(np.uint8)
        ending = ENDINGS[number % len(ENDINGS)]
        mode = MODES[int(rng.integers(len(MODES)))]
        if ending in ("bmp", "gif", "webp") and mode in ("CMYK", "RGBA"):
            mode = "RGB"
        if ending == "jpg" and mode in ("P", "RGBA", "1"):
            mode = "L"
        if ending == "png" and mode == "CMYK":
            mode = "RGB"
        image = Image.fromarray(pixels).convert(mode)
        exif = image.getexif()
        exif[0x0112] = int(rng.integers(1, 9))
        file = root / ("dark", "bright")[bright] / f"{number}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        options = {"exif": exif} if ending in ("jpg", "png", "webp") else {}
        image.save(file, **options)
        files.append(file)
    return files


def damage(root, seed=0):
    """Adds what photo folders hold beside photos; returns the damaged ones."""
    (root / ".thumbnails").mkdir()
    (root / "dark" / ".DS_Store").write_bytes(b"\0")
    (root / "dark" / "._0.jpg").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    empty, page = root / "dark" / "empty.png", root / "bright" / "page.jpg"
    empty.write_bytes(b"")
    page.write_bytes(b"<html>404</html>")
    cut = root / "bright" / "cut.jpg"
    noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:900])
    return [cut, empty, page]


def classifier(width, dtype=None):
    """A model as its authors ship it: from 0 to 255, scaled inside."""
    inputs = keras.Input((*SIZE, 3), dtype=dtype)
    x = layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    x = layers.Conv2D(width, 3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """`(folder, whole files, damaged files)`."""
    root = tmp_path_factory.mktemp("photos")
    files = write_photos(root, 72)
    return root, files, damage(root)


@pytest.fixture(scope="module", params=["float32", "uint8"])
def models(photos, request, tmp_path_factory):
    """Paths of a trained teacher and an untrained student."""
    _, files, _ = photos
    keras.utils.set_random_seed(0)
    images = ImageFormat(*SIZE, scale="none")
    x = np.stack([images.read(file) for file in files])
    y = np.array([file.parent.name == "dark" for file in files], int)
    teacher = classifier(8, request.param)
    teacher.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    teacher.fit(x, y, epochs=30, verbose=0)
    assert teacher.evaluate(x, y, verbose=0)[1] > 0.9
    folder = tmp_path_factory.mktemp("models")
    teacher.save(folder / "teacher.keras")
    classifier(4, request.param).save(folder / "student.keras")
    return folder


# `pytest.warns` passes Keras's own on as if they were ours.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_command_reads_the_same_pixels(photos, models, run, tmp_path):
    root, files, damaged = photos
    spec, cascade_file = f"dir:{root}", tmp_path / "c.keras"
    train = [
        "train", "--data", spec, "--teacher", models / "teacher.keras",
        "--student", models / "student.keras", "--output", cascade_file,
        "--epochs", 3, "--json",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="3 of 75 files") as error:
        run(*train)
    assert all(str(file) in str(error.value) for file in damaged)
    skip = ["--skip-damaged"]
    with pytest.warns(UserWarning, match="left out 3 of 75"):
        trained = json.loads(run(*train, *skip))
    assert trained["teacher_accuracy"] > 0.9
    cascade = saved_cascade.load_cascade(cascade_file)
    assert cascade.data_record.class_names == ["bright", "dark"]
    scale = cascade.data_record.images["scale"]
    (tensor,) = cascade.student.inputs
    assert scale == {"uint8": "none", "float32": "0-255"}[tensor.dtype]

    data = ["--data", spec, *skip]
    with pytest.warns(UserWarning, match="left out 3"):
        run(
            "calibrate", cascade_file, *data,
            "--objective", "max_delegation_rate=0.5",
        )  # fmt: skip
        measured = json.loads(run("evaluate", cascade_file, *data, "--json"))
        bundle = tmp_path / "bundle"
        run("export", cascade_file, *data, "--output", bundle)
        verified = json.loads(run("verify", bundle, *data, "--json"))
    assert measured["teacher_accuracy"] == trained["teacher_accuracy"]
    assert verified["passed"]
    for name in ("delegation_rate", "accuracy"):
        other = "cascade_accuracy" if name == "accuracy" else name
        assert verified["measured"][name] == pytest.approx(measured[other])
    (entry,) = json.loads((bundle / "manifest.json").read_text())["input"]
    assert entry["scale"] == scale

    with pytest.warns(UserWarning, match="left out 3"):
        accuracies = teacher_accuracies(
            run, cascade_file, bundle, data, tmp_path, skip_damaged=True
        )
    accuracies["test"]["train"] = trained["teacher_accuracy"]
    check_equal(accuracies)

    cascade = saved_cascade.load_cascade(cascade_file)
    images = ImageFormat(*SIZE, 3, scale)
    teacher = keras.layers.Softmax()(
        cascade.teacher(np.stack([images.read(file) for file in files]))
    )
    teacher = keras.ops.convert_to_numpy(teacher)
    expected = cascade.predict(
        np.stack([images.read(file) for file in files]), verbose=0
    )
    with ServerProcess(bundle, tmp_path / "log") as server:
        for where in ("local", server.url):
            for number, file in enumerate(files[:12]):
                answer = predict_input(bundle, file, None, where, "raise")
                np.testing.assert_allclose(
                    answer.probabilities[0],
                    expected["probabilities"][number],
                    atol=1e-5,
                )
                assert (answer.source[0] == "cloud") == bool(
                    expected["delegated"][number]
                )
                if answer.source[0] == "cloud":
                    np.testing.assert_allclose(
                        answer.probabilities[0], teacher[number], atol=1e-5
                    )


def test_a_scale_that_cannot_be_told_is_asked_for(photos, run, tmp_path):
    root, _, damaged = photos
    for file in damaged:
        file.unlink()
    for name in ("teacher", "student"):
        plain = keras.Sequential(
            [keras.Input((*SIZE, 3)), layers.Flatten(), layers.Dense(2)]
        )
        plain.save(tmp_path / f"{name}.keras")
    arguments = [
        "train", "--data", f"dir:{root}", "--epochs", 1,
        "--teacher", tmp_path / "teacher.keras",
        "--student", tmp_path / "student.keras",
        "--output", tmp_path / "c.keras",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Expected: --scale 0-1, 0-255"):
        run(*arguments)
    run(*arguments, "--scale", "0-255")
    cascade = saved_cascade.load_cascade(tmp_path / "c.keras")
    assert cascade.data_record.images == {
        "scale": "0-255", "image_size": list(SIZE), "channels": 3,
    }  # fmt: skip
    ((low, high),) = cascade.data_record.input_ranges
    assert low >= 0 and high > 100
    # What the cascade has seen in Python tells the scale as well.
    cascade.data_record.images = None
    splits = splits_of(cascade, f"dir:{root}", 0)
    assert splits.scale == "0-255"
    with pytest.raises(ValueError, match="differ in their classes"):
        cascade.data_record.class_names = ["cat", "dog"]
        splits_of(cascade, f"dir:{root}", 0)

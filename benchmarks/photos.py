"""A folder of mixed photos through every command, compared file by file.

    python -m benchmarks.photos --json

writes photos of many sizes, modes, orientations and formats, with damaged,
wrongly named and hidden files among them, and two models that take pixels from
0 to 255. `train`, `calibrate`, `evaluate`, `report`, `export`, `verify`,
`predict` and `serve` run as processes of their own. Each file's probabilities
are compared with those that Keras gives on pixels which this module reads
itself (but for the files, `at_threshold`, whose score is within 1e-5 of it:
there either model may answer), and each command's peak memory with that of a
process which only imports TensorFlow and loads the models.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageOps

import keras_cascade as kc
from benchmarks.harness import options, show
from keras_cascade.runtime import EdgeCascade, GrpcTeacher
from keras_cascade.serving import ServerProcess

FILES, QUICK_FILES = 500, 56
SIDE = 224
#: Ending and mode of the photos, in turn. One in four is of the models' size.
FORMATS = (
    ("jpg", "RGB"), ("png", "RGBA"), ("jpg", "CMYK"), ("png", "P"),
    ("JPG", "RGB"), ("png", "I;16"), ("webp", "RGBA"), ("bmp", "RGB"),
    ("jpeg", "L"), ("png", "LA"), ("gif", "P"), ("png", "1"), ("tif", "RGB"),
    ("webp", "RGB"), ("bmp", "1"), ("png", "L"), ("jfif", "RGB"),
    ("bmp", "L"), ("png", "RGB"),
)  # fmt: skip
KINDS = {
    "bmp": "BMP", "gif": "GIF", "png": "PNG", "tif": "TIFF", "webp": "WEBP",
}  # fmt: skip
LARGE = ("jpg", "RGB"), ("png", "RGB"), ("jpg", "CMYK"), ("png", "RGBA")
CLASSES = ("bright", "dark")
#: What each process writes at its end.
PEAK = """
import sys
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
file = sys.argv.pop(1)
try:
    %s
finally:
    open(file, "w").write(str(peak()))
"""
COMMAND = "from keras_cascade.cli.main import main; main()"
BASELINE = (
    "import tensorflow, keras; "
    "models = [keras.models.load_model(one) for one in sys.argv[1:]]"
)
#: `keras-cascade predict` for one file after the other.
PREDICTIONS = """
    import contextlib, io, json
    from keras_cascade.cli.main import run
    bundle, teacher = sys.argv[1:]
    for name in map(str.rstrip, sys.stdin):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            run(["predict", bundle, "--input", name, "--teacher", teacher,
                 "--json"])
        print(json.dumps(json.loads(shown.getvalue())["rows"][0]))
"""


def write_photos(root, count, seed=0):
    """Writes photos of two classes, and what lies beside photos.

    Args:
        root: `Path` of a new folder.
        count: int, whole photos.
        seed: int. Defaults to `0`.

    Returns:
        `(files, damaged, plain)`: paths of the whole photos, of the damaged
        ones, and of those among the whole that Keras reads to the same pixels:
        of the models' size, RGB, upright and without loss.
    """
    rng = np.random.default_rng(seed)
    files, plain = [], []
    for number in range(count):
        ending, mode = FORMATS[number % len(FORMATS)]
        low, high = np.log(50), np.log(1200)
        size = np.exp(rng.uniform(low, high, 2)).astype(int)
        if number % 4 == 3:
            size = (SIDE, SIDE)
        if number % 50 == 7:
            ending, mode = LARGE[number // 50 % len(LARGE)]
            size = (4000, 3000)
        if number == 0:
            size = (50, 80)
        orientation = int(rng.integers(1, 9))
        if number % 11 == 5:
            ending, mode, size, orientation = "png", "RGB", (SIDE, SIDE), 1
        name = CLASSES[number % 2]
        file = root / name / f"{number}.{ending}"
        if number % 97 == 2:  # a photo with another format's ending
            file = file.with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        image = _photo(rng, size, mode, bright=name == "bright")
        kind = KINDS.get(ending, "JPEG")
        exif = image.getexif()
        exif[0x0112] = orientation
        turned = kind in ("JPEG", "PNG", "WEBP")
        image.save(file, kind, **({"exif": exif} if turned else {}))
        files.append(file)
        upright = not turned or orientation == 1
        exact = kind in ("PNG", "BMP") and mode == "RGB"
        if exact and upright and image.size == (SIDE, SIDE):
            plain.append(file)
    return sorted(files), _write_others(root, files), sorted(plain)


def _photo(rng, size, mode, bright):
    low, high = (100, 256) if bright else (0, 160)
    coarse = (max(2, size[1] // 20), max(2, size[0] // 20), 3)
    pixels = rng.integers(low, high, coarse).astype(np.uint8)
    image = Image.fromarray(pixels).resize(size)
    if mode == "I;16":
        gray = 257 * np.asarray(image.convert("L"), "int32")
        gray += rng.integers(-99, 100, gray.shape)
        return Image.fromarray(gray.clip(0, 65_535).astype("uint16"))
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(size))
    return image.convert(mode)


def _write_others(root, files):
    """Writes damaged and hidden files; returns the damaged ones."""
    bright, dark = (root / name for name in CLASSES)
    (root / ".thumbnails").mkdir()
    (root / "__MACOSX").mkdir()
    for file in (dark / ".DS_Store", dark / "._1.jpg", bright / "Thumbs.db"):
        file.write_bytes(b"\x00\x05\x16\x07")
    largest = max(
        (one for one in files if one.suffix == ".jpg"),
        key=lambda one: one.stat().st_size,
    )
    damaged = {
        bright / "cut.jpg": largest.read_bytes()[:5000],
        dark / "empty.png": b"",
        bright / "page.jpg": b"<html>404</html>",
        dark / "noise.webp": bytes(range(256)) * 9,
    }
    for file, content in damaged.items():
        file.write_bytes(content)
    return sorted(damaged)


def read_pixels(file):
    """Reads a photo as `docs/data.md` says, with Pillow alone."""
    with Image.open(file) as image:
        if image.format == "JPEG":
            image.draft(None, (2 * SIDE, 2 * SIDE))
        image = ImageOps.exif_transpose(image)
        if image.mode == "I;16":
            image = Image.fromarray(
                np.rint(np.asarray(image) / 257).astype("uint8")
            )
        if image.mode in ("RGBA", "LA") or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
        return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def write_models(folder, x, y):
    """Saves a teacher, trained a little, and an untrained student.

    Both are of `keras.applications` with seeded weights and take pixels from 0
    to 255. BatchNormalization has the statistics of some photos and keeps
    them, as when a pretrained model is fine-tuned.

    Args:
        folder: `Path`.
        x: float32 pixels of some photos.
        y: their labels.
    """
    keras.utils.set_random_seed(0)
    arguments = {
        "input_shape": (SIDE, SIDE, 3), "include_top": False,
        "weights": None, "pooling": "avg",
    }  # fmt: skip
    # Its Rescaling is inside.
    body = keras.applications.MobileNetV3Small(**arguments)
    _set_statistics(body, x)
    head = keras.Sequential([keras.Input((body.output_shape[-1],))])
    head.add(layers.Dense(len(CLASSES)))
    head.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    head.fit(body.predict(x, verbose=0), y, epochs=50, verbose=0)
    keras.Sequential([body, head.layers[-1]]).save(folder / "teacher.keras")
    body = keras.applications.MobileNetV2(alpha=0.35, **arguments)
    _set_statistics(body, x / 127.5 - 1)
    student = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            body,
            # The features of any two photos differ by little: without this
            # all scores are one, up to rounding. Full standard deviations
            # would raise rounding above 1e-5 too.
            layers.BatchNormalization(),
            layers.Rescaling(1 / 30),
            # From zero: few steps on so many features would saturate it.
            layers.Dense(len(CLASSES), kernel_initializer="zeros"),
        ]
    )
    _set_statistics(student, x)
    body.trainable = False  # two epochs on a few photos would make it constant
    student.save(folder / "student.keras")


def _set_statistics(model, x):
    norms = [
        one
        for one in model.layers
        if isinstance(one, layers.BatchNormalization)
    ]
    for norm in norms:
        norm.momentum = 0.0
    model(x, training=True)
    for norm in norms:
        norm.trainable = False


class Processes:
    """Runs processes and notes the peak memory of each.

    Args:
        folder: `Path` for their files.
    """

    def __init__(self, folder):
        self.folder = folder
        self.peaks, self.seconds, self.warnings = {}, {}, []

    def run(self, name, code, *arguments, stdin=None):
        """Runs Python code; returns what it prints."""
        file = self.folder / "peak"
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", PEAK % code, file, *map(str, arguments)],
            capture_output=True,
            text=True,
            input=stdin,
        )
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        self.seconds[name] = round(time.perf_counter() - start, 1)
        self.peaks[name] = round(float(file.read_text()))
        self.warnings += [
            line
            for line in done.stderr.splitlines()
            if line.startswith("Warning:") and line not in self.warnings
        ]
        return done.stdout

    def command(self, name, *arguments, key=None):
        """Runs `keras-cascade NAME ... --json`; returns its dict."""
        shown = self.run(key or name, COMMAND, name, *arguments, "--json")
        return json.loads(shown)


def measure(count, folder):
    """Runs every command on `count` photos and compares.

    Args:
        count: int.
        folder: `Path` of an empty folder.
    """
    photos, bundle = folder / "photos", folder / "bundle"
    cascade_file = folder / "cascade.keras"
    files, damaged, plain = write_photos(photos, count)
    pixels = np.stack([read_pixels(file) for file in files])
    some = np.random.default_rng(0).permutation(len(files))[:48]
    labels = np.array([CLASSES.index(file.parent.name) for file in files])
    write_models(folder, pixels[some].astype("float32"), labels[some])

    processes = Processes(folder)
    models = folder / "teacher.keras", folder / "student.keras"
    processes.run("tensorflow and models", BASELINE, *models)
    data = "--data", f"dir:{photos}", "--skip-damaged"
    trained = processes.command(
        "train", *data, "--teacher", models[0], "--student", models[1],
        "--output", cascade_file, "--epochs", 2,
    )  # fmt: skip
    calibrated = processes.command(
        "calibrate", cascade_file, *data,
        "--objective", "max_delegation_rate=0.5",
    )  # fmt: skip
    evaluated = processes.command("evaluate", cascade_file, *data)
    report = processes.command(
        "report", cascade_file, *data, "--output", folder / "report"
    )
    processes.command("export", cascade_file, *data, "--output", bundle)
    verified = {
        split: processes.command(
            "verify", bundle, *data, "--split", split, key=f"verify {split}"
        )
        for split in ("test", "calibration")
    }
    manifest = json.loads((bundle / "manifest.json").read_text("utf-8"))
    cascade = keras.models.load_model(cascade_file)
    expected = cascade.predict(pixels, verbose=0)
    teacher = _softmax(cascade.teacher.predict(pixels, verbose=0))
    splits = kc.datasets.load(
        f"dir:{photos}", scale="0-255", image_size=(SIDE, SIDE), color="rgb",
        skip_damaged=True,
    )  # fmt: skip
    with ServerProcess(bundle, folder / "log") as server:
        differences, decisions, close = _compare(
            processes, bundle, server, files, pixels, expected, teacher
        )
        accuracies = {
            "test": {
                "train": trained["teacher_accuracy"],
                "evaluate": evaluated["teacher_accuracy"],
                "report": report["teacher_accuracy"],
                "verify": verified["test"]["measured"]["teacher_accuracy"],
            },
            "calibration": {
                "calibrate": calibrated["teacher_accuracy"],
                "manifest": manifest["operating_points"][0][
                    "teacher_accuracy"
                ],
                "verify": verified["calibration"]["measured"][
                    "teacher_accuracy"
                ],
            },
        }  # fmt: skip
        for split, of_split in accuracies.items():
            of_split |= _accuracies(
                cascade,
                server,
                manifest["input"][0]["name"],
                *splits.arrays(split),
            )
        processes.peaks["serve"] = _peak_of(server)
    differences["plain keras"] = _plain_keras_difference(
        folder, plain, cascade, files, expected, teacher
    )
    base = processes.peaks["tensorflow and models"]
    return {
        "files": len(files),
        "damaged": len(damaged),
        "left_out": [line for line in processes.warnings if "left out" in line],
        "plain_keras_files": len(plain),
        "largest_difference": differences,
        "other_decisions": decisions,
        "at_threshold": close,
        "delegated": int(expected["delegated"].sum()),
        "verify_passed": all(one["passed"] for one in verified.values()),
        "teacher_accuracy": accuracies,
        "teacher_accuracies_are_equal": all(
            np.ptp(list(of_split.values())) < 1e-6
            for of_split in accuracies.values()
        ),
        "peak_mb": processes.peaks,
        "most_mb_over_tensorflow": max(processes.peaks.values()) - base,
        "seconds": processes.seconds,
    }


def _compare(processes, bundle, server, files, pixels, expected, teacher):
    """Largest differences from Keras by path, and other decisions."""
    worst = dict.fromkeys(("edge local", "edge served", "serve"), 0.0)
    worst |= {"predict": 0.0, "predict score": 0.0}
    others = 0
    local = EdgeCascade.load(bundle, "local")
    served = EdgeCascade.load(bundle, server.url, on_failure="raise")
    direct = GrpcTeacher(server.grpc_url, len(CLASSES))
    (name,) = (one["name"] for one in local.bundle.inputs)
    threshold = local.operating_point["threshold"]
    close = np.abs(expected["score"] - threshold) < 1e-5
    for row, image in enumerate(pixels):
        x = image[None].astype("float32")
        gap = _softmax(direct.logits({name: x}))[0] - teacher[row]
        worst["serve"] = max(worst["serve"], float(np.abs(gap).max()))
        if close[row]:
            continue
        for path, edge in (("edge local", local), ("edge served", served)):
            answer = edge.predict(x)
            gap = answer.probabilities[0] - expected["probabilities"][row]
            worst[path] = max(worst[path], float(np.abs(gap).max()))
            cloud = str(answer.source[0]) == "cloud"
            others += cloud != bool(expected["delegated"][row])
    shown = processes.run(
        "predict", PREDICTIONS, bundle, server.url,
        stdin="".join(f"{file}\n" for file in files),
    )  # fmt: skip
    for row, answer in enumerate(map(json.loads, shown.splitlines())):
        gap = abs(answer["score"] - float(expected["score"][row]))
        worst["predict score"] = max(worst["predict score"], gap)
        if close[row]:
            continue
        of_row = expected["probabilities"][row]
        gap = abs(answer["probability"] - float(of_row[answer["label"]]))
        worst["predict"] = max(worst["predict"], gap)
        cloud = answer["source"] == "cloud"
        others += cloud != bool(expected["delegated"][row])
    return worst, others, int(close.sum())


def _accuracies(cascade, server, name, x, y):
    """The teacher's accuracy in Python, in Keras and over the wire."""
    teacher = keras.models.clone_model(cascade.teacher)
    teacher.set_weights(cascade.teacher.get_weights())
    teacher.compile(
        metrics=["accuracy"], loss="sparse_categorical_crossentropy"
    )
    direct = GrpcTeacher(server.grpc_url, len(CLASSES))
    labels = [direct.logits({name: row[None]}).argmax() for row in x]
    return {
        "python": cascade.evaluate(
            x, y, return_dict=True, verbose=0, allow_training_data=True
        )["teacher_accuracy"],
        "keras": teacher.evaluate(x, y, return_dict=True, verbose=0)[
            "accuracy"
        ],
        "served": float(np.mean(labels == y)),
    }


def _plain_keras_difference(folder, plain, cascade, files, expected, teacher):
    """Largest difference from Keras's own reader of image folders."""
    own = folder / "plain"
    for file in plain:
        (own / file.parent.name).mkdir(parents=True, exist_ok=True)
        os.symlink(file, own / file.parent.name / file.name)
    batches = keras.utils.image_dataset_from_directory(
        own, image_size=(SIDE, SIDE), shuffle=False, verbose=False
    )
    rows = [
        files.index(folder / "photos" / Path(one).relative_to(own))
        for one in batches.file_paths
    ]
    delegated = expected["delegated"][rows][:, None]
    answers = [
        _softmax(model.predict(batches, verbose=0))
        for model in (cascade.teacher, cascade.student)
    ]
    gaps = (
        np.where(delegated, *answers) - expected["probabilities"][rows],
        answers[0] - teacher[rows],
    )
    return float(max(np.abs(gap).max() for gap in gaps))


def _softmax(logits):
    logits = np.asarray(logits, "float64")
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _peak_of(server):
    status = Path(f"/proc/{server.pid}/status").read_text()
    words = status.split()
    return round(int(words[words.index("VmHWM:") + 1]) / 1024)


def main():
    arguments = options(__doc__)
    count = QUICK_FILES if arguments.quick else FILES
    with tempfile.TemporaryDirectory() as folder:
        result = measure(count, Path(folder).resolve())
    show(result, arguments.json)


if __name__ == "__main__":
    main()

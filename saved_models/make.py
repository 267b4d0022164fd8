"""Makes the reference bundles and their example picture.

    python -m saved_models.make

A teacher and a student are trained on Fashion-MNIST, the student from cached
logits; the same cascade is exported twice, with the student in int8 and in
float32, each with `student.onnx` too. About five minutes on two cores.
"""

import tempfile
from pathlib import Path

import jinja2
import keras
import numpy as np
from PIL import Image

import keras_cascade as kc
from keras_cascade.cli.saved_bundle import verify

HERE = Path(__file__).parent
PICTURE = HERE.parent / "tutorials" / "data" / "boot.png"
DATA = "fashion_mnist"
#: Folder of each bundle, and how its student is stored.
BUNDLES = {"fashion_mnist": "int8", "fashion_mnist_float32": None}
SEED = 0
BATCH = 128
TEACHER_WIDTH, TEACHER_EPOCHS = 16, 6
STUDENT_WIDTH, STUDENT_EPOCHS = 16, 10
OBJECTIVE = kc.MaxAccuracyDrop(0.005, confidence=0.95)


def with_mirror_images(x, y):
    """Every picture both ways round: clothes have no left and right."""
    return np.concatenate([x, x[:, :, ::-1]]), np.concatenate([y, y])


def optimizer(rate, examples, epochs):
    """Adam, with a rate that falls to zero."""
    steps = epochs * -(-examples // BATCH)
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, steps)
    )


def trained_teacher(x, y):
    """The teacher, trained on the labels."""
    teacher = kc.models.image_teacher(x.shape[1:], 10, TEACHER_WIDTH)
    teacher.compile(
        optimizer=optimizer(2e-3, len(x), TEACHER_EPOCHS),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(x, y, batch_size=BATCH, epochs=TEACHER_EPOCHS, verbose=2)
    return teacher


def trained_cascade(x, y):
    """The cascade, its student trained from the teacher's cached logits."""
    x, y = with_mirror_images(x, y)
    teacher = trained_teacher(x, y)
    student = kc.models.image_student(x.shape[1:], 10, STUDENT_WIDTH)
    cascade = kc.Cascade(teacher, student)
    cascade.compile(optimizer=optimizer(5e-3, len(x), STUDENT_EPOCHS))
    with tempfile.TemporaryDirectory() as folder:
        logits = kc.cache_teacher_logits((x, y), teacher, folder)
        cascade.fit(
            x, y, batch_size=BATCH, epochs=STUDENT_EPOCHS, verbose=2,
            teacher_logits=logits,
        )  # fmt: skip
    return cascade


def arrays(part):
    """`(x, y)` of one split."""
    batches = list(part.batch(4096).as_numpy_iterator())
    return tuple(
        np.concatenate(column) for column in zip(*batches, strict=True)
    )


def write_picture(x, y, boot):
    """Writes the test split's first ankle boot, pixel for pixel."""
    pixels = np.round(x[np.argmax(y == boot), :, :, 0] * 255).astype("uint8")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(PICTURE)


def folder_bytes(folder):
    """Size of all files in a folder."""
    return sum(
        file.stat().st_size for file in folder.rglob("*") if file.is_file()
    )


def write_readme(bundles, cascade):
    """Writes `README.md` from the manifests and what `verify` measures."""
    rows = []
    for bundle in bundles:
        result = verify(bundle.path, DATA, "test", SEED)
        if not result["passed"]:
            raise RuntimeError(f"{bundle.path}: {result['checks']}")
        rows.append(
            {
                "manifest": bundle.manifest,
                "student": bundle.manifest["student"],
                "teacher": {"bytes": folder_bytes(bundle.teacher_folder)},
                "point": bundle.operating_point(),
                "measured": result["measured"],
            }
        )
    template = jinja2.Template(
        (HERE / "README.md.jinja").read_text(encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    weights = {
        "teacher": cascade.teacher.count_params(),
        "student": cascade.student.count_params(),
    }
    text = template.render(rows=rows, boot=PICTURE.name, weights=weights)
    (HERE / "README.md").write_text(text, encoding="utf-8")


def export(cascade, splits):
    """Calibrates, exports both bundles, verifies them and writes the rest."""
    test = arrays(splits.test)
    cascade.calibrate(arrays(splits.calibration), OBJECTIVE)
    print(cascade.evaluate(*test, return_dict=True, verbose=0))
    write_picture(*test, splits.class_names.index("ankle boot"))
    bundles = [
        cascade.export(
            HERE / name,
            quantization=quantization,
            class_names=splits.class_names,
            onnx=True,
            overwrite=True,
        )
        for name, quantization in BUNDLES.items()
    ]
    write_readme(bundles, cascade)


def main():
    """Trains and exports."""
    import tensorflow as tf

    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    splits = kc.datasets.load(DATA, SEED)
    export(trained_cascade(*arrays(splits.train)), splits)


if __name__ == "__main__":
    main()

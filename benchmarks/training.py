"""Duration of training, against the ideal and Keras's `Distiller`.

    python -m benchmarks.training --json [--quick]

Every function is traced before the clock starts. `ideal` is one pass of the
teacher plus plain `student.fit`; `distiller` is Keras's own, with the loss
that applies the softmax.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import interleaved, medians, options, show

SHAPE = (32, 32, 3)
CLASSES = 10
BATCH = 128
EPOCHS = 10


def build_teacher():
    """Builds a convnet with a forward pass far above a student step."""
    return kc.models.image_teacher(SHAPE, CLASSES, width=80)


def build_student():
    """Builds a small strided convnet."""
    return kc.models.image_student(SHAPE, CLASSES, width=8)


def build_distiller(teacher, student):
    """Builds Keras's `Distiller` with a loss object."""
    distiller = keras.distillation.Distiller(
        teacher=teacher,
        student=student,
        distillation_losses=keras.distillation.LogitsDistillation(
            temperature=1.0, loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=0.0,
    )
    distiller.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return distiller


def measure(rows, rounds):
    """Times all ways of training on the same models and data, in turn."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.random((rows, *SHAPE), dtype="float32")
    y = rng.integers(0, CLASSES, rows).astype("int32")
    teacher = build_teacher()
    plain = build_student()
    plain.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    cascade = kc.Cascade(teacher, build_student())
    cascade.compile(optimizer="adam", metrics=["accuracy"])
    online = kc.Cascade(teacher, build_student())
    online.compile(optimizer="adam", metrics=["accuracy"])
    distiller = build_distiller(teacher, build_student())
    kwargs = {"batch_size": BATCH, "verbose": 0}
    folders = tempfile.TemporaryDirectory()
    numbers = iter(range(1_000))

    def cached(part=slice(None), epochs=EPOCHS):
        path = Path(folders.name, str(next(numbers)))
        cache = kc.cache_teacher_logits(
            x[part], teacher, path, batch_size=BATCH
        )
        cascade.fit(
            x[part], y[part], epochs=epochs, teacher_logits=cache, **kwargs
        )

    few = slice(0, 2 * BATCH)
    cached(few, 1)
    online.fit(x[few], y[few], **kwargs)
    plain.fit(x[few], y[few], **kwargs)
    distiller.fit(x[few], y[few], **kwargs)
    teacher.predict(x[few], **kwargs)

    def ideal():
        teacher.predict(x, **kwargs)
        plain.fit(x, y, epochs=EPOCHS, **kwargs)

    total = medians(
        interleaved(
            {
                "ideal": ideal,
                "cached": cached,
                "distiller": lambda: distiller.fit(
                    x, y, epochs=EPOCHS, **kwargs
                ),
            },
            rounds,
        )
    )
    step = medians(
        interleaved(
            {
                "online": lambda: online.fit(x, y, **kwargs),
                "distiller": lambda: distiller.fit(x, y, **kwargs),
                "student": lambda: plain.fit(x, y, **kwargs),
                "teacher": lambda: teacher.predict(x, **kwargs),
            },
            rounds + 1,
        )
    )
    folders.cleanup()
    return {
        "total_over_ideal": total["cached"] / total["ideal"],
        "total_over_distiller": total["cached"] / total["distiller"],
        "online_step_over_distiller": step["online"] / step["distiller"],
        "teacher_forward_over_student_step": step["teacher"] / step["student"],
        "seconds": {
            **{f"total_{name}": value for name, value in total.items()},
            **{f"epoch_{name}": value for name, value in step.items()},
        },
        "examples": rows,
        "epochs": EPOCHS,
        "rounds": rounds,
    }


MEMORY = """
import json, sys, tempfile
import keras, numpy as np
import keras_cascade as kc

rows, classes = int(sys.argv[1]), int(sys.argv[2])

class Rows(keras.utils.PyDataset):
    def __len__(self):
        return rows // 500

    def __getitem__(self, i):
        return np.random.default_rng(i).random((500, 16), dtype="float32")

def megabytes(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) / 1024

teacher = keras.Sequential([keras.Input((16,)), keras.layers.Dense(classes)])
with tempfile.TemporaryDirectory() as folder:
    kc.cache_teacher_logits(Rows()[0], teacher, folder + "/warm")
    before = megabytes("VmRSS")
    cache = kc.cache_teacher_logits(Rows(), teacher, folder + "/cache")
    assert len(cache) == rows
    print(json.dumps({
        "peak": megabytes("VmHWM") - before,
        "after": megabytes("VmRSS") - before,
    }))
"""


def measure_memory(rows, classes):
    """Measures the resident memory of caching, at its peak and afterwards."""
    process = subprocess.run(
        [sys.executable, "-c", MEMORY, str(rows), str(classes)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(process.stdout.splitlines()[-1])


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    result = (
        measure(rows=512, rounds=1)
        if chosen.quick
        else measure(rows=2048, rounds=2)
    )
    size = (20_000, 100) if chosen.quick else (200_000, 1_000)
    memory = measure_memory(*size)
    result["cache_resident_mb"] = memory["peak"]
    result["cache_resident_mb_after"] = memory["after"]
    result["cached_logits"] = size
    show(result, chosen.json)


if __name__ == "__main__":
    main()

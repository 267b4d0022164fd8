# %% [markdown]
# # Shrinking the student
#
# The student's file can be made several times smaller, with one argument of
# `export`. Its scores change when that happens, and with them what a threshold
# means. You will export one student in five forms,
# see what each costs in bytes, accuracy and time, and see what becomes of a
# guarantee when the threshold is carried over from float and when it is fitted
# again on the file. It takes about two minutes.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
x_train, y_train = data.arrays("train", 12_000)
x_cal, y_cal = data.arrays("calibration", 5_000)
x_test, y_test = data.arrays("test")

# %% [markdown]
# ## A trained cascade
#
# A convolutional teacher, and a student with an eighth of its weights that
# learns from the teacher's logits. Nothing here is particular to small files.

# %%
import tempfile
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np

folder = Path(tempfile.mkdtemp())
keras.utils.set_random_seed(0)
teacher = kc.models.image_teacher(data.input_shape, data.classes, width=16)
epochs, batch_size = 4, 64
steps = epochs * -(-len(x_train) // batch_size)
decay = keras.optimizers.schedules.CosineDecay(3e-3, steps)
teacher.compile(
    keras.optimizers.Adam(decay),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
history = teacher.fit(
    x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=2
)

# %%
student = kc.models.image_student(data.input_shape, data.classes)
print(f"{student.count_params():,} weights against {teacher.count_params():,}")
cache = kc.cache_teacher_logits((x_train, y_train), teacher, folder / "logits")
cascade = kc.Cascade(teacher, student)
cascade.compile(keras.optimizers.Adam(2e-3))
history = cascade.fit(
    x_train, y_train, batch_size=64, epochs=10, teacher_logits=cache, verbose=0
)

# %% [markdown]
# The guarantee: on new images of this kind the cascade is at most 1 point less
# accurate than the teacher, with confidence 0.95. `calibrate` finds the
# cheapest threshold that keeps it for the student in Keras, in float.

# %%
objective = kc.MaxAccuracyDrop(0.01, confidence=0.95)
print(cascade.calibrate((x_cal, y_cal), objective))
float_threshold = cascade.threshold

# %% [markdown]
# ## Five files of one student
#
# - **float32**: four bytes a weight.
# - **int8**: one byte a weight, and activations in 8 bits too. Rounded after
#   training; the ranges of the activations come from calibration inputs.
# - **qat**, quantization-aware training: the student trains on for a little,
#   while its weights are rounded in every step as they will be in the file.
# - **prune+qat**: first 70 % of the weights of every kernel become zero, then
#   `qat`. The file is as long as before, but zeros compress.
# - **90 % pruned**: the same with 90 % zeros, to see where it ends.
#
# The last three train, so they take training data. They need
# `keras-cascade[optimize]`, and TensorFlow Model Optimization runs in a process
# of its own.

# %%
forms = {
    "float32": {},
    "int8": {"quantization": "int8"},
    "qat": {"quantization": "qat", "optimization": {"epochs": 2}},
    "prune+qat": {"quantization": "prune+qat", "optimization": {"epochs": 2}},
    "90 % pruned": {
        "quantization": "prune+qat",
        "optimization": {"epochs": 2, "sparsity": 0.9},
    },
}
bundles = {}
for number, (name, options) in enumerate(forms.items()):
    if "optimization" in options:
        options["training_data"] = (x_train, y_train)
    bundles[name] = cascade.export(folder / f"bundle_{number}", **options)

# %% [markdown]
# ## What the files answer
#
# `EdgeCascade` runs each file in LiteRT, as a device does; `predict_alone`
# gives the student's answers and scores on every row. The teacher is the same
# for all, so one pass over the test images is enough.

# %%
teacher_correct = cascade.judge((x_test, y_test)).teacher_correct


def file_results(bundle):
    with kc.runtime.EdgeCascade.load(bundle.path) as edge:
        alone = edge.predict_alone(x_test)
    return kc.evaluation.ExampleResults(
        scores=alone.score,
        student_correct=alone.labels == y_test,
        teacher_correct=teacher_correct,
    )


results = {name: file_results(bundle) for name, bundle in bundles.items()}

# %%
import gzip

print(f"{'file':12} {'bytes':>7} {'gzipped':>8} {'student':>8} {'ms':>6}")
for name, bundle in bundles.items():
    content = bundle.student_file.read_bytes()
    costs = kc.export.costs_from_latency(bundle, x_test)
    print(
        f"{name:12} {len(content):7,} {len(gzip.compress(content)):8,} "
        f"{results[name].student_correct.mean():8.1%} "
        f"{costs.student:6.3f}"
    )

# %% [markdown]
# `bytes` is what the device stores and `gzipped` what it downloads. A fixed
# part of the file, some kB, is the graph with its gate, so that a student this
# small does not reach a quarter of its size; one of 200,000 weights does
# ([measured](../docs/benchmarks/export.json)). Zeros cost space until they are
# compressed.
#
# `ms` is one image at a time, on this machine's processor. A quarter of the
# bytes is **not** a quarter of the time: LiteRT's float kernels are well tuned
# for desktop processors, and the gate computes in float, so 8 bits are
# converted back first. On a phone's accelerator it can be the other way round,
# and on a microcontroller 8 bits may be all there is. Measure on the device.
#
# ## The threshold, carried over
#
# Suppose the file was converted by hand, and the threshold that was found in
# Keras was shipped with it. `measure_threshold` says what a threshold does to
# given scores.


# %%
def at(threshold, of):
    return kc.calibration.measure_threshold(
        of.scores, of.student_correct, of.teacher_correct, threshold
    )


carried = {name: at(float_threshold, results[name]) for name in bundles}
print(f"the float threshold, {float_threshold:.4f}, on every file")
for name, point in carried.items():
    print(
        f"{name:12} delegates {point.delegation_rate:5.1%}, "
        f"{100 * point.accuracy_drop:4.1f} points below the teacher"
    )

# %% [markdown]
# Plain int8 hardly moves: had we stopped there, we might have concluded that a
# threshold survives quantization. The files that trained on tell otherwise.
# The student that learned more in `qat` asks for help more often than it needs
# to. The one that lost 90 % of its weights is wrong far more often; the old
# threshold catches too few of its mistakes, and the cascade falls well short of
# what was guaranteed. Nothing raises an error: the threshold is a number, and
# any number can be compared with a score.
#
# ## The threshold, fitted again
#
# `export` does not ship that number. It runs the finished file on the
# calibration images and fits the objective again on the file's own scores. The
# manifest has what it found.

# %%
own = {}
for name, bundle in bundles.items():
    threshold = bundle.operating_point()["threshold"]
    own[name] = point = at(threshold, results[name])
    flips = bundle.manifest["verification"]["decision_flips"]
    print(
        f"{name:12} {threshold:6.4f} delegates {point.delegation_rate:5.1%}, "
        f"{100 * point.accuracy_drop:4.1f} points below the teacher, "
        f"{flips:,} of {len(x_cal):,} decisions differ from Keras"
    )

# %% [markdown]
# With its own threshold every file keeps to the one point, on test images that
# none of them was calibrated on. (At least 95 of 100 calibration sets give a
# threshold that does, so now and then one will miss by a little, and never by
# as much as above.) The price differs: a worse student has
# to ask more. That is what to compare files by, rather than by the accuracy of
# the student alone: bytes on one side, what it delegates for the same guarantee
# on the other. A file that saves two kilobytes and asks the teacher about a
# third of the images or more saved nothing.
#
# A guarantee can also be out of reach for a file. `export` then raises an error
# that says what is attainable, and writes nothing.
#
# ## Scores tie in 8 bits
#
# An 8-bit number has 256 values. The gate computes in float on the ten logits,
# so its scores are finer than that; still, some thresholds no longer exist.
# How much depends on the gate. The margin gate looks at all ten logits, the
# class gate only at the difference of two.


# %%
def ties(name, scores):
    values, counts = np.unique(scores, return_counts=True)
    print(
        f"{name:22} {len(values):5,} different scores, "
        f"{counts.max():3} images share one"
    )


for name in ("float32", "int8"):
    ties(f"margin gate, {name}", results[name].scores)

by_class = kc.Cascade(
    teacher, student, gate=kc.gates.ClassGate(in_domain_classes=range(5))
)
by_class.calibrate((x_cal, y_cal), kc.MaxDelegationRate(0.55))
for name in ("float32", "int8"):
    bundle = by_class.export(folder / f"class_{name}", quantization=name)
    ties(f"class gate, {name}", file_results(bundle).scores)

# %% [markdown]
# A threshold can only fall between two scores: images that share one are
# delegated together or kept together. Where so many share it that a rate
# cannot be had, `calibrate` and `export` take the nearest one that still keeps
# the objective, and refuse where there is none; they never round.
#
# ## In one picture

# %%
plt.style.use("tableau-colorblind10")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
places = np.arange(len(bundles))
for offset, label, points in (
    (-0.2, "threshold carried over from float", carried),
    (0.2, "threshold fitted on the file", own),
):
    drop = [100 * point.accuracy_drop for point in points.values()]
    rate = [100 * point.delegation_rate for point in points.values()]
    axes[0].bar(places + offset, drop, 0.4, label=label)
    axes[1].bar(places + offset, rate, 0.4, label=label)
axes[0].axhline(1, color="black", ls="--", label="guaranteed at most")
axes[0].set_ylabel("points below the teacher")
axes[1].set_ylabel("images delegated (%)")
for one in axes:
    one.set_xticks(places, bundles, rotation=25)
axes[0].legend(frameon=False)
figure.suptitle("A threshold belongs to the file that it was fitted on")
plt.show()

# %% [markdown]
# Next: [this file on a device, and the teacher behind a
# server](05_edge_and_cloud.ipynb), [what a guarantee
# means](03_a_threshold_with_a_guarantee.ipynb), or [a cascade of
# texts](06_text.ipynb).

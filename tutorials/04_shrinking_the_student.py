# %% [markdown]
# # Shrinking the student
#
# One argument of `export` makes the student's file several times smaller. This
# changes the student's scores, and with them the effect of a threshold. The
# tutorial exports one student in five forms, compares their size, accuracy and
# latency, and shows what happens to a guarantee when the float threshold is
# reused and when it is fitted again on the file. It takes about two minutes.

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
# learns from the teacher's logits, as in the other tutorials.

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
# cheapest threshold that meets it for the Keras student, in float.

# %%
objective = kc.MaxAccuracyDrop(0.01, confidence=0.95)
print(cascade.calibrate((x_cal, y_cal), objective))
float_threshold = cascade.threshold

# %% [markdown]
# ## Five files of one student
#
# - **float32**: four bytes per weight.
# - **int8**: one byte per weight, and activations in 8 bits too. Rounded after
#   training; the ranges of the activations come from calibration inputs.
# - **qat**, quantization-aware training: the student is fine-tuned while its
#   weights are rounded in every step as they are in the file.
# - **prune+qat**: 70 % of the weights of every kernel are set to zero, then
#   `qat`. The file has the same size, but zeros compress.
# - **90 % pruned**: the same with 90 % zeros, an extreme case.
#
# The last three fine-tune, so they need training data and
# `keras-cascade[optimize]`; TensorFlow Model Optimization runs in a child
# process.

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
# ## Results of the files
#
# `EdgeCascade` runs each file in LiteRT, as a device does; `predict_alone`
# returns the student's labels and scores for every row. The teacher is the same
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
# `bytes` is the size on the device and `gzipped` the size of the download. A
# fixed part of the file, some kB, is the graph with its gate, so a student this
# small does not reach a quarter of its size; one of 200,000 weights does
# ([measured](../docs/benchmarks/export.json)). Zeros take space unless the file
# is compressed.
#
# `ms` is the latency per image, on this machine's processor. A quarter of the
# bytes is **not** a quarter of the time: LiteRT's float kernels are well tuned
# for desktop processors, and the gate computes in float, so 8-bit values are
# converted back first. On a phone's accelerator int8 can be faster, and some
# microcontrollers support nothing else. Measure on the device.
#
# ## The float threshold on the files
#
# Suppose the file is converted by hand and deployed with the threshold that was
# fitted in Keras. `measure_threshold` computes the effect of a threshold on
# given scores.


# %%
def measure(threshold, results):
    return kc.calibration.measure_threshold(
        results.scores,
        results.student_correct,
        results.teacher_correct,
        threshold,
    )


reused = {name: measure(float_threshold, results[name]) for name in bundles}
print(f"the float threshold, {float_threshold:.4f}, on every file")
for name, point in reused.items():
    print(
        f"{name:12} delegates {point.delegation_rate:5.1%}, "
        f"{100 * point.accuracy_drop:4.1f} points below the teacher"
    )

# %% [markdown]
# With plain int8 the numbers hardly change. With fine-tuning they do. The
# student that improved in `qat` delegates more than necessary. The one with 90
# % of its weights removed is wrong far more often; the float threshold
# delegates too few of its mistakes, and the cascade misses the objective by
# far. Nothing raises an error, as any number can be compared with a score.
#
# ## The threshold, fitted on the file
#
# `export` does not write the float threshold. It runs the finished file on the
# calibration images and fits the objective again on the file's own scores. The
# manifest contains the result.

# %%
own = {}
for name, bundle in bundles.items():
    threshold = bundle.operating_point()["threshold"]
    own[name] = point = measure(threshold, results[name])
    flips = bundle.manifest["verification"]["decision_flips"]
    print(
        f"{name:12} {threshold:6.4f} delegates {point.delegation_rate:5.1%}, "
        f"{100 * point.accuracy_drop:4.1f} points below the teacher, "
        f"{flips:,} of {len(x_cal):,} decisions differ from Keras"
    )

# %% [markdown]
# With its own threshold every file meets the objective of one point, on test
# images that none of them was calibrated on. (At least 95 of 100 calibration
# sets yield a threshold that does.) The delegation rate differs: a less
# accurate student has to delegate more. Compare files by their size and by the
# delegation rate under the same guarantee, not by the accuracy of the student
# alone: two kilobytes less do not pay for delegating a third of the images or
# more.
#
# An objective can also be unattainable for a file. `export` then raises an
# error that states what is attainable, and writes nothing.
#
# ## Ties of 8-bit scores
#
# An 8-bit number has 256 values. The gate computes in float on the ten logits,
# so its scores have more; still, some thresholds no longer exist. Their number
# depends on the gate. The margin gate uses all ten logits, the class gate only
# the difference of two.


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
# A threshold lies between two scores: images that share one are delegated or
# accepted together. Where too many share it for a requested rate, `calibrate`
# and `export` take the nearest rate that meets the objective, and raise an
# error where there is none.
#
# ## Comparison

# %%
plt.style.use("tableau-colorblind10")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
positions = np.arange(len(bundles))
for offset, label, points in (
    (-0.2, "float threshold reused", reused),
    (0.2, "threshold fitted on the file", own),
):
    drop = [100 * point.accuracy_drop for point in points.values()]
    rate = [100 * point.delegation_rate for point in points.values()]
    axes[0].bar(positions + offset, drop, 0.4, label=label)
    axes[1].bar(positions + offset, rate, 0.4, label=label)
axes[0].axhline(1, color="black", ls="--", label="guaranteed at most")
axes[0].set_ylabel("points below the teacher")
axes[1].set_ylabel("images delegated (%)")
for one in axes:
    one.set_xticks(positions, bundles, rotation=25)
axes[0].legend(frameon=False)
figure.suptitle("A threshold is valid for the file that it was fitted on")
plt.show()

# %% [markdown]
# **Next:** [the file on a device and the teacher on a
# server](05_edge_and_cloud.ipynb), [guarantees of
# thresholds](03_a_threshold_with_a_guarantee.ipynb), or [a text
# cascade](06_text.ipynb).

# %% [markdown]
# # A task of your own: segmentation
#
# Can a cascade guarantee something other than the right class? A *task* object
# states what models output, what the student learns, how sure an answer is, and
# which loss is guaranteed. Those for classes, several labels and numbers are
# built in. This tutorial writes one for semantic segmentation, a class for each
# pixel, in about 60 lines: a scene counts as lost where the mean IoU of its
# masks is below a bound, and the guarantee is on the share of those. It takes
# about two minutes.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")

# %% [markdown]
# ## Scenes
#
# Real pictures, in made-up scenes: one or two garments of Fashion-MNIST, at
# half their size, at random places of a 32 x 32 canvas, where the second may
# cover the first. The mask is derived from the pictures: a pixel has the class
# of the garment that it shows, where that is brighter than 0.1. Nobody drew
# these masks, and dark parts of a garment are background in them.
#
# Each picture is used in one scene only. Scenes that share pictures would not
# be independent, and guarantees count independent examples.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers, ops
from matplotlib.colors import ListedColormap

plt.style.use("tableau-colorblind10")
CLASSES = ["background", "t-shirt/top", "trouser", "sandal", "bag"]
SIZE, HALF = 32, 14
kinds = [data.class_names.index(name) for name in CLASSES[1:]]


def scenes(split, count):
    rng = np.random.default_rng(0)
    pictures, labels = data.arrays(split)
    rows = iter(rng.permutation(np.flatnonzero(np.isin(labels, kinds))))
    x = np.zeros((count, SIZE, SIZE, 1), "float32")
    y = np.zeros((count, SIZE, SIZE), "uint8")
    for scene in range(count):
        for _ in range(rng.integers(1, 3)):
            row = next(rows)
            garment = pictures[row].reshape(HALF, 2, HALF, 2, 1).mean((1, 3))
            top, left = rng.integers(0, SIZE - HALF + 1, 2)
            area = np.s_[scene, top : top + HALF, left : left + HALF]
            shown = garment[..., 0] > 0.1
            x[area][shown] = garment[shown]
            y[area][shown] = 1 + kinds.index(labels[row])
    return x, y


x_train, y_train = scenes("train", 6_000)
x_cal, y_cal = scenes("calibration", 2_400)
x_test, y_test = scenes("test", 2_000)
print(f"{len(x_train):,} scenes, {(y_train == 0).mean():.0%} background")

# %% [markdown]
# ## The task
#
# Four methods and a few attributes. `outputs` are the student's logits, of
# shape `(batch, 32, 32, 5)`; `activation` says how they become *answers*, here
# the probabilities of each pixel; each method returns a number per scene.
#
# - `label_loss` and `distillation_loss`: what the student learns, the mean
#   cross-entropy of the pixels.
# - `score`: how sure the student is of a scene. A mask is as good as its worst
#   part, so it is the mean margin of the least sure tenth of the pixels.
# - `loss`: what is guaranteed, in [0, 1]. Here it is 0 or 1, so that exact
#   tests apply: 1 where the mean IoU is below `bound`. The IoU of a class is
#   the intersection of its two masks over their union; the mean is over the
#   classes that the scene has.
#
# All are written in `keras.ops`. The score ends up in the device's file, so it
# uses operations that TFLite has, such as `top_k`. Registered, the task is
# saved with the cascade.


# %%
@keras.saving.register_keras_serializable("tutorials")
class Segmentation(kc.tasks.Task):
    """A class for each pixel of `(height, width)`.

    Args:
        bound: float, mean IoU below which a scene counts as lost.
    """

    activation = "softmax"
    zero_one_loss = True
    default_threshold = 0.5

    def __init__(self, bound=0.7):
        self.bound = bound
        self.loss_name = f"share of scenes with a mean IoU below {bound:g}"

    def label_loss(self, labels, outputs):
        targets = ops.one_hot(ops.cast(labels, "int32"), outputs.shape[-1])
        return self.cross_entropy(targets, outputs)

    def distillation_loss(self, teacher_outputs, outputs, temperature):
        targets = ops.softmax(teacher_outputs / temperature, axis=-1)
        return self.cross_entropy(targets, outputs)

    def cross_entropy(self, targets, outputs):
        losses = -ops.sum(targets * ops.log_softmax(outputs, axis=-1), axis=-1)
        return ops.mean(losses, axis=(1, 2))

    def score(self, outputs):
        best, _ = ops.top_k(ops.softmax(outputs, axis=-1), 2)
        pixels = outputs.shape[1] * outputs.shape[2]
        margins = ops.reshape(best[..., 0] - best[..., 1], (-1, pixels))
        least_sure, _ = ops.top_k(-margins, pixels // 10)
        return -ops.mean(least_sure, axis=-1)

    def loss(self, labels, answers):
        return ops.cast(self.mean_iou(labels, answers) < self.bound, "float32")

    def mean_iou(self, labels, answers):
        classes = answers.shape[-1]
        right = ops.one_hot(ops.cast(labels, "int32"), classes)
        masks = ops.one_hot(ops.argmax(answers, axis=-1), classes)
        both = ops.sum(right * masks, axis=(1, 2))
        either = ops.sum(ops.maximum(right, masks), axis=(1, 2))
        present = ops.cast(ops.any(right > 0, axis=(1, 2)), "float32")
        iou = both / ops.maximum(either, 1.0)
        return ops.sum(iou * present, axis=-1) / ops.sum(present, axis=-1)

    def check_labels(self, labels, size):
        super().check_labels(labels, size)
        if np.ndim(labels) != 3 or np.max(labels) >= size:
            raise ValueError(
                f"Expected masks (batch, height, width) of classes below "
                f"{size}. Received: shape {np.shape(labels)}."
            )

    def get_config(self):
        return {"bound": self.bound}


# %% [markdown]
# ## Teacher and student
#
# The teacher is a small U-Net in plain Keras, trained with Keras. The student
# has a thirtieth of its weights, and computes at a quarter of its height and
# width.

# %%
keras.utils.set_random_seed(0)


def convolution(filters, strides=1):
    return layers.Conv2D(filters, 3, strides, padding="same", activation="relu")


inputs = keras.Input((SIZE, SIZE, 1))
full = convolution(16)(inputs)
half = convolution(32)(layers.MaxPooling2D()(full))
deep = convolution(64)(layers.MaxPooling2D()(half))
deep = convolution(64)(deep)
for filters, skip in ((32, half), (16, full)):
    deep = layers.Conv2DTranspose(filters, 2, strides=2)(deep)
    deep = convolution(filters)(layers.Concatenate()([deep, skip]))
teacher = keras.Model(inputs, layers.Conv2D(len(CLASSES), 1)(deep))

student = keras.Sequential(
    [
        keras.Input((SIZE, SIZE, 1)),
        convolution(8, strides=2),
        convolution(12, strides=2),
        convolution(12),
        layers.Conv2DTranspose(len(CLASSES), 4, strides=4),
    ]
)


def optimizer(rate, epochs):
    steps = epochs * len(x_train) // 32
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(rate, steps)
    )


teacher.compile(
    optimizer(5e-3, 7),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
teacher.fit(x_train, y_train, batch_size=32, epochs=7, verbose=0)
print(f"{teacher.count_params():,} and {student.count_params():,} weights")

# %% [markdown]
# ## Training and calibration
#
# From here on everything is as with classes. The student learns from the
# teacher's masks, which are computed once. `MaxAccuracyDrop(0.05)` bounds how
# much more often the cascade loses a scene than the teacher alone: on new
# scenes of this kind by at most 5 points, with confidence 0.95.

# %%
task = Segmentation(bound=0.7)
cascade = kc.Cascade(teacher, student, task=task)
cascade.compile(optimizer(1e-2, 10))
cache = kc.cache_teacher_logits(x_train, teacher, task=task)
history = cascade.fit(
    x_train,
    y_train,
    batch_size=32,
    epochs=10,
    teacher_logits=cache,
    verbose=0,
)
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.05, confidence=0.95)
)
print(point)

# %% [markdown]
# ## Measuring
#
# The accuracy of such a cascade is the mean of `1 - loss`: the share of the
# scenes whose mean IoU reaches the bound.

# %%
metrics = cascade.evaluate(x_test, y_test, verbose=0, return_dict=True)
for model in ("teacher", "student", "cascade"):
    print(f"{model}: {metrics[f'{model}_accuracy']:.1%} of the scenes")
print(f"delegated: {metrics['delegation_rate']:.1%}")

# %% [markdown]
# `predict` returns the masks' probabilities, the teacher's where a scene was
# delegated. The mean IoU itself is higher too, but nothing is guaranteed about
# it: that would be another `loss`.

# %%
answer = cascade.predict(x_test, verbose=0)
alone = {
    "student": task.answers(student.predict(x_test, verbose=0)),
    "cascade": answer["probabilities"],
    "teacher": task.answers(teacher.predict(x_test, verbose=0)),
}
iou = {
    name: np.array(task.mean_iou(y_test, masks))
    for name, masks in alone.items()
}
for name, values in iou.items():
    print(f"{name}: mean IoU {values.mean():.3f}")

# %% [markdown]
# ## Saving
#
# The file holds the task, by its registered name and its config.

# %%
import tempfile
from pathlib import Path

file = Path(tempfile.mkdtemp()) / "segmentation.keras"
cascade.save(file)
loaded = keras.models.load_model(file)
print(loaded.task, loaded.threshold == cascade.threshold)
again = loaded.predict(x_test[:100], verbose=0)
print(np.array_equal(again["delegated"], answer["delegated"][:100]))

# %% [markdown]
# ## Shipping
#
# The bundle is that of any cascade: student and gate as one TFLite file, the
# teacher as a SavedModel, and a manifest that names the task. A device needs no
# code of the task: the activation and the threshold are in the files.

# %%
bundle = cascade.export("runs/scenes", overwrite=True, verbose=False)
edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
on_device = edge.predict(x_test[:100])
print(bundle.student_file.stat().st_size, "bytes of student and gate")
print(on_device.source_counts, on_device.probabilities.shape)
print(np.mean((on_device.source == "cloud") == answer["delegated"][:100]))

# %% [markdown]
# ## What is kept and what is delegated
#
# Of the scenes that show at least 60 pixels of two kinds, the surest one, which
# was kept, and the least sure one. Below, the loss for every share of the
# scenes that is sent to the teacher.

# %%
counts = np.array([np.bincount(mask.ravel(), minlength=5) for mask in y_test])
two = (counts[:, 1:] >= 60).sum(axis=1) == 2
kept = np.argmax(np.where(two, answer["score"], -1))
delegated = np.argmin(np.where(two, answer["score"], 2))
COLORS = ["black", "C0", "C1", "C2", "gold"]
figure = plt.figure(figsize=(9, 8), layout="constrained")
grid = figure.add_gridspec(3, 4, height_ratios=(1, 1, 1.6))
for row, (scene, title) in enumerate(
    ((kept, "kept"), (delegated, "delegated"))
):
    masks = {
        "student": np.argmax(alone["student"][scene], axis=-1),
        "teacher": np.argmax(alone["teacher"][scene], axis=-1),
        "truth": y_test[scene],
    }
    axes = figure.add_subplot(grid[row, 0])
    axes.imshow(x_test[scene, ..., 0], cmap="gray")
    axes.set_title(f"{title}, score {answer['score'][scene]:.2f}")
    axes.axis("off")
    for column, (name, mask) in enumerate(masks.items(), start=1):
        axes = figure.add_subplot(grid[row, column])
        axes.imshow(mask, cmap=ListedColormap(COLORS), vmin=0, vmax=4)
        quality = f", IoU {iou[name][scene]:.2f}" if name in iou else ""
        axes.set_title(name + quality)
        axes.axis("off")
curve = cascade.judge((x_test, y_test)).deferral_curve()
curve.plot(
    figure.add_subplot(grid[2, :]),
    f"Teacher of {teacher.count_params():,} weights, student of "
    f"{student.count_params():,}",
    (metrics["delegation_rate"], metrics["cascade_accuracy"]),
)
figure.legend(
    [plt.Rectangle((0, 0), 1, 1, color=color) for color in COLORS],
    CLASSES,
    loc="outside upper center",
    ncols=5,
)
plt.show()

# %% [markdown]
# **Next:** the contract of a task, with the shapes of every method, and the
# tasks that are built in, are in [tasks](../docs/tasks.md). For another loss,
# such as missed pixels of one class, change `loss` and calibrate again: the
# student and its scores stay. What a guarantee is and when it ends is in [03 A
# threshold with a guarantee](03_a_threshold_with_a_guarantee.ipynb).

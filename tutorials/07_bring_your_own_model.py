# %% [markdown]
# # Bring your own model, your own data, your own distillation
#
# Four ways to a cascade: from an existing `fit` script, from a KerasHub preset,
# from TensorFlow Datasets, and from Keras's own `Distiller`. All use
# scikit-learn's 8×8 digits, so that training takes seconds; the notebook takes
# about a minute.

# %%
import keras_cascade as kc

data = kc.datasets.load("digits")
x_train, y_train = data.arrays("train")
x_cal, y_cal = data.arrays("calibration")
x_test, y_test = data.arrays("test")
print(data.sizes)

# %% [markdown]
# ## An existing script
#
# Plain Keras: a model, `compile`, `fit`, `evaluate`. This one ends in logits,
# with `from_logits=True` in the loss. A model that ends in a softmax or a
# sigmoid is taken as it is: its logits are read before that.

# %%
import keras
from keras import layers

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(128, 3, padding="same", activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
stop = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)

model.compile("adam", loss, metrics=["accuracy"])
model.fit(
    x_train, y_train, validation_split=0.1, epochs=25, callbacks=[stop],
    verbose=0,
)  # fmt: skip
model.evaluate(x_test, y_test, verbose=0, return_dict=True)

# %% [markdown]
# ## The same script with a cascade
#
# The trained model becomes the teacher of a student of your choice. The five
# lines that are new or changed are marked; callbacks, validation,
# `class_weight`, `tf.data` and the other arguments of `fit` work as in Keras.

# %%
student = keras.Sequential(
    [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]
)
stop = keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)

cascade = kc.Cascade(model, student)  # new: the model is the teacher
cascade.compile("adam", metrics=["accuracy"])  # changed: no loss
cascade.fit(  # changed: the student learns
    x_train, y_train, validation_split=0.1, epochs=40, callbacks=[stop],
    verbose=0,
)  # fmt: skip
cascade.calibrate((x_cal, y_cal), kc.MaxDelegationRate(0.2))  # new
cascade.evaluate(x_test, y_test, verbose=0, return_dict=True)  # changed

# %% [markdown]
# There is no `loss`, because the **distillation policy** is the loss.
# `calibrate` needs examples that `fit` was not given, and raises an error for
# the training set:

# %%
try:
    cascade.calibrate((x_train, y_train), kc.MaxDelegationRate(0.2))
except ValueError as error:
    print(error)

# %% [markdown]
# ## A KerasHub preset as the teacher
#
# With a network it is one line, such as
# `keras_hub.models.ImageClassifier.from_preset("resnet_18_imagenet",
# num_classes=10)`. To avoid a download, this example saves a small ResNet as a
# preset and loads it from its folder with the same call. KerasHub's classifiers
# output logits. (Texts: [06_text](06_text.ipynb).)

# %%
import keras_hub

backbone = keras_hub.models.ResNetBackbone(
    input_conv_filters=[64],
    input_conv_kernel_sizes=[3],
    stackwise_num_filters=[64, 128],
    stackwise_num_blocks=[1, 1],
    stackwise_num_strides=[1, 2],
    block_type="basic_block",
    image_shape=(8, 8, 1),
)
keras_hub.models.ResNetImageClassifier(backbone, 10).save_to_preset("resnet")

res_net = keras_hub.models.ImageClassifier.from_preset("resnet")
res_net.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
history = res_net.fit(x_train, y_train, epochs=15, shuffle=False, verbose=0)
print(f"training accuracy {history.history['accuracy'][-1]:.3f}")

# %% [markdown]
# The student shares only the classes with it.

# %%
tiny = kc.models.image_student((8, 8, 1), 10, width=3)
with_res_net = kc.Cascade(res_net, tiny)
with_res_net.compile(keras.optimizers.Adam(5e-3))
with_res_net.fit(x_train, y_train, epochs=20, verbose=0)
print(with_res_net.calibrate((x_cal, y_cal), kc.MaxDelegationRate(0.2)))

# %% [markdown]
# ## Data from TensorFlow Datasets
#
# `fit`, `calibrate`, `evaluate` and `predict` accept `tf.data` pipelines. Any
# data set of the catalogue works as below. To avoid a download, the digits are
# first stored as a data set.

# %%
import logging

import tensorflow as tf
import tensorflow_datasets as tfds

tfds.disable_progress_bar()
logging.getLogger("absl").setLevel("ERROR")  # the data set does not exist yet
stored = tfds.dataset_builders.store_as_tfds_dataset(
    name="my_digits",
    version="1.0.0",
    features=tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(8, 8, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    ),
    split_datasets={
        "train": tf.data.Dataset.from_tensor_slices(
            {"image": (255 * x_train).astype("uint8"), "label": y_train}
        )
    },
    data_dir="tensorflow_datasets",
)

# %%
rows = tfds.load("my_digits", split="train", data_dir="tensorflow_datasets")
train = rows.map(
    lambda row: (tf.cast(row["image"], tf.float32) / 255, row["label"])
)
from_tfds = kc.Cascade(model, keras.models.clone_model(student))
from_tfds.compile("adam")
from_tfds.fit(train.shuffle(1_000).batch(32), epochs=3, verbose=2)

# %% [markdown]
# On the command line a data set is one argument: `keras-cascade train --data
# tfds:NAME`, or `dir:PATH`, `npz:PATH`, `csv:PATH`.
#
# ## From Keras's `Distiller`
#
# `keras.distillation.Distiller` trains a student, and does not decide which
# inputs the student answers. A caveat for comparisons: with its default `loss`,
# `LogitsDistillation` omits the softmax (Keras 3.15) and computes a divergence
# of raw logits. With a loss object it is correct. The reference value, computed
# with SciPy:

# %%
import numpy as np
from scipy.special import kl_div, softmax

teacher_logits = model(x_test[:64])
student_logits = cascade.student(x_test[:64])
by_default = keras.distillation.LogitsDistillation(temperature=2.0)
as_object = keras.distillation.LogitsDistillation(
    temperature=2.0, loss=keras.losses.KLDivergence()
)
soft_teacher = softmax(np.asarray(teacher_logits) / 2, axis=1)
soft_student = softmax(np.asarray(student_logits) / 2, axis=1)
reference = 4 * kl_div(soft_teacher, soft_student).sum(axis=1).mean()

for name, one in {"default": by_default, "object": as_object}.items():
    value = float(one.compute_loss(teacher_logits, student_logits))
    print(f"loss as {name:8} {value:8.4f}   reference {reference:.4f}")

# %% [markdown]
# An existing `Distiller` script:

# %%
small = keras.Sequential(
    [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]
)
distiller = keras.distillation.Distiller(
    model, small, as_object, student_loss_weight=0.5
)
distiller.compile("adam", loss, metrics=["accuracy"])
distiller.fit(x_train, y_train, epochs=40, verbose=0)

# %% [markdown]
# There are two ways to migrate. The first keeps the student: a `Cascade` that
# is not fitted can calibrate, evaluate and export.

# %%
distilled = kc.Cascade(model, distiller.student)
distilled.compile()
distilled.calibrate((x_cal, y_cal), kc.MaxDelegationRate(0.2))
print(distilled.evaluate(x_test, y_test, verbose=0, return_dict=True))

# %% [markdown]
# The second trains with the cascade, with the same arguments under the same
# names. `CombinedDistillation` accepts Keras's own losses, including
# `FeatureDistillation`.
#
# | `Distiller` | `Cascade` |
# |---|---|
# | `LogitsDistillation(temperature=T)` | `StandardDistillation(T)` |
# | `student_loss_weight=a` | the same, of the policy |
# | `FeatureDistillation(...)` | `CombinedDistillation(policy, [...])` |
# | `compile(loss=...)` | no loss: the policy is the loss |
# | `fit` runs the teacher every epoch | `fit(teacher_logits=cache)` |
# | `distiller.student` | `cascade.student` |

# %%
policy = kc.distillation.StandardDistillation(
    temperature=2.0, student_loss_weight=0.5
)
migrated = kc.Cascade(model, keras.models.clone_model(small), policy)
migrated.compile("adam")
cache = kc.cache_teacher_logits((x_train, y_train), model, "teacher_logits")
migrated.fit(x_train, y_train, epochs=40, teacher_logits=cache, verbose=0)

# %% [markdown]
# ## Comparison
#
# One teacher, three students of the same 650 weights, and their deferral curves
# on the test examples. On data this easy they differ little.

# %%
import matplotlib.pyplot as plt

plt.style.use("tableau-colorblind10")
figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
students = {
    "from a fit script": cascade,
    "Distiller": distilled,
    "migrated": migrated,
}
for name, one in students.items():
    curve = one.judge((x_test, y_test)).deferral_curve()
    axes.step(
        100 * curve.delegation_rate, 100 * curve.accuracy, where="post",
        label=name,
    )  # fmt: skip
axes.axhline(100 * curve.teacher_accuracy, color="k", ls=":", label="teacher")
axes.set_xlim(0, 60)
axes.set_xlabel("share of inputs sent to the teacher (%)")
axes.set_ylabel("accuracy (%)")
axes.legend()
title = axes.set_title("Deferral curves of three students")

# %% [markdown]
# **Next:** [the paper's experiments](08_the_paper.ipynb), or
# [a threshold with a guarantee](03_a_threshold_with_a_guarantee.ipynb).

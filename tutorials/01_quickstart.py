# %% [markdown]
# # Quickstart: two Keras models to a served cascade
#
# A large model is accurate and expensive, and most inputs are easy. Here you
# train a small **student** beside a large **teacher**, let a **gate** decide
# which inputs the student keeps, and ship the pair: one TFLite file for the
# device, one SavedModel for a server. It takes about a minute on two cores.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
print(data.sizes, data.how, sep="\n")

# %% [markdown]
# Three splits, because a cascade needs three: one to train on, one to choose
# the **threshold** on, and one to report. Using one for another is an error
# later on, not a silent mistake.

# %%
x_train, y_train = data.arrays("train", 20_000)
x_cal, y_cal = data.arrays("calibration")
x_test, y_test = data.arrays("test")
x_train.shape, x_train.dtype, x_train.min(), x_train.max()

# %% [markdown]
# ## Two models
#
# Teacher and student are two Keras models that take the same input and output
# **logits**, no softmax, over the same classes. Yours go here; these two are
# small convolutional networks that come with the package.

# %%
import keras

keras.utils.set_random_seed(0)
teacher = kc.models.image_teacher(data.input_shape, data.classes, width=16)
student = kc.models.image_student(data.input_shape, data.classes)
print(f"teacher {teacher.count_params():,} weights")
print(f"student {student.count_params():,} weights")

# %% [markdown]
# The teacher is trained as you always train a model. (If you have one that is
# trained, skip this.)

# %%
steps = 5 * len(x_train) // 128
teacher.compile(
    optimizer=keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(2e-3, steps)
    ),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = teacher.fit(x_train, y_train, batch_size=128, epochs=5, verbose=2)

# %% [markdown]
# ## The cascade
#
# A `Cascade` is a `keras.Model` that holds both. `fit` trains the student
# from the teacher's answers (distillation) and leaves the teacher as it is.

# %%
cascade = kc.Cascade(teacher, student)
cascade.compile(optimizer=keras.optimizers.Adam(5e-3))
history = cascade.fit(x_train, y_train, batch_size=128, epochs=6, verbose=2)

# %% [markdown]
# ## A threshold
#
# The gate gives every input a **score**: here the margin, the student's
# highest probability minus its second highest. Below the **threshold** an
# input is **delegated** to the teacher. `calibrate` chooses the threshold for
# what you ask. Here: with 95 % confidence, at most one point of accuracy less
# than the teacher alone.

# %%
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.01, confidence=0.95)
)
print(point)

# %% [markdown]
# What that means on examples that nobody has used so far:

# %%
measured = cascade.evaluate(x_test, y_test, return_dict=True, verbose=0)
for name, value in sorted(measured.items()):
    print(f"{name:18} {value:.4f}")

# %% [markdown]
# `delegation_rate` is the share of inputs that reach the teacher, and
# `amortized_cost` what an average input costs, in passes of the teacher.
#
# ## Shipping it
#
# `export` writes a **bundle**: a folder with the student and its gate as one
# TFLite file, the teacher as a SavedModel, a manifest and a model card. Before
# it returns, the file has been run in LiteRT on the calibration examples, its
# decisions were compared with Keras, and the threshold was fitted again on
# what the file answers.

# %%
bundle = cascade.export(
    "quickstart_bundle", quantization="int8", overwrite=True
)
print(sorted(file.name for file in bundle.path.iterdir()))
print(f"student {bundle.manifest['student']['bytes']:,} bytes")
verified = bundle.manifest["verification"]
print(
    f"{verified['decision_flips']} of {verified['examples']:,} decisions "
    "differ from Keras, most of all because the student is now in 8 bits"
)

# %% [markdown]
# ## Using it
#
# In the cloud, `keras-cascade serve quickstart_bundle` puts the teacher behind
# HTTP and gRPC; TensorFlow Serving, Triton or KServe do as well. Here the
# server runs in a process of its own, for as long as the `with` block.
#
# On the device, `EdgeCascade` needs neither TensorFlow nor Keras. It asks the
# teacher for the rows that the student does not keep, and says of every row
# who answered it.

# %%
from keras_cascade.serving import ServerProcess

with ServerProcess("quickstart_bundle", "server.log") as server:
    edge = kc.runtime.EdgeCascade.load("quickstart_bundle", teacher=server.url)
    prediction = edge.predict(x_test)
    edge.close()

print(prediction.source_counts)
print(f"accuracy {(prediction.labels == y_test).mean():.4f}")

# %% [markdown]
# ## What a threshold buys
#
# Every threshold is a point on the **deferral curve**: the accuracy of the
# cascade against the share of inputs that it delegates. The dashed line is
# what delegating the same share at random would give; the gate is worth the
# distance between the two.

# %%
curve = cascade.judge((x_test, y_test)).deferral_curve()
axes = curve.plot(
    title="Most of the teacher's accuracy, for a fraction of its work",
    point=(measured["delegation_rate"], measured["cascade_accuracy"]),
)

# %% [markdown]
# Next: [what the student can learn](02_distillation_policies.ipynb),
# [what a threshold can guarantee](03_a_threshold_with_a_guarantee.ipynb), or
# [your own models and data](07_bring_your_own_model.ipynb).

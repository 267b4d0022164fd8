# %% [markdown]
# # Quickstart: from two Keras models to a served cascade
#
# A large model is accurate and expensive, and most inputs are easy. This
# tutorial trains a small **student** with a large **teacher**, lets a **gate**
# decide which inputs the student answers, and exports the pair: one TFLite
# file for the device, one SavedModel for a server. It takes about a minute on
# two cores.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
print(data.sizes, data.how, sep="\n")

# %% [markdown]
# A cascade needs three splits: for training, for choosing the **threshold**
# and for the final evaluation. Using one in place of another raises an error.

# %%
x_train, y_train = data.arrays("train", 20_000)
x_cal, y_cal = data.arrays("calibration")
x_test, y_test = data.arrays("test")
x_train.shape, x_train.dtype, x_train.min(), x_train.max()

# %% [markdown]
# ## Two models
#
# Teacher and student are two Keras classifiers that take the same input and
# have the same classes. They may end in logits or in a softmax. These two are
# small convolutional networks that come with the package; use your own here.

# %%
import keras

keras.utils.set_random_seed(0)
teacher = kc.models.image_teacher(data.input_shape, data.classes, width=16)
student = kc.models.image_student(data.input_shape, data.classes)
print(f"teacher {teacher.count_params():,} weights")
print(f"student {student.count_params():,} weights")

# %% [markdown]
# The teacher is trained like any Keras model. Skip this if yours is trained.

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
# from the teacher's outputs (distillation) and leaves the teacher unchanged.

# %%
cascade = kc.Cascade(teacher, student)
cascade.compile(optimizer=keras.optimizers.Adam(5e-3))
history = cascade.fit(x_train, y_train, batch_size=128, epochs=6, verbose=2)

# %% [markdown]
# ## A threshold
#
# The gate computes a **score** per input: here the margin, the student's
# highest probability minus its second highest. Below the **threshold** an
# input is **delegated** to the teacher. `calibrate` chooses the threshold for
# an objective. Here: with 95 % confidence, at most one point of accuracy less
# than the teacher alone.

# %%
point = cascade.calibrate(
    (x_cal, y_cal), kc.MaxAccuracyDrop(0.01, confidence=0.95)
)
print(point)

# %% [markdown]
# The same threshold on the test examples, which are not used before:

# %%
measured = cascade.evaluate(x_test, y_test, return_dict=True, verbose=0)
for name, value in sorted(measured.items()):
    print(f"{name:18} {value:.4f}")

# %% [markdown]
# `delegation_rate` is the share of inputs that reach the teacher, and
# `amortized_cost` the average cost per input, in passes of the teacher.
#
# ## Export
#
# `export` writes a **bundle**: a folder with the student and its gate as one
# TFLite file, the teacher as a SavedModel, a manifest and a model card. It also
# runs the file in LiteRT on the calibration examples, compares its decisions
# with those of Keras, and fits the threshold again on the file's own scores.

# %%
bundle = cascade.export(
    "quickstart_bundle", quantization="int8", overwrite=True
)
print(sorted(file.name for file in bundle.path.iterdir()))
print(f"student {bundle.manifest['student']['bytes']:,} bytes")
verified = bundle.manifest["verification"]
print(
    f"{verified['decision_flips']} of {verified['examples']:,} decisions "
    "differ from Keras, mainly because the student is now in 8 bits"
)

# %% [markdown]
# ## Prediction on the device
#
# In the cloud, `keras-cascade serve quickstart_bundle` serves the teacher over
# HTTP and gRPC; TensorFlow Serving, Triton or KServe can serve it as well. Here
# the server runs in a separate process during the `with` block.
#
# On the device, `EdgeCascade` needs neither TensorFlow nor Keras. It sends the
# delegated rows to the teacher, and `source` states per row which model
# answered.

# %%
from keras_cascade.serving import ServerProcess

with ServerProcess("quickstart_bundle", "server.log") as server:
    edge = kc.runtime.EdgeCascade.load("quickstart_bundle", teacher=server.url)
    prediction = edge.predict(x_test)
    edge.close()

print(prediction.source_counts)
print(f"accuracy {(prediction.labels == y_test).mean():.4f}")

# %% [markdown]
# ## The deferral curve
#
# Every threshold is a point on the **deferral curve**: the accuracy of the
# cascade against the share of inputs that it delegates. The dashed line shows
# random delegation of the same share; the distance to it is the gain of the
# gate.

# %%
curve = cascade.judge((x_test, y_test)).deferral_curve()
axes = curve.plot(
    title="Most of the teacher's accuracy, for a fraction of its work",
    point=(measured["delegation_rate"], measured["cascade_accuracy"]),
)

# %% [markdown]
# **Next:** [distillation policies](02_distillation_policies.ipynb),
# [thresholds with a guarantee](03_a_threshold_with_a_guarantee.ipynb), or
# [your own models and data](07_bring_your_own_model.ipynb).

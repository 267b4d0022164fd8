# %% [markdown]
# # Distillation policies
#
# A *distillation policy* decides the student's target per example: the label,
# the teacher's output, or a mix of the two. This tutorial trains the same small
# student with every policy of the package, from the same initial weights and
# on the same teacher logits, compares the cascades, and tests whether their
# differences are more than chance. It takes about two minutes.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
x, y = data.arrays("train", 30_000)
x_test, y_test = data.arrays("test")
print(len(x), "images to train with,", len(x_test), "to report on")

# %% [markdown]
# The teacher is trained on 20,000 images. The student is trained on another
# 10,000, a *transfer set* that is not part of the teacher's training data; the
# reason is shown below.

# %%
import keras
import matplotlib.pyplot as plt
from keras import layers

plt.style.use("tableau-colorblind10")
x_teacher, y_teacher = x[:20_000], y[:20_000]
x_transfer, y_transfer = x[20_000:], y[20_000:]

# %% [markdown]
# ## A teacher
#
# Any Keras classifier can be the teacher. This one is trained
# until it is right on nearly all of its training images.

# %%
keras.utils.set_random_seed(0)
teacher = keras.Sequential(
    [
        keras.Input(data.input_shape),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
        layers.Conv2D(64, 3, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(128, activation="relu"),
        layers.Dense(data.classes),
    ]
)

# %%
epochs, batch_size = 16, 128
steps = epochs * len(x_teacher) // batch_size
teacher.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
teacher.fit(
    x_teacher, y_teacher, batch_size=batch_size, epochs=epochs, verbose=0
)
for name, split in {
    "its own training images": (x_teacher, y_teacher),
    "the transfer set": (x_transfer, y_transfer),
}.items():
    _, accuracy = teacher.evaluate(*split, batch_size=500, verbose=0)
    print(f"teacher on {name}: {accuracy:.1%} right")

# %% [markdown]
# ## Cached teacher logits
#
# Nine students are trained below, for ten epochs each. `cache_teacher_logits`
# runs the teacher once and stores its logits on disk; without a path, for as
# long as the cache is in use. They are looked up by the content of the image,
# so shuffling cannot mismatch them.

# %%
cache = kc.cache_teacher_logits(x_transfer, teacher)
own_cache = kc.cache_teacher_logits(x_teacher, teacher)
test_cache = kc.cache_teacher_logits(x_test, teacher)

# %% [markdown]
# ## Why a transfer set
#
# The *margin* is the teacher's largest probability minus its second largest.
# Policies that select examples by margin need margins that reflect how hard an
# example is. On its own training images a teacher is overconfident. (`fit`
# prints a histogram of these margins too, unless `verbose=0`, and warns of a
# policy that selects nearly everything or nearly nothing.)

# %%
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for name, margins in {
    "images that it was trained on": own_cache.margins(),
    "transfer set": cache.margins(),
}.items():
    for threshold in (0.4, 0.6):
        selected = (margins > threshold).mean()
        print(f"{name}: {selected:.1%} are above {threshold}")
    axes.ecdf(margins, label=name)
axes.set(
    xlabel="teacher's margin",
    ylabel="share of images\nwith a smaller one",
    ylim=(0, 0.3),
    title="A teacher is more certain on its own training images",
)
axes.legend()
plt.show()

# %% [markdown]
# On its own images the teacher is nearly always right, so the student would
# learn from targets that are little more than the labels. On other images its
# margins are smaller, but they are still above 0.4 more often than the teacher
# is right: a margin is not a probability of being right. Where data is too
# scarce to hold some of it out, `kc.cross_fit_teacher_logits` trains several
# teachers, each on a part of the data, and computes logits for the other part.
#
# ## Targets of each policy
#
# - **cross-entropy**: always the label. No teacher (`oracle=True`).
# - **standard**, T=1 and T=2: the teacher's probabilities, at T=2 flattened.
# - **combined**: the teacher's probabilities and the label, as two losses.
# - **margin**: the teacher where its margin is above 0.4, elsewhere the
#   smoothed label.
# - **class-specific**: the teacher if the label is in-domain, else the smoothed
#   label.
# - **abstain**: the teacher if the label is in-domain, else a reject class,
#   which is an output of its own.
# - **cascade-aware**: the teacher, on examples that at least one of the two
#   models gets right.
# - **Gatekeeper**, a second stage: the label where the student is right, a
#   uniform distribution where it is wrong.
#
# *In-domain* are the classes that the student is trained to handle: here all
# but the three that look most alike, pullover, coat and shirt.

# %%
in_domain = [0, 1, 3, 5, 7, 8, 9]
print("left to the teacher:", [data.class_names[c] for c in (2, 4, 6)])

label_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
policies = {
    "cross-entropy": kc.distillation.StandardDistillation(oracle=True),
    "standard, T=1": kc.distillation.StandardDistillation(),
    "standard, T=2": kc.distillation.StandardDistillation(temperature=2.0),
    "combined": kc.distillation.CombinedDistillation("standard", [label_loss]),
    "margin": kc.distillation.MarginDistillation(0.4, label_smoothing=0.4),
    "class-specific": kc.distillation.ClassSpecificDistillation(
        in_domain, label_smoothing=0.4
    ),
    "abstain": kc.distillation.AbstainDistillation(in_domain),
    "cascade-aware": kc.distillation.CascadeAwareDistillation(),
}

# %% [markdown]
# ## Nine students
#
# All students have about 2,000 weights, the same seed and the same ten epochs.
# An abstain student has fewer outputs (the in-domain classes and one to
# abstain) and its own gate; all others have the margin gate.


# %%
def train(policy, gate="margin", epochs=10):
    keras.utils.set_random_seed(0)
    outputs = policy.student_outputs(data.classes)
    student = kc.models.image_student(data.input_shape, outputs, width=2)
    cascade = kc.Cascade(teacher, student, policy, gate)
    cascade.compile(keras.optimizers.Adam(0.01))
    fit(cascade, epochs)
    return cascade


def fit(cascade, epochs):
    cascade.fit(
        x_transfer, y_transfer, batch_size=128, epochs=epochs,
        teacher_logits=cache, verbose=0,
    )  # fmt: skip


# %%
cascades = {
    name: train(policy, gate="abstain" if name == "abstain" else "margin")
    for name, policy in policies.items()
}

# %% [markdown]
# Gatekeeper is a second stage: eight epochs of distillation, then two of
# Gatekeeper. Set `distillation`, and `fit` continues with it.

# %%
cascade = train(policies["standard, T=1"], epochs=8)
cascade.distillation = kc.distillation.Gatekeeper(alpha=0.5)
fit(cascade, epochs=2)
cascades["Gatekeeper"] = cascade

# %% [markdown]
# ## Comparison
#
# `judge` returns, per test image, the score and which of the two models is
# right; with cached logits the teacher does not run again. From these results
# follows the *deferral curve*: the cascade's accuracy for every share of
# delegated images.

# %%
results = {
    name: cascade.judge(
        (x_test, y_test), batch_size=500, teacher_logits=test_cache
    )
    for name, cascade in cascades.items()
}
budgets = (0.1, 0.2, 0.3)
print(f"{'delegated':16}{0:8.0%}" + "".join(f"{b:8.0%}" for b in budgets))
for name, one in results.items():
    curve = one.deferral_curve()
    row = [curve.student_accuracy, *map(curve.accuracy_at, budgets)]
    print(f"{name:16}" + "".join(f"{100 * value:8.1f}" for value in row))
print(f"{'teacher alone':16}{100 * curve.teacher_accuracy:8.1f}")

# %% [markdown]
# The relevant column is the one with the delegation rate that you can afford.
# The abstain student has a low accuracy at low rates because it can never be
# right about three classes of ten: it has to delegate those images. It is
# suited to data where such classes are rare.
#
# ## Confidence intervals of the differences
#
# A difference of a few tenths of a point can be due to the choice of test
# images. `kc.evaluation.compare` resamples the images, the same ones for both
# cascades, and computes an interval for each difference. The baseline is the
# student that is trained without a teacher.

# %%
against = {
    name: kc.evaluation.compare(
        one, results["cross-entropy"], budgets=budgets, resamples=500
    )["differences"][-len(budgets) :]
    for name, one in results.items()
    if name != "cross-entropy"
}
for name, differences in against.items():
    cells = [
        f"{100 * d['difference']:+.1f} ({100 * d['low']:+.1f} to "
        f"{100 * d['high']:+.1f}){'*' if d['differs'] else ' '}"
        for d in differences
    ]
    print(f"{name:16}" + "".join(f"{cell:>24}" for cell in cells))

# %%
cells = [d for differences in against.values() for d in differences]
above = sum(d["low"] > 0 for d in cells)
below = sum(d["high"] < 0 for d in cells)
print(
    f"Of {len(cells)} differences to cross-entropy, {above} are shown to be "
    f"above 0,\n{below} below, and {len(cells) - above - below} do not differ "
    "significantly from 0."
)

# %% [markdown]
# The stars mark intervals without 0. The intervals are not corrected for
# multiple comparisons: among two dozen comparisons of equals, one star is
# expected. They state that *these two students* differ; another seed would
# train two others. To compare ways of training, the training must be repeated,
# as [the paper's notebook](08_the_paper.ipynb) does.
#
# In our runs on this data no policy had a relevant advantage over the label
# alone. Selection is expected to help with many classes, skewed traffic and a
# tiny student; measured on 77 text classes, with every policy tuned alike, it
# [did not](../docs/skewed_traffic.md). A policy is a setting to compare with
# plain training on your data, not a guarantee.

# %%
styles = ["-", "--", "-.", ":", "-", "--", "-.", ":", "-"]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(11, 4.5), layout="constrained", width_ratios=(3, 2)
)
for (name, one), style in zip(results.items(), styles, strict=True):
    curve = one.deferral_curve()
    share, accuracy = 100 * curve.delegation_rate, 100 * curve.accuracy
    left.plot(share, accuracy, style, label=name)
left.set(
    xlim=(0, 50), ylim=(80, None),
    xlabel="share of images sent to the teacher (%)",
    ylabel="accuracy of the cascade (%)",
    title="Deferral curves of the same student",
)  # fmt: skip
left.legend(fontsize=8)
for row, differences in enumerate(against.values()):
    ends = [100 * differences[1][end] for end in ("low", "high")]
    right.plot(ends, [row, row], lw=3, color=f"C{row + 1}")
right.axvline(0, color="black", lw=1)
right.set_yticks(range(len(against)), list(against))
right.set(
    xlabel="points against cross-entropy, at 20 % delegated",
    title=f"{above} of {len(cells)} differences shown above 0",
)
right.invert_yaxis()
plt.show()

# %% [markdown]
# **Next:** a threshold on such a curve, with a guarantee, in
# [03 A threshold with a guarantee](03_a_threshold_with_a_guarantee.ipynb); the
# paper behind the margin and class-specific policies, seed by seed, in
# [08 The paper](08_the_paper.ipynb).

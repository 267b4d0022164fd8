# %% [markdown]
# # A threshold you can guarantee
#
# The gate's *threshold* decides which images the student answers and which
# go to the teacher. It is chosen on calibration examples, and what you want
# to know is what it will do on others. Here you will see why the obvious
# threshold breaks its guarantee on half or more of all calibration sets, what
# `confidence=` adds and what that costs, what happens when nothing can meet
# your wish, and when a guarantee ends. It takes about two minutes.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
x, y = data.arrays("train")
x_cal, y_cal = data.arrays("calibration")
x_test, y_test = data.arrays("test")

# %% [markdown]
# A small convolutional teacher and a tiny student, trained on 20,000 images.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers

plt.style.use("tableau-colorblind10")
keras.utils.set_random_seed(0)
x_train, y_train = x[:20_000], y[:20_000]
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
teacher.compile(
    keras.optimizers.Adam(),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
teacher.fit(x_train, y_train, batch_size=128, epochs=8, verbose=0)
student = kc.models.image_student(data.input_shape, data.classes, width=2)
cascade = kc.Cascade(teacher, student)
cascade.compile(keras.optimizers.Adam(0.01))
cascade.fit(x_train, y_train, batch_size=128, epochs=5, verbose=0)
print("weights:", teacher.count_params(), "and", student.count_params())

# %% [markdown]
# ## The obvious threshold
#
# Say the cascade may be one point less accurate than the teacher.
# `MaxAccuracyDrop(0.01)` picks the threshold that delegates least and still
# has that on the calibration examples, here 1,000 images that nothing was
# trained on.

# %%
few = x_cal[:1_000], y_cal[:1_000]
print(cascade.calibrate(few, kc.MaxAccuracyDrop(0.01)))

# %% [markdown]
# The last line says it: nothing is guaranteed. `evaluate` shows what the same
# threshold does on the 10,000 test images.


# %%
def report(name="on test images", traffic=None):
    found = cascade.evaluate(
        x_test, y_test, traffic=traffic,
        batch_size=500, verbose=0, return_dict=True,
    )  # fmt: skip
    drop = found["teacher_accuracy"] - found["cascade_accuracy"]
    print(
        f"{name}: {100 * drop:.2f} points below the teacher, "
        f"{found['delegation_rate']:.1%} delegated"
    )


report()

# %% [markdown]
# ## Four hundred calibration sets
#
# One test tells little, so we repeat the whole thing. 30,000 images that
# were not trained on play the world: we draw 1,000 of them (each time from
# all, so that they are independent), fit a threshold, and look up what it
# really does in the world; then again, 400 times.
# `fit_threshold` and `measure_threshold` need no models, only scores and who
# was right, which `judge` collects once.

# %%
pool = cascade.judge((x[20_000:], y[20_000:]), batch_size=500)
world = (pool.scores, pool.student_correct, pool.teacher_correct)
rng = np.random.default_rng(0)


def draw(examples):
    rows = rng.integers(len(pool), size=examples)
    return [column[rows] for column in world]


# %%
def really(case, objective):
    point = kc.calibration.fit_threshold(*case, objective)
    return kc.calibration.measure_threshold(*world, point.threshold)


asked = {
    "without confidence": kc.MaxAccuracyDrop(0.01),
    "confidence=0.95": kc.MaxAccuracyDrop(0.01, confidence=0.95),
}
drops = {name: [] for name in asked}
for _ in range(400):
    case = draw(1_000)
    for name, objective in asked.items():
        drops[name].append(really(case, objective).accuracy_drop)
broken = {name: np.mean(np.array(d) > 0.01) for name, d in drops.items()}
for name, share in broken.items():
    print(f"{name}: {share:.1%} of 400 thresholds lose more than a point")

# %%
figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
for name, values in drops.items():
    axes.hist(
        100 * np.array(values), bins=np.arange(-0.5, 3, 0.1), alpha=0.7,
        label=f"{name}: {broken[name]:.0%} broken",
    )  # fmt: skip
axes.axvline(1, color="black", lw=1.5, ls="--", label="what was asked for")
axes.set(
    xlabel="points that the cascade really loses against the teacher",
    ylabel="calibration sets",
    title="At most one point was asked for: "
    f"{broken['without confidence']:.0%} lose more, "
    f"with confidence {broken['confidence=0.95']:.0%}",
)
axes.legend()
plt.show()

# %% [markdown]
# The obvious threshold stops exactly where the calibration examples are used
# up: where they happen to be kind it has gone too far. That is at least as
# likely as not, since of many thresholds it takes the luckiest. Asking for half
# a point to be on the safe side only moves the blue bars, and nobody knows how
# far is far enough.
#
# With `confidence=0.95` every threshold has to pass an exact test: would
# calibration examples look this good by luck, if the cascade lost more than
# a point? Testing begins where everything is delegated, which is safe, and
# goes down threshold by threshold until the first one fails. To break the
# guarantee, the test must err at the first threshold that is too low, and it
# does so with a probability of at most 5 %. Trying many thresholds therefore
# costs nothing extra, and nothing is assumed about the models: only that
# calibration examples and traffic are drawn from the same world.
#
# ## What a guarantee costs
#
# Certainty is bought with delegated images, or with calibration examples.

# %%
best = kc.calibration.fit_threshold(*world, asked["without confidence"])
print(f"if the world were known: {best.delegation_rate:.1%} delegated")
for examples in (500, 1_000, 2_000, 5_000, 10_000):
    rates = [
        really(draw(examples), asked["confidence=0.95"]).delegation_rate
        for _ in range(50)
    ]
    print(f"{examples:6,} examples: {np.mean(rates):.1%} delegated on average")

# %% [markdown]
# Ten thousand calibration images are at hand, so the cascade gets them all.

# %%
guaranteed = kc.MaxAccuracyDrop(0.01, confidence=0.95)
print(cascade.calibrate((x_cal, y_cal), guaranteed))
report()

# %% [markdown]
# ## Other guarantees
#
# The same goes for other objectives. A list asks for all of them at once and
# gets the cheapest threshold that meets every one. Two guarantees of 95 % hold
# both together with at least 90 %; `point.confidence` says so.

# %%
for objective in (
    kc.MinAccuracy(0.87, confidence=0.95),
    kc.MaxDelegationRate(0.3, confidence=0.95),
    [guaranteed, kc.MaxDelegationRate(0.5, confidence=0.95)],
):
    print(objective, cascade.calibrate((x_cal, y_cal), objective), sep="\n")
    report()
    print()

# %% [markdown]
# ## When nothing meets it
#
# A wish that cannot be met is an error, and the threshold stays as it was.
# The message says what is attainable, or how many examples it would take:
# too few examples, a teacher that is not good enough, a close call, and two
# wishes that contradict each other.

# %%
hundred = x_cal[:100], y_cal[:100]
for examples, objective in (
    (hundred, guaranteed),
    (few, kc.MinAccuracy(0.95, confidence=0.95)),
    (few, kc.MinAccuracy(0.88, confidence=0.95)),
    (few, [guaranteed, kc.MaxDelegationRate(0.1, confidence=0.95)]),
):
    try:
        print(cascade.calibrate(examples, objective))
    except ValueError as error:
        print(error, end="\n\n")

# %% [markdown]
# A guarantee also needs examples that nothing was chosen on before. The cascade
# remembers what it was trained and calibrated on, and refuses to mix that up
# with what it reports on.

# %%
try:
    cascade.evaluate(x_cal, y_cal, verbose=0)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Other traffic
#
# Your traffic is seldom the data set. Suppose that in winter most requests
# are pullovers, coats and shirts, which the student confuses, and that the
# teacher can take at most 30 % of the requests. A `TrafficMix` says how often
# each class comes, and `evaluate` takes one.

# %%
frequencies = np.full(data.classes, 0.1 / 7)
frequencies[[2, 4, 6]] = 0.3
winter = kc.TrafficMix(frequencies)

spend = kc.MaxDelegationRate(0.3, confidence=0.95)
print(cascade.calibrate((x_cal, y_cal), spend))
report()
report("in winter", winter)

# %% [markdown]
# The guarantee was made for the data set's traffic and says nothing about
# winter. If you know the mix beforehand, calibrate for it. The guarantee then
# rests on the examples that look like winter, which are fewer.

# %%
point = cascade.calibrate((x_cal, y_cal), spend, traffic=winter)
print(point)
print(f"from {point.effective_examples:,.0f} examples like winter's")
report("in winter", winter)

# %% [markdown]
# ## When the traffic changes unasked
#
# Mostly nobody tells you. `DriftMonitor` watches the scores on the device,
# which needs no labels, and says when they are no longer those of the
# calibration. The chance that it *ever* cries wolf is at most
# `false_alarm_rate`, however long it runs. We calibrate for the data set
# again, export the bundle, and send requests: first the data set's traffic,
# then winter.

# %%
cascade.calibrate((x_cal, y_cal), spend)
bundle = cascade.export("bundle")
edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
monitor = kc.DriftMonitor(bundle, false_alarm_rate=0.01)

as_usual = rng.integers(len(x_test), size=3_000)
share = winter.weights(y_test) / len(y_test)
in_winter = rng.choice(len(x_test), size=1_000, p=share)
requests = np.concatenate([as_usual, in_winter])

# %%
seen, e_values, alarm = [], [], None
for rows in np.split(requests, len(requests) // 50):
    status = monitor.update(edge.predict(x_test[rows]))
    seen.append(status.examples)
    e_values.append(status.e_values["score_distribution"])
    if alarm is None and not status.guarantee_holds:
        alarm = status
print(f"winter begins after {len(as_usual):,} requests")
print(f"alarm after {alarm.examples:,}: {alarm.reason}")

# %% [markdown]
# The alarm says that the guarantee no longer stands: what was measured is about
# other traffic. It may hold all the same, or be broken already. The share of
# delegated requests is seen without labels, so the reason names it; accuracy
# is not. The way back is new calibration examples from the new traffic.

# %%
limit = alarm.alarm_thresholds["score_distribution"]
figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
axes.semilogy(seen, e_values, lw=2, label="e-value of the scores' test")
axes.axhline(limit, color="black", ls="--", label="alarm")
axes.axvspan(len(as_usual), len(requests), color="0.9", label="winter")
axes.set(
    xlabel="requests", ylabel="value of the test martingale",
    title="The guarantee ends "
    f"{alarm.examples - len(as_usual):,} requests into the winter",
)  # fmt: skip
axes.legend(loc="upper left")
plt.show()

# %% [markdown]
# **Next:** the student that ships is smaller than the one that was trained,
# and needs a threshold of its own:
# [04 Shrinking the student](04_shrinking_the_student.ipynb).

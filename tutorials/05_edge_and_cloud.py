# %% [markdown]
# # Edge and cloud: who answered, and what when the cloud is gone
#
# The student answers on the device, the teacher somewhere else, and somewhere
# else fails: it restarts, it hangs, the network goes away. Here you run the
# pair against a real server, break the server on purpose in three ways, and
# see what becomes of every row. Nothing is trained; it takes half a minute.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
x, y = data.arrays("test", 2_000)
bundle = "../saved_models/fashion_mnist"

# %% [markdown]
# The bundle is the one that comes with this project: a student of 29 kB in 8
# bits, and a teacher as SavedModel. `EdgeCascade` opens it without TensorFlow
# or Keras, after checking every file against the manifest.

# %%
device = kc.runtime.EdgeCascade.load(bundle)
point = device.operating_point
print(device.operating_points, f"threshold {point['threshold']:.3f}")
print(f"expected to delegate {point['delegation_rate']:.1%}")
alone = device.predict_alone(x)
print(f"student alone: accuracy {(alone.labels == y).mean():.4f}")

# %% [markdown]
# ## The teacher, behind three protocols
#
# `ServerProcess` is `keras-cascade serve` in a process of its own. It speaks
# TensorFlow Serving's REST form and the Open Inference Protocol over HTTP and
# gRPC, so what you see here works against TensorFlow Serving, Triton and KServe
# as well. The URL says which protocol is spoken.

# %%
from keras_cascade.serving import ServerProcess

with ServerProcess(bundle, "server.log") as server:
    urls = {
        "TensorFlow Serving's REST": server.url,
        "v2 over HTTP": server.url.replace("/v1/", "/v2/"),
        "v2 over gRPC": server.grpc_url,
    }
    for protocol, url in urls.items():
        with kc.runtime.EdgeCascade.load(bundle, url) as edge:
            answer = edge.predict(x)
        right = (answer.labels == y).mean()
        print(f"{protocol:26}", answer.source_counts, right)

# %% [markdown]
# Every row says who answered it: `edge` was kept, `cloud` was answered by the
# teacher. The three protocols give the same answers, and the cascade is more
# accurate than its student.
#
# ## First break: the server is gone
#
# The block has ended, so the server has stopped. `on_failure` declares what a
# delegated row becomes when nobody can be asked. There is no default that
# hides it: `"answer"` lets the student answer and *says* `edge_fallback`.

# %%
for policy in ("answer", "abstain", "raise"):
    with kc.runtime.EdgeCascade.load(bundle, url, on_failure=policy) as edge:
        try:
            answer = edge.predict(x)
            print(policy, answer.source_counts)
        except kc.runtime.TeacherError as error:
            print(policy, "->", type(error).__name__)

# %% [markdown]
# | policy | a delegated row without a teacher | good for |
# |---|---|---|
# | `"answer"` | the student's label, `edge_fallback` | any answer beats none |
# | `"abstain"` | label −1, `abstained` | a wrong answer costs more than none |
# | `"raise"` | an error for the whole call | someone upstream decides |
# | `"queue"` | label −1 and an id, kept on disk | late is better than never |
#
# ## Second break: late is better than never
#
# With `"queue"` delegated rows wait on disk until the teacher can be asked.

# %%
device = kc.runtime.EdgeCascade.load(
    bundle, url, on_failure="queue", queue="waiting"
)
answer = device.predict(x)
print(answer.source_counts)
place = {name: row for row, name in enumerate(answer.ids) if name}
labels = answer.labels.copy()
device.close()

# %% [markdown]
# The device restarts, the teacher comes back at another address, and the rows
# are still there. Each answer is handed out once.

# %%
with (
    ServerProcess(bundle, "server.log") as server,
    kc.runtime.EdgeCascade.load(
        bundle, server.url, on_failure="queue", queue="waiting"
    ) as device,
):
    print(device.send_queued(), "rows answered by the teacher")
    with device.queued_answers() as late:
        for name, label in zip(late.ids, late.labels, strict=True):
            labels[place.pop(name)] = label
    waiting = len(device.queue)

print(f"{len(place)} rows without an answer, {waiting} waiting")
print(f"accuracy {(labels == y).mean():.4f}")

# %% [markdown]
# Nothing was lost, nothing was counted twice, and the accuracy is that of the
# cascade as if nothing had happened.
#
# ## Third break: the server hangs
#
# The worst server is one that accepts a request and never answers. Every
# request has a `timeout`, a failed one is tried again a few times (`retries`),
# and after `failures_to_open` failures in a row a **circuit breaker** opens:
# for `seconds_open` nobody is asked, so the device stays fast. Then one request
# finds out whether the teacher is back.
#
# We freeze the server's process for two seconds and let it go on, while the
# device sends a row that the student is unsure of, again and again.

# %%
import os
import signal
import time

unsure = x[alone.score.argmin()]
calls = []


def ask_for(seconds):
    """Sends the row again and again; notes when, how long and who."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        begun = time.monotonic()
        answer = edge.predict(unsure)
        spent = time.monotonic() - begun
        calls.append((begun, 1000 * spent, *answer.source_counts))
        time.sleep(0.03)


with (
    ServerProcess(bundle, "server.log") as server,
    kc.runtime.EdgeCascade.load(
        bundle, server.grpc_url, timeout=0.25, retries=1,
        failures_to_open=3, seconds_open=0.6,
    ) as edge,
):  # fmt: skip
    ask_for(1.0)
    frozen = time.monotonic()
    os.kill(server.pid, signal.SIGSTOP)
    ask_for(2.0)
    os.kill(server.pid, signal.SIGCONT)
    thawed = time.monotonic()
    ask_for(1.5)

sources = [source for *_, source in calls]
print({source: sources.count(source) for source in set(sources)})

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
axes.axvspan(
    frozen - calls[0][0], thawed - calls[0][0], color="0.9", label="frozen"
)
looks = {"cloud": ("#0f766e", "o"), "edge_fallback": ("#b45309", "x")}
for source, (color, marker) in looks.items():
    shown = [(a - calls[0][0], b) for a, b, by in calls if by == source]
    axes.scatter(
        *zip(*shown, strict=True), c=color, marker=marker, label=source
    )
axes.set_yscale("log")
axes.set_xlabel("time (s)")
axes.set_ylabel("one call takes (ms)")
axes.legend()
title = axes.set_title("A hanging server costs a few slow calls, not all")

# %% [markdown]
# The slow crosses are the requests that ran into the time-out; between them the
# breaker is open and the student answers at once. After the server goes on, the
# next attempt finds it, and answers come from the cloud again.
#
# [What each policy guarantees](../docs/failures.md), and
# [how to deploy the two ends](../deploy/README.md). Next:
# [texts](06_text.ipynb).

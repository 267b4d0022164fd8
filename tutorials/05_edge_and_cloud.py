# %% [markdown]
# # Edge and cloud: serving the teacher, and failures
#
# The student runs on the device, the teacher on a server, which can fail: it
# restarts, it hangs, the network is down. This tutorial runs the pair against a
# real server, injects three kinds of faults, and shows the result of every row.
# Nothing is trained; it takes half a minute.

# %%
import keras_cascade as kc

data = kc.datasets.load("fashion_mnist")
x, y = data.arrays("test", 2_000)
bundle = "../saved_models/fashion_mnist"

# %% [markdown]
# The bundle comes with this project: a student of 29 kB in 8 bits, and a
# teacher as SavedModel. `EdgeCascade` checks every file against the manifest
# and loads the student without TensorFlow or Keras.

# %%
device = kc.runtime.EdgeCascade.load(bundle)
point = device.operating_point
print(device.operating_points, f"threshold {point['threshold']:.3f}")
print(f"expected to delegate {point['delegation_rate']:.1%}")
alone = device.predict_alone(x)
print(f"student alone: accuracy {(alone.labels == y).mean():.4f}")

# %% [markdown]
# ## The teacher over three protocols
#
# `ServerProcess` runs `keras-cascade serve` in a child process. It implements
# TensorFlow Serving's REST form and the Open Inference Protocol over HTTP and
# gRPC, so the same code works with TensorFlow Serving, Triton and KServe. The
# URL selects the protocol.

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
        accuracy = (answer.labels == y).mean()
        print(f"{protocol:26}", answer.source_counts, accuracy)

# %% [markdown]
# `source` states per row which model answered: `edge` is the student, `cloud`
# the teacher. The three protocols give the same answers, and the cascade is
# more accurate than its student.
#
# ## First fault: the server is down
#
# The `with` block has ended, so the server has stopped. `on_failure` declares
# the result of a delegated row when the teacher does not answer. No policy
# hides the failure: with the default, `"answer"`, the student answers and the
# source is `edge_fallback`.

# %%
for policy in ("answer", "abstain", "raise"):
    with kc.runtime.EdgeCascade.load(bundle, url, on_failure=policy) as edge:
        try:
            answer = edge.predict(x)
            print(policy, answer.source_counts)
        except kc.runtime.TeacherError as error:
            print(policy, "->", type(error).__name__)

# %% [markdown]
# | policy | a delegated row without a teacher | use case |
# |---|---|---|
# | `"answer"` | the student's label, `edge_fallback` | any answer beats none |
# | `"abstain"` | label −1, `abstained` | a wrong answer costs more than none |
# | `"raise"` | an error for the whole call | the caller handles failures |
# | `"queue"` | label −1 and an id, stored on disk | a late answer is useful |
#
# ## Second fault: a restart of the device
#
# With `"queue"` delegated rows are stored on disk until the teacher is
# available.

# %%
device = kc.runtime.EdgeCascade.load(
    bundle, url, on_failure="queue", queue="waiting"
)
answer = device.predict(x)
print(answer.source_counts)
row_of = {name: row for row, name in enumerate(answer.ids) if name}
labels = answer.labels.copy()
device.close()

# %% [markdown]
# After a restart of the device, with the teacher at another address, the rows
# are still queued. Each answer is returned once.

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
            labels[row_of.pop(name)] = label
    waiting = len(device.queue)

print(f"{len(row_of)} rows without an answer, {waiting} waiting")
print(f"accuracy {(labels == y).mean():.4f}")

# %% [markdown]
# No row is lost, none is answered twice, and the accuracy is that of the
# cascade without a fault.
#
# ## Third fault: the server hangs
#
# A hanging server accepts a request and never answers. Every request has a
# `timeout`, a failed one is retried (`retries`), and after `failures_to_open`
# consecutive failures a **circuit breaker** opens: for `seconds_open` no
# request is sent, so the device stays fast. Then a single request tests whether
# the teacher is back.
#
# We stop the server's process for two seconds and resume it, while the device
# repeatedly sends a row with a low score.

# %%
import os
import signal
import time

row = x[alone.score.argmin()]
calls = []


def predict_for(seconds):
    """Predicts the row repeatedly; records time, latency and source."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        answer = edge.predict(row)
        latency = time.monotonic() - start
        calls.append((start, 1000 * latency, *answer.source_counts))
        time.sleep(0.03)


with (
    ServerProcess(bundle, "server.log") as server,
    kc.runtime.EdgeCascade.load(
        bundle, server.grpc_url, timeout=0.25, retries=1,
        failures_to_open=3, seconds_open=0.6,
    ) as edge,
):  # fmt: skip
    predict_for(1.0)
    stopped = time.monotonic()
    os.kill(server.pid, signal.SIGSTOP)
    predict_for(2.0)
    os.kill(server.pid, signal.SIGCONT)
    resumed = time.monotonic()
    predict_for(1.5)

sources = [source for *_, source in calls]
print({source: sources.count(source) for source in set(sources)})

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
axes.axvspan(
    stopped - calls[0][0], resumed - calls[0][0], color="0.9", label="stopped"
)
markers = {"cloud": ("#0f766e", "o"), "edge_fallback": ("#b45309", "x")}
for source, (color, marker) in markers.items():
    shown = [(a - calls[0][0], b) for a, b, by in calls if by == source]
    axes.scatter(
        *zip(*shown, strict=True), c=color, marker=marker, label=source
    )
axes.set_yscale("log")
axes.set_xlabel("time (s)")
axes.set_ylabel("latency per call (ms)")
axes.legend()
title = axes.set_title("A hanging server costs a few slow calls, not all")

# %% [markdown]
# The slow crosses are requests that ran into the timeout; between them the
# breaker is open and the student answers at once. After the server resumes, the
# next attempt succeeds, and the teacher answers again.
#
# See also [failure policies](../docs/failures.md) and
# [deployment](../deploy/README.md). **Next:** [text cascades](06_text.ipynb).

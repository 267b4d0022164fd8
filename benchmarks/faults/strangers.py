"""The teacher exchanged for another one, in mid-traffic, on four protocols.

    python -m benchmarks.faults.strangers --json [--quick]

Edge cascades ask servers through a proxy, from several threads. Every few
milliseconds the proxy's connections are cut and go on to another server: the
bundle's own teacher, the same with its classes in another order, one with
other weights, one with another number of classes. `stating` servers name
their teacher in each answer, as `keras-cascade serve` does, and are exchanged
without a new connection too; `silent` ones state nothing, as TensorFlow
Serving, Triton and KServe, and are known by the probe rows alone; every
second of their exchanges is a new version on the same connections.

Each row that is marked `cloud` is compared with the bundle's own teacher:
`stranger_rows` have the answer of another one. `cloud_rows`: all so marked.
"""

import collections
import contextlib
import random
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.faults.proxy import TamperingProxy
from benchmarks.faults.served_teacher import (
    PROTOCOLS,
    ServedTeacher,
    strangers,
)
from benchmarks.harness import options, show
from keras_cascade.bundle import Bundle
from keras_cascade.runtime import EdgeCascade, SavedModelTeacher

SECONDS, QUICK = 30.0, 2.0  # per protocol and kind of server
THREADS = 3
TOLERANCE = 1e-3  # of a probability
STAY = 0.04  # seconds on average, until the next exchange


class Exchanges:
    """Servers of the own teacher and of strangers, behind two proxies.

    Args:
        bundle: `Bundle`.
        own: function from a dict of inputs to logits.
        stating: bool, whether the servers state their identity.
        stack: `ExitStack`.
    """

    def __init__(self, bundle, own, stating, stack):
        classes = len(bundle.classes)
        others = strangers(own, classes)
        identities = [bundle.teacher_identity, *(c * 64 for c in "abc")]
        self._teachers = list(
            zip(
                [own, *others.values()],
                identities if stating else [None] * 4,
                strict=True,
            )
        )
        self._servers = [
            stack.enter_context(ServedTeacher(*one)) for one in self._teachers
        ]
        self._proxies = [
            stack.enter_context(TamperingProxy(1.0)) for _ in range(2)
        ]
        self.http, self.grpc = (proxy.port for proxy in self._proxies)
        self._dice = random.Random(0)
        self._versions = 1
        self._switch(0)

    def exchange(self):
        """Exchanges the teacher once, in one of the two ways."""
        # The own one half of the time, so that there is something to count.
        index = self._dice.choice((0, 0, 0, 1, 2, 3))
        if self._dice.random() < 0.5:
            self._switch(index)
            return
        # One assignment, so that no answer has one's logits and the other's
        # identity; a new version as a server states it.
        server = self._servers[self._at]
        self._versions += 1
        server.exchange(*self._teachers[index], str(self._versions))

    def _switch(self, index):
        self._at = index
        server = self._servers[index]
        self._versions += 1
        server.exchange(*self._teachers[index], str(self._versions))
        for proxy, port in zip(
            self._proxies, (server.http, server.grpc), strict=True
        ):
            proxy.switch(port)


def measure_one(path, protocol, stating, seconds):
    """Runs one protocol against one kind of server; returns its counts."""
    bundle = Bundle.load(path)
    own = SavedModelTeacher(bundle.teacher_folder).logits
    lock = threading.Lock()

    def locked(inputs):
        with lock:
            return own(inputs)

    x = np.random.default_rng(1).normal(size=(256, 12)).astype("float32")
    logits = own({"input": x}).astype("float64")
    truth = np.exp(logits - logits.max(1, keepdims=True))
    truth /= truth.sum(1, keepdims=True)
    counts, over = collections.Counter(), threading.Event()
    with contextlib.ExitStack() as stack:
        servers = Exchanges(bundle, locked, stating, stack)
        url, arguments = PROTOCOLS[protocol]
        edge = stack.enter_context(
            EdgeCascade.load(
                path,
                url.format(http=servers.http, grpc=servers.grpc),
                timeout=5.0,
                retries=1,
                failures_to_open=10**9,
                **arguments,
            )
        )

        def work(seed):
            rng = np.random.default_rng(seed)
            while not over.is_set():
                rows = rng.integers(0, len(x), rng.integers(1, 5))
                found = edge.predict(x[rows])
                cloud = found.source == "cloud"
                gaps = np.abs(found.probabilities - truth[rows]).max(axis=1)
                with lock:
                    counts["cloud_rows"] += int(cloud.sum())
                    counts["other_rows"] += int((~cloud).sum())
                    counts["stranger_rows"] += int(
                        (cloud & (gaps > TOLERANCE)).sum()
                    )

        threads = [
            threading.Thread(target=work, args=(seed,))
            for seed in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        dice = random.Random(1)
        while time.monotonic() < end:
            time.sleep(dice.random() * 2 * STAY)
            servers.exchange()
            counts["exchanges"] += 1
        over.set()
        for thread in threads:
            thread.join()
    keys = ("stranger_rows", "cloud_rows", "other_rows", "exchanges")
    return {key: counts[key] for key in keys}


def measure(quick: bool) -> dict:
    """Runs the benchmark; returns its results as a dict."""
    # Exports with Keras, which the servers' tests need not load.
    from benchmarks.faults.__main__ import exported

    found = {}
    with tempfile.TemporaryDirectory() as name:
        path, _, _ = exported(Path(name))
        for protocol in PROTOCOLS:
            for kind in ("stating", "silent"):
                found[f"{protocol}_{kind}"] = measure_one(
                    path,
                    protocol,
                    kind == "stating",
                    QUICK if quick else SECONDS,
                )
    return {
        "stranger_rows": sum(one["stranger_rows"] for one in found.values()),
        "cloud_rows": sum(one["cloud_rows"] for one in found.values()),
        "exchanges": sum(one["exchanges"] for one in found.values()),
        "strangers_by_protocol": found,
    }


def main():
    """Runs the benchmark alone."""
    chosen = options(__doc__)
    show(measure(chosen.quick), chosen.json)


if __name__ == "__main__":
    main()

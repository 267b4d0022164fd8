"""Requests while the teacher is killed, slowed and replaced by a faulty one.

    python -m benchmarks.faults --json [--quick]

Edge cascades, one per protocol and failure policy, ask a real `keras-cascade
serve` through a proxy, from several threads. Between healthy stretches the
server is killed and started again, slowed to ten times the timeout, reset, cut
in half, replaced by noise, by nothing, or by a server whose every answer is
wrong. Every row of every answer is compared with what student and teacher
really answer: `lost` requests have no answer and no error of their policy,
`mislabelled` rows name the wrong source or carry the wrong answer,
`duplicated` queued rows are answered more than once. `recovery_over_interval`:
the longest time from a fault's end until a client sends a request that its
teacher answers, in intervals of the circuit breaker (one request every 5 ms,
so up to 1.003 is the resolution of the measurement); `threads_left` and
`descriptors_left`: leaks of closed clients, beyond those of the first ones.

Then follow `benchmarks.fuzz_server` and `benchmarks.fuzz_bundles`, which run
alone too: `fuzzed_requests`, `fuzzed_bundles` and `accepted_altered` are
theirs, `crashes` are of all three.

Then each of the modules `forks`, `strangers`, `exchanges`, `answers`,
`overload`, `silent`, `json_bodies` and `json_answers`, which run alone too
(`python -m benchmarks.faults.forks --json`) and say what their keys mean.
"""

import collections
import contextlib
import gc
import os
import signal
import tempfile
import time
from concurrent import futures
from pathlib import Path

import keras
import numpy as np
import psutil

import keras_cascade as kc
from benchmarks.faults import (
    answers,
    exchanges,
    faulty_grpc,
    faulty_http,
    forks,
    json_answers,
    json_bodies,
    overload,
    silent,
    strangers,
)
from benchmarks.faults.clients import Client, Load, Truth
from benchmarks.faults.proxy import TamperingProxy
from benchmarks.fuzz_bundles import fuzz_bundles
from benchmarks.fuzz_server import fuzz_server
from benchmarks.harness import options, show
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess

REQUESTS, QUICK = 20_000, 1_500
CLASSES, FEATURES, EXAMPLES = 5, 12, 512
TIMEOUT, INTERVAL = 0.25, 2.0
THREADS = 6
POLICIES = ("answer", "abstain", "raise", "queue")
URLS = {
    "v1": "http://127.0.0.1:{http}/v1/models/teacher",
    "v2": "http://127.0.0.1:{http}/v2/models/teacher",
    "grpc": "grpc://127.0.0.1:{grpc}/teacher",
}
MODULES = (
    forks,
    strangers,
    exchanges,
    answers,
    overload,
    silent,
    json_bodies,
    json_answers,
)
TAMPERED = ("slow", "reset", "half", "garbage", "refuse")
PATIENCE = 30.0  # seconds, for a recovery that does not come
RESOLUTION = 0.005  # seconds from one request to the next, until it comes


def exported(folder):
    """Exports a small cascade; returns its bundle, x and teacher's answers."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype("float32")

    def model(units):
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(units, activation="tanh"),
                layers.Dense(CLASSES),
            ]
        )

    cascade = kc.Cascade(model(64), model(4))
    cascade.compile()
    labels = rng.integers(0, CLASSES, EXAMPLES)
    cascade.calibrate((x, labels), kc.MaxDelegationRate(0.4))
    bundle = cascade.export(folder / "bundle")
    logits = cascade.teacher.predict(x, verbose=0)
    return bundle.path, x, keras.ops.convert_to_numpy(keras.ops.softmax(logits))


class Fleet:
    """Server, its proxies, faulty servers and clients."""

    def __init__(self, folder, stack):
        self._folder = folder
        self._generation = 0
        self.bundle, x, probabilities = exported(folder)
        self.truth = Truth(self.bundle, x, probabilities)
        enter = stack.enter_context
        self._running = enter(contextlib.ExitStack())
        self.http = enter(TamperingProxy(10 * TIMEOUT))
        self.grpc = enter(TamperingProxy(10 * TIMEOUT))
        self.faulty_http = enter(faulty_http.FaultyHttpServer(CLASSES))
        self.faulty_grpc = enter(faulty_grpc.FaultyGrpcServer(CLASSES))
        self.start()
        self.heal()

    def start(self):
        """Starts the server, or restarts it."""
        self._running.close()  # its pipe, its exit status
        server = ServerProcess(self.bundle, self._folder / "server.log")
        self.server = self._running.enter_context(server)

    def stop(self, how):
        """Ends the server by a signal."""
        os.kill(self.server.pid, how)

    def heal(self):
        """Connects both proxies to the real server."""
        self.http.switch(_port(self.server.url))
        self.grpc.switch(_port(self.server.grpc_url))

    def tamper(self, mode):
        """Lets both proxies corrupt the real server's answers."""
        self.http.switch(_port(self.server.url), mode)
        self.grpc.switch(_port(self.server.grpc_url), mode)

    def replace(self, http_fault, grpc_fault):
        """Connects both proxies to the faulty servers."""
        self.faulty_http.fault = http_fault
        self.faulty_grpc.fault = grpc_fault
        self.http.switch(self.faulty_http.port)
        self.grpc.switch(self.faulty_grpc.port)

    def clients(self):
        """Creates one client per protocol and policy."""
        clients = []
        self._generation += 1
        for protocol, url in URLS.items():
            for policy in POLICIES:
                name = f"{protocol}-{policy}"
                queue = {
                    "path": self._folder / f"{name}-{self._generation}.sqlite",
                    "max_rows": 1_000_000,
                }
                edge = EdgeCascade.load(
                    self.bundle,
                    teacher=url.format(
                        http=self.http.port, grpc=self.grpc.port
                    ),
                    on_failure=policy,
                    timeout=TIMEOUT,
                    seconds_open=INTERVAL,
                    queue=queue if policy == "queue" else None,
                )
                clients.append(Client(name, edge, self.truth))
        return clients


def _port(url):
    return int(url.split("/")[2].rpartition(":")[2])


def faults(fleet):
    """Yields `(name, inject, mend)` of every fault."""

    def killed(how):
        def mend():
            fleet.start()
            fleet.heal()

        return lambda: fleet.stop(how), mend

    for name, how in (("killed", signal.SIGKILL), ("stopped", signal.SIGTERM)):
        yield name, *killed(how)
    for mode in TAMPERED:
        yield mode, lambda mode=mode: fleet.tamper(mode), fleet.heal
    pairs = max(len(faulty_http.FAULTS), len(faulty_grpc.FAULTS))
    for number in range(pairs):
        pair = [
            kinds[number % len(kinds)]
            for kinds in (faulty_http.FAULTS, faulty_grpc.FAULTS)
        ]
        yield (
            " / ".join(pair),
            lambda pair=pair: fleet.replace(*pair),
            fleet.heal,
        )


def recovery(clients, truth):
    """Measures the recovery of the slowest client: `(seconds, name)`."""
    rows = np.flatnonzero(truth.delegated)[:1]
    started = time.monotonic()

    def wait(client):
        sent = started
        while not client.ask(rows):
            if sent - started > PATIENCE:
                raise RuntimeError(f"{client.name}: no recovery.")
            time.sleep(RESOLUTION)
            sent = time.monotonic()
        return sent - started, client.name

    with futures.ThreadPoolExecutor(len(clients)) as pool:
        return max(pool.map(wait, clients))


def held(process):
    """Counts threads by name and descriptors, after garbage collection.

    Threads of Python's have the name of the program, those of gRPC their own.
    """
    gc.collect()
    names = collections.Counter()
    for thread in process.threads():
        # One that has just ended is not there any more.
        with contextlib.suppress(OSError):
            file = Path(f"/proc/self/task/{thread.id}/comm")
            names[file.read_text().strip()] += 1
    return names, process.num_fds()


def survive(fleet, requests):
    """Injects every fault once, with new clients; closes them."""
    clients = fleet.clients()
    load = Load(clients, EXAMPLES, THREADS)
    load.run(len(clients) * 4)
    plan = list(faults(fleet))
    share = requests // (2 * len(plan))
    times = {}
    for fault, inject, mend in plan:
        inject()
        load.run(share)
        mend()
        times[fault] = recovery(clients, fleet.truth)
        load.run(share)
    late = collections.Counter()
    waiting = 0
    for client in clients:
        if client.edge.queue is not None:
            client.edge.send_queued()
            late.update(client.take_queued())
            waiting += len(client.edge.queue)
        client.edge.close()
    for client in clients:
        client.lose_unanswered(late)
    fleet.heal()
    return clients, times, late, waiting


def run(requests):
    """Runs the fault injection; returns its results as a dict."""
    process = psutil.Process()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        fleet = Fleet(Path(name), stack)
        survive(fleet, QUICK)
        before = held(process)
        clients, times, late, waiting = survive(fleet, requests)
        for client in clients:
            client.edge = None
        after = held(process)
    counts = sum((client.counts for client in clients), collections.Counter())
    sources = ("edge", "cloud", "edge_fallback", "abstained", "queued")
    return {
        "requests": counts["requests"],
        "lost": counts["lost"] + waiting,
        "duplicated": counts["duplicated"]
        + sum(times > 1 for times in late.values()),
        "mislabelled": counts["mislabelled"],
        "crashes": counts["crashes"],
        "crashed_with": [c for client in clients for c in client.crashes][:10],
        "rows": {source: counts[source] for source in sources},
        "refused_by_policy": counts["refused"],
        "queued_rows_answered_later": len(late),
        "recovery_over_interval": max(times.values())[0] / INTERVAL,
        "last_to_recover": times,
        "interval_seconds": INTERVAL,
        "timeout_seconds": TIMEOUT,
        "threads_left": after[0].total() - before[0].total(),
        "threads_left_by_name": {
            name: after[0][name] - before[0][name]
            for name in sorted(after[0] | before[0])
            if after[0][name] != before[0][name]
        },
        "descriptors_left": after[1] - before[1],
    }


def main():
    """Runs the benchmark."""
    chosen = options(__doc__)
    result = run(QUICK if chosen.quick else REQUESTS)
    server, bundles = fuzz_server(chosen.quick), fuzz_bundles(chosen.quick)
    result["crashes"] += server["crashes"] + bundles["crashes"]
    result.update(
        fuzzed_requests=server["fuzzed_requests"],
        fuzzed_bundles=bundles["fuzzed_bundles"],
        accepted_altered=bundles["accepted_altered"],
        fuzz_server=server,
        fuzz_bundles=bundles,
    )
    for module in MODULES:
        result |= module.measure(chosen.quick)
    show(result, chosen.json)


if __name__ == "__main__":
    main()

"""Memory growth of server and client at full load.

    python -m benchmarks.soak --json [--minutes 10] [--quick]

`keras-cascade serve` in one process; in another, without TensorFlow, threads
that run edge cascades without a pause, half of them over gRPC and half over
v2 HTTP. Resident memory, threads and open descriptors of both processes are
sampled every second.

`*_growth`: median resident memory of the last window over that of the first,
less 1. A window is a tenth of the time, one minute of ten; the first begins
when a fifth of the time is over: until then allocators, thread pools and the
caches of TensorFlow fill. `*_slope_mb_per_hour` is the straight line through
all samples from the first window on. Every prediction is checked: `errors`
counts requests that raised, `wrong_sources` rows with an unexpected source.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from benchmarks.harness import options, show
from benchmarks.serving import make_bundle
from keras_cascade.serving import ServerProcess

MINUTES, QUICK_MINUTES = 10.0, 1 / 3
EVERY = 1.0  # seconds between two samples
PARTS = 10  # windows in the whole time
WARM_UP = 2  # windows before the first that counts
MIB = 1024 * 1024


def sample(process):
    """Returns current memory, threads and descriptors of a process."""
    with process.oneshot():
        return (
            process.memory_info().rss / MIB,
            process.num_threads(),
            process.num_fds(),
        )


def watch(processes, seconds):
    """Samples processes once per second.

    Args:
        processes: dict of name to `psutil.Process`.
        seconds: float.

    Returns:
        Array of moments, and dict of name to array `(moments, 3)`.
    """
    start = time.monotonic()
    moments, samples = [], {name: [] for name in processes}
    while (now := time.monotonic() - start) < seconds:
        moments.append(now)
        for name, process in processes.items():
            samples[name].append(sample(process))
        time.sleep(max(0.0, start + len(moments) * EVERY - time.monotonic()))
    return np.array(moments), {
        name: np.array(values) for name, values in samples.items()
    }


def growth(name, moments, samples, seconds):
    """Returns the figures of one process, as in the module's docstring."""
    window = seconds / PARTS
    first = samples[
        (moments >= WARM_UP * window) & (moments < (WARM_UP + 1) * window)
    ]
    last = samples[moments >= seconds - window]
    counted = moments >= WARM_UP * window
    slope = np.polyfit(moments[counted], samples[counted, 0], 1)[0]
    before, after = (np.median(part, axis=0) for part in (first, last))
    return {
        f"{name}_growth": after[0] / before[0] - 1,
        f"{name}_mb": [before[0], after[0]],
        f"{name}_slope_mb_per_hour": 3600 * slope,
        f"{name}_threads": [before[1], after[1]],
        f"{name}_descriptors": [before[2], after[2]],
        f"{name}_mb_over_time": [
            round(statistics.median(part), 2)
            for part in np.array_split(samples[:, 0], PARTS)
        ],
    }


def soak(minutes):
    """Runs server and client; returns a dict of figures."""
    seconds = 60 * minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle, x = make_bundle(folder / "bundle", 256)
        np.save(folder / "x.npy", x)
        with ServerProcess(bundle, folder / "server.log") as server:
            v2 = server.url.replace("/v1/", "/v2/")
            client = subprocess.Popen(
                [
                    sys.executable, "-m", "benchmarks.soak_client", bundle,
                    folder / "x.npy", server.grpc_url, v2,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )  # fmt: skip
            try:
                client.stdout.readline()  # its threads run
                processes = {
                    "server": psutil.Process(server.pid),
                    "client": psutil.Process(client.pid),
                }
                moments, samples = watch(processes, seconds)
                printed, _ = client.communicate()  # closes its input: it stops
            finally:
                client.kill()
                client.wait()
    if client.returncode:
        raise RuntimeError(f"The client stopped with {client.returncode}.")
    result = {"minutes": minutes, **json.loads(printed)}
    result["requests_per_second"] = result["requests"] / seconds
    for name, values in samples.items():
        result.update(growth(name, moments, values, seconds))
    return result


def main():
    """Runs the benchmark."""
    arguments = options(__doc__, minutes=True)
    minutes = QUICK_MINUTES if arguments.quick else MINUTES
    show(soak(arguments.minutes or minutes), arguments.json)


if __name__ == "__main__":
    main()

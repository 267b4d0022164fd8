"""Overhead of serving over in-process calls, and speedup of batching.

    python -m benchmarks.serving --json [--quick]

`batching_speedup`: 32 clients, one row per request, one request at a time,
over gRPC: throughput of `keras-cascade serve` over that of the same server
with `--max-batch 1`, in turn, median over rounds.
`in_process_batching_speedup` is the teacher's own gain from 32 rows in one
run, in this process.

`*_overhead_ms_p50`: one client, one row of 12 kB: median of a request's time
less the median of the same call on the SavedModel in this process, in turn.
The teacher is small, so that its own noise does not hide the difference; the
other measurements use one of 14.7 million weights. `http` is v2 with binary
tensors, `http_v1_json` v1 with JSON, `http_split_packets` a client that
writes head and body apart on a socket with Nagle's algorithm.

`cascade_over_expected_latency`: mean time of the cascade, one row at a time,
a fifth of the rows delegated over gRPC, over the mean time of the student
plus a fifth of the mean time of a direct request.
"""

import asyncio
import socket
import statistics
import tempfile
from pathlib import Path

import httpx
import keras
import numpy as np

import keras_cascade as kc
from benchmarks.harness import interleaved, medians, options, show
from keras_cascade.runtime import (
    EdgeCascade,
    SavedModelTeacher,
    StudentInterpreter,
)
from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from keras_cascade.serving import ServerProcess

FEATURES = 3072
CLASSES = 10
CLIENTS = 32


def main():
    """Runs the benchmark."""
    arguments = options(__doc__)
    rounds, rows = (20, 320) if arguments.quick else (400, 3200)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, x = make_bundle(folder / "small", 16)
        path, _ = make_bundle(folder / "bundle", 2048, 2048, 2048)
        alone = ServerProcess(
            path, folder / "alone.log", options=["--max-batch", "1"]
        )
        with ServerProcess(small, folder / "small.log") as server:
            teacher = SavedModelTeacher(small / "teacher" / "1")
            result = overheads(server, teacher, x[:1], rounds)
        with ServerProcess(path, folder / "log") as server:
            teacher = SavedModelTeacher(path / "teacher" / "1")
            result.update(cascade_latency(server, path, x, rounds))
            with alone:
                servers = {"batched": server, "alone": alone}
                result.update(batching(servers, x[0], rows, rounds // 40 + 1))
            result["in_process_batching_speedup"] = in_process(teacher, x)
    show(result, arguments.json)


def make_bundle(path, *teacher_units):
    """Exports a bundle with a dense teacher; returns its path and rows."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, FEATURES))
    y = rng.integers(0, CLASSES, 600).astype("int32")
    x = centres[y] + 12 * rng.normal(size=(len(y), FEATURES))
    x = x.astype("float32")

    def model(*units):
        layers = [keras.layers.Dense(n, activation="relu") for n in units]
        return keras.Sequential(
            [keras.Input((FEATURES,)), *layers, keras.layers.Dense(CLASSES)]
        )

    cascade = kc.Cascade(model(*teacher_units), model(8))
    cascade.compile(optimizer="adam")
    cascade.fit(x[:200], y[:200], epochs=2, verbose=0)
    cascade.calibrate((x[200:], y[200:]), kc.MaxDelegationRate(0.5))
    cascade.export(path)
    return path, x


def overheads(server, teacher, x, rounds):
    """Returns each protocol's overhead over an in-process call, in ms."""
    client = httpx.Client(trust_env=False, timeout=30)
    base = server.url.rpartition("/v1/")[0]
    head, body = binary_request(x)
    headers = {"inference-header-content-length": str(head)}
    infer = f"{base}/v2/models/teacher/infer"
    with grpc_channel(server) as channel:
        ask, request = grpc_call(channel), grpc_request(x)
        split = split_client(base, body, head)
        contestants = {
            "in_process": lambda: teacher.logits({"input": x}),
            "grpc": lambda: ask(request),
            "http": lambda: checked(
                client.post(infer, content=body, headers=headers)
            ),
            "http_v1_json": lambda: checked(
                client.post(
                    f"{server.url}:predict", json={"instances": x.tolist()}
                )
            ),
            "http_split_packets": split,
        }
        interleaved(contestants, 5)
        seconds = medians(interleaved(contestants, rounds))
    direct = seconds.pop("in_process")
    return {
        "in_process_ms_p50": 1e3 * direct,
        **{
            f"{name}_overhead_ms_p50": 1e3 * (value - direct)
            for name, value in seconds.items()
        },
    }


def cascade_latency(server, path, x, rounds):
    """Returns the cascade's latency at 20 % delegation over the expected."""
    with EdgeCascade.load(path, teacher=server.grpc_url) as edge:
        sources = edge.predict(x).source
        accepted = x[sources == "edge"][:80, None]
        delegated = x[sources == "cloud"][:20, None]
        if len(accepted) < 80 or len(delegated) < 20:
            raise RuntimeError("Too few rows on one side of the threshold.")
        rows = [*accepted, *delegated]
        student = StudentInterpreter(path / "student.tflite")
        contestants = {
            "cascade": lambda: [edge.predict(row) for row in rows],
            "student": lambda: [student.run({"input": row}) for row in rows],
            "direct": lambda: [
                edge.teacher.logits({"input": row}) for row in delegated
            ],
        }
        interleaved(contestants, 1)
        seconds = medians(interleaved(contestants, max(3, rounds // 20)))
    expected = seconds["student"] / 100 + 0.2 * seconds["direct"] / 20
    ratio = seconds["cascade"] / 100 / expected
    return {"cascade_over_expected_latency": ratio}


def batching(servers, row, rows, rounds):
    """Returns throughput with and without batching, 32 clients at once."""
    contestants = {
        name: lambda server=server: asyncio.run(load(server, row, rows))
        for name, server in servers.items()
    }
    interleaved(contestants, 1)
    seconds = interleaved(contestants, rounds)
    pairs = zip(seconds["alone"], seconds["batched"], strict=True)
    speedups = [alone / batched for alone, batched in pairs]
    return {
        "batching_speedup": statistics.median(speedups),
        "batched_rows_per_second": rows / statistics.median(seconds["batched"]),
        "unbatched_rows_per_second": rows / statistics.median(seconds["alone"]),
    }


async def load(server, row, rows):
    """Sends rows from 32 clients, one request of each at a time."""
    import grpc

    request = grpc_request(row[None])
    async with grpc.aio.insecure_channel(address(server)) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")

        async def client():
            for _ in range(rows // CLIENTS):
                await ask(request)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))


def in_process(teacher, x):
    """Returns the speedup of 32 rows in one run over 32 runs."""
    many = {"input": x[:32]}
    ones = [{"input": x[n : n + 1]} for n in range(32)]
    times = medians(
        interleaved(
            {
                "many": lambda: teacher.logits(many),
                "ones": lambda: [teacher.logits(one) for one in ones],
            },
            21,
        )
    )
    return times["ones"] / times["many"]


def address(server):
    """Returns `HOST:PORT` of a server's gRPC."""
    return server.grpc_url.split("/")[2]


def grpc_channel(server):
    """Returns a gRPC channel to a server."""
    import grpc

    return grpc.insecure_channel(address(server))


def grpc_call(channel):
    """Returns a function from request to response, both as bytes."""
    return channel.unary_unary(f"/{SERVICE}/ModelInfer")


def grpc_request(x):
    """Returns an inference request as bytes."""
    kinds = messages()
    return kinds.ModelInferRequest(
        model_name="teacher",
        inputs=[kinds.Tensor(name="input", datatype="FP32", shape=x.shape)],
        raw_input_contents=[x.tobytes()],
    ).SerializeToString()


def binary_request(x):
    """Returns JSON length and body of a v2 request with a binary tensor."""
    head = (
        '{"inputs":[{"name":"input","datatype":"FP32","shape":'
        f'{list(x.shape)},"parameters":{{"binary_data_size":{x.nbytes}}}}}],'
        '"parameters":{"binary_data_output":true}}'
    ).encode()
    return len(head), head + x.tobytes()


def split_client(base, body, head):
    """Returns a client with Nagle's algorithm that writes head, then body."""
    host, port = base.split("/")[2].split(":")
    connection = socket.create_connection((host, int(port)))
    request = (
        f"POST /v2/models/teacher/infer HTTP/1.1\r\nHost: {host}\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Inference-Header-Content-Length: {head}\r\n\r\n"
    ).encode()

    def ask():
        connection.sendall(request)
        connection.sendall(body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        top, _, rest = answer.partition(b"\r\n\r\n")
        if b" 200 " not in top:
            raise RuntimeError(f"Received: {answer[:300]!r}.")
        (length,) = (
            int(line.split(b":")[1])
            for line in top.split(b"\r\n")
            if line.startswith(b"content-length")
        )
        while len(rest) < length:
            rest += connection.recv(65536)

    return ask


def checked(response):
    """Raises unless the request succeeded."""
    response.raise_for_status()


if __name__ == "__main__":
    main()

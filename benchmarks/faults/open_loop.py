"""Load generator with arrivals that do not wait for answers.

    python -m benchmarks.faults.open_loop CONFIGURATION

A process of its own, so that it takes no time from the server's event loop.
The configuration is JSON: `url` (`http://HOST:PORT` or `grpc://HOST:PORT`),
`rows` and `shape` of a request, `timeout` in seconds, `seed`, `warm_up` in
seconds and `phases`, each a list of requests per second and seconds; 0
requests per second stand for `clients` that send one request after the other.
Prints, for each phase, a list of `[sent, seconds, outcome]`, one per request:
when it was sent, how long it took, and `"ok"`, `"refused"`, `"late"` or
`"failed: ..."`.
"""

import asyncio
import json
import random
import sys
import time

import numpy as np

NAME, INPUT = "teacher", "input"


async def generate(configuration):
    """Runs all phases; returns a list of lists of outcomes."""
    kind = HttpClient if configuration["url"].startswith("http") else GrpcClient
    client = kind(configuration)
    phases, rng = [], random.Random(configuration["seed"])
    for rate, seconds in configuration["phases"]:
        if rate:
            times = _arrivals(rng, rate, seconds, configuration["warm_up"])
            phases.append(await _open(client, times))
        else:
            phases.append(
                await _closed(client, configuration["clients"], seconds)
            )
    await client.close()
    return phases


def _arrivals(rng, rate, seconds, warm_up):
    """Draws the times of a Poisson process, given how many there are.

    As many as the rate says in the warm-up, and as many after it: what is
    measured there is then not the luck of how many came.
    """
    parts = [(0, warm_up), (warm_up, seconds)]
    return sorted(
        rng.uniform(start, end)
        for start, end in parts
        for _ in range(max(1, round(rate * (end - start))))
    )


async def _open(client, times):
    """Sends requests at these times, whether others are answered or not."""
    tasks = []
    start = time.perf_counter()
    for due in times:
        delay = start + due - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(_timed(client, start)))
    return list(await asyncio.gather(*tasks))


async def _closed(client, clients, seconds):
    outcomes = []
    start = time.perf_counter()

    async def one():
        while time.perf_counter() < start + seconds:
            outcomes.append(await _timed(client, start))

    await asyncio.gather(*(one() for _ in range(clients)))
    return outcomes


async def _timed(client, start):
    sent = time.perf_counter()
    outcome = await client.ask()
    return sent - start, time.perf_counter() - sent, outcome


def _tensor(configuration):
    rng = np.random.default_rng(0)
    shape = [configuration["rows"], *configuration["shape"]]
    return rng.random(shape, "float32")


class HttpClient:
    """v2 with binary tensors, over as many connections as needed."""

    def __init__(self, configuration):
        self._host, port = configuration["url"].split("//")[1].split(":")
        self._port = int(port)
        self._timeout = configuration["timeout"]
        self._idle = []
        x = _tensor(configuration)
        head = json.dumps(
            {
                "id": "1",
                "inputs": [
                    {
                        "name": INPUT,
                        "datatype": "FP32",
                        "shape": x.shape,
                        "parameters": {"binary_data_size": x.nbytes},
                    }
                ],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        self._request = (
            (
                f"POST /v2/models/{NAME}/infer HTTP/1.1\r\n"
                f"Host: {self._host}\r\n"
                f"Content-Length: {len(head) + x.nbytes}\r\n"
                "Content-Type: application/octet-stream\r\n"
                f"Inference-Header-Content-Length: {len(head)}\r\n"
                f"X-Request-Timeout: {self._timeout}\r\n\r\n"
            ).encode()
            + head
            + x.tobytes()
        )

    async def ask(self):
        """Sends one request; returns its outcome."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._ask()
        except TimeoutError:
            return "late"
        except (OSError, EOFError, ValueError) as error:
            return f"failed: {type(error).__name__}"

    async def _ask(self):
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(
                self._host, self._port
            )
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            # With its line break: the JSON's length has a longer name.
            _, _, rest = head.partition(b"\r\ncontent-length:")
            length = int(rest.partition(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:  # the connection is of no further use
            writer.transport.abort()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        status = int(head.split(b" ", 2)[1])
        outcomes = {200: "ok", 429: "refused", 503: "refused"}
        return outcomes.get(status, f"failed: {status}")

    async def close(self):
        """Closes the connections."""
        for _, writer in self._idle:
            writer.close()


class GrpcClient:
    """v2 over gRPC, over one connection."""

    def __init__(self, configuration):
        import grpc

        from keras_cascade.runtime.teachers.grpc_messages import (
            SERVICE,
            messages,
        )

        kinds = messages()
        x = _tensor(configuration)
        self._request = kinds.ModelInferRequest(
            model_name=NAME,
            id="1",
            inputs=[kinds.Tensor(name=INPUT, datatype="FP32", shape=x.shape)],
            raw_input_contents=[x.tobytes()],
        ).SerializeToString()
        self._timeout = configuration["timeout"]
        self._channel = grpc.aio.insecure_channel(
            configuration["url"].split("//")[1]
        )
        self._call = self._channel.unary_unary(f"/{SERVICE}/ModelInfer")
        self._error = grpc.aio.AioRpcError
        self._outcomes = {
            grpc.StatusCode.RESOURCE_EXHAUSTED: "refused",
            grpc.StatusCode.UNAVAILABLE: "refused",
            grpc.StatusCode.DEADLINE_EXCEEDED: "late",
        }

    async def ask(self):
        """Sends one request; returns its outcome."""
        try:
            await self._call(self._request, timeout=self._timeout)
        except self._error as error:
            code = error.code()
            return self._outcomes.get(code, f"failed: {code.name}")
        return "ok"

    async def close(self):
        """Closes the connection."""
        await self._channel.close()


if __name__ == "__main__":
    json.dump(asyncio.run(generate(json.loads(sys.argv[1]))), sys.stdout)

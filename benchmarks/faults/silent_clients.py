"""Clients that connect, send half of something, and wait for ever.

    python -m benchmarks.faults.silent_clients HOST PORT KIND COUNT

A process of its own: prints `ready` when all are connected, and opens a
connection anew about ten seconds, each of its own, after the server closed
it. Ends with its standard input.
"""

import asyncio
import contextlib
import random
import struct
import sys

REOPEN_SECONDS = 5.0, 15.0  # uniform


def frame(kind, flags, stream, content=b""):
    """Returns a frame of HTTP/2."""
    length = struct.pack(">I", len(content))[1:]
    return length + bytes([kind, flags]) + struct.pack(">I", stream) + content


def header(name, value):
    """Returns a header field as a literal of HPACK."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
METHOD = b"/inference.GRPCInferenceService/ModelInfer"
HEADERS = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", METHOD),
        (b":authority", b"localhost"), (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)  # fmt: skip


def half_message(token=None, size=2**20):
    """Returns a call of HTTP/2 whose message has begun."""
    content = HEADERS
    if token is not None:
        content += header(b"authorization", b"Bearer " + token.encode())
    return (
        PREFACE
        + frame(1, 4, 1, content)
        + frame(0, 0, 1, b"\0" + struct.pack(">I", size) + bytes(1000))
    )


BEGINNINGS = {
    "head": b"POST /v1/models/teacher:predict HTTP/1.1\r\nHost: localhost",
    "body": b"POST /v1/models/teacher:predict HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Length: 1000\r\n\r\n{",
    "idle": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "nothing": b"",
    "grpc": PREFACE,
    "grpc_call": half_message(),
}


async def hold(host, port, beginning, connected):
    """Keeps one silent connection open."""
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
        except OSError:
            connected()
            await asyncio.sleep(random.uniform(*REOPEN_SECONDS))
            continue
        with contextlib.suppress(OSError):
            writer.write(beginning)
            connected()
            while await reader.read(65536):
                pass
        writer.transport.abort()
        await asyncio.sleep(random.uniform(*REOPEN_SECONDS))


async def main(host, port, kind, count):
    """Runs the clients until standard input ends."""
    waiting = asyncio.Semaphore(0)
    tasks = []
    for number in range(count):
        tasks.append(
            asyncio.create_task(
                hold(host, port, BEGINNINGS[kind], waiting.release)
            )
        )
        if number % 50 == 49:
            await asyncio.sleep(0.02)
    for _ in tasks:
        await waiting.acquire()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(
        main(*sys.argv[1:2], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    )

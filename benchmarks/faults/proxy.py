"""TCP proxy that corrupts answers."""

import asyncio
import os
import random
import socket
import struct
import threading

CHUNK = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class TamperingProxy:
    """TCP proxy between a client and a server on this machine.

    Switching closes every connection, as a restart of the server would.

    Args:
        delay: float, seconds by which `"slow"` delays every answer.

    Attributes:
        port: int, where clients connect.
    """

    MODES = ("pass", "slow", "reset", "half", "garbage", "refuse")

    def __init__(self, delay):
        self._delay = delay
        self._mode, self._upstream = "pass", None
        self._writers = set()
        self._dice = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self):
        self._thread.start()
        self._server = self._in_loop(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_):
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def switch(self, port, mode="pass"):
        """Sets the treatment of connections from now on.

        Args:
            port: int, of the server behind; `None` for nobody.
            mode: str, out of `MODES`. Defaults to `"pass"`.
        """
        if mode not in self.MODES:
            raise ValueError(f"Expected one of {self.MODES}. Received: {mode}.")
        self._in_loop(self._switch(port, mode))

    def _in_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _switch(self, port, mode):
        self._upstream, self._mode = port, mode
        for writer in list(self._writers):
            _reset(writer)

    async def _close(self):
        await self._switch(None, "refuse")
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        behind = None
        try:
            if self._upstream is None or self._mode == "refuse":
                return
            answers, behind = await asyncio.open_connection(
                "127.0.0.1", self._upstream
            )
            self._writers.add(behind)
            tasks = [
                asyncio.create_task(self._forward(reader, behind)),
                asyncio.create_task(self._corrupt(answers, writer)),
            ]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        except OSError:
            pass  # the server is dead: the client gets a reset
        finally:
            for one in (writer, behind):
                if one is not None:
                    _reset(one)
                    self._writers.discard(one)

    async def _forward(self, reader, writer):
        while chunk := await _read(reader):
            writer.write(chunk)
            await writer.drain()

    async def _corrupt(self, reader, writer):
        while chunk := await _read(reader):
            mode = self._mode
            if mode == "slow":
                await asyncio.sleep(self._delay)
            elif mode == "reset":
                return
            elif mode == "half":
                chunk = chunk[: len(chunk) // 2]
            elif mode == "garbage":
                chunk = self._dice.randbytes(len(chunk))
            writer.write(chunk)
            await writer.drain()
            if mode in ("half", "garbage"):
                # The bytes should arrive, so no reset.
                writer.transport.close()
                return


async def _read(reader):
    try:
        return await reader.read(CHUNK)
    except ConnectionError:
        return b""


def _reset(writer):
    held = writer.get_extra_info("socket")
    if held is not None and held.fileno() >= 0 and os.name == "posix":
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

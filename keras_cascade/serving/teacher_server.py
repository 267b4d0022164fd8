"""Both protocols, from their start to their last answer."""

import asyncio
import os
import signal
from pathlib import Path

from keras_cascade.serving.grpc_server import grpc_server
from keras_cascade.serving.http_application import http_application
from keras_cascade.serving.http_server import http_server
from keras_cascade.serving.server_log import log


class TeacherServer:
    """Serves until it is told to stop, then answers what it has begun.

    Args:
        service: `TeacherService`.
        reloader: `Reloader`, or `None`.
        sockets: list of bound sockets for HTTP.
        address: `Address`.
        ready_file: optional path for the teacher's URLs, written once both
            protocols answer: HTTP in the first line, gRPC in the second.
    """

    def __init__(
        self, service, reloader, sockets, address, ready_file=None
    ):  # fmt: skip
        self._service = service
        self._reloader = reloader
        self._sockets = sockets
        self._address = address
        self._ready_file = ready_file
        self._ending = None

    async def run(self):
        """Runs until SIGTERM or SIGINT; a second one ends it at once."""
        service, address = self._service, self._address
        http = http_server(
            http_application(service), service.limits, address.tls
        )
        grpc, grpc_port = grpc_server(
            service, address.host, address.grpc_port, address.tls
        )
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(one, self._stop, stop, http, grpc)
        await grpc.start()
        tasks = [asyncio.create_task(http.serve(self._sockets))]
        if self._reloader is not None:
            tasks.append(asyncio.create_task(self._reloader.run()))
        await self._until(http.listening, tasks)
        self._announce(grpc_port)
        await self._until(stop, tasks)
        http.should_exit = True
        await asyncio.gather(tasks[0], grpc.stop(service.limits.drain_seconds))
        for task in tasks[1:]:
            task.cancel()
        await service.teacher.close()
        log("info", "stopped")

    def _stop(self, stop, http, grpc):
        if stop.is_set():
            log("warning", "stopping_at_once")
            http.force_exit = True
            self._ending = asyncio.create_task(grpc.stop(0))
            return
        log("info", "draining")
        self._service.drain()
        stop.set()

    @staticmethod
    async def _until(event, tasks):
        """Waits for an event, or for a task that ends against the plan."""
        waiting = asyncio.create_task(event.wait())
        done, _ = await asyncio.wait(
            [waiting, *tasks], return_when=asyncio.FIRST_COMPLETED
        )
        if waiting not in done:
            waiting.cancel()
            for task in done:
                task.result()
            raise RuntimeError("The server stopped without being told to.")

    def _announce(self, grpc_port):
        port = self._sockets[0].getsockname()[1]
        host, name = self._address.shown_host, self._service.name
        secure = "s" if self._address.tls else ""
        urls = {
            "http": f"http{secure}://{host}:{port}/v1/models/{name}",
            "grpc": f"grpc{secure}://{host}:{grpc_port}/{name}",
        }
        log("info", "serving", **urls, version=self._service.teacher.version)
        if self._ready_file is not None:
            part = Path(f"{self._ready_file}.part")
            part.write_text("\n".join(urls.values()), encoding="utf-8")
            os.replace(part, self._ready_file)

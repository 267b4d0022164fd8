"""KServe's model server, on one address, with one model that stays."""

import asyncio
import os
from pathlib import Path

import kserve
from kserve.errors import InvalidInput
from kserve.protocol.model_repository_extension import (
    ModelRepositoryExtension,
)


class LocalServer(kserve.ModelServer):
    """Listens where it is told, and says when it answers.

    Args:
        host: str, address to listen on; KServe's own is every address.
        port: int, or 0 for any free one.
        ready_file: optional path for the teacher's URL.
    """

    def __init__(self, host, port, ready_file=None):
        super().__init__(http_port=port, enable_grpc=False, workers=1)
        self._host = host
        self._ready_file = ready_file
        self.model_repository_extension = _FixedRepository(
            model_registry=self.registered_models
        )

    async def _serve(self):
        self._rest_server.config.host = self._host
        if self._ready_file is not None:
            self.servers.append(self._announce())
        await super()._serve()

    async def _announce(self):
        server = self._rest_server._server
        while not server.started:
            await asyncio.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        (name,) = self.registered_models.get_models()
        part = Path(f"{self._ready_file}.part")
        part.write_text(f"http://{self._host}:{port}/v1/models/{name}")
        os.replace(part, self._ready_file)


class _FixedRepository(ModelRepositoryExtension):
    """Whoever can reach the port must not be able to unload the model."""

    async def load(self, model_name):
        raise InvalidInput("Models cannot be loaded over the network.")

    async def unload(self, model_name):
        raise InvalidInput("Models cannot be unloaded over the network.")

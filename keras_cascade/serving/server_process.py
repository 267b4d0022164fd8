"""A teacher server in a process of its own, for as long as a block lasts."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

START_SECONDS = 120
STOP_SECONDS = 15


class ServerProcess:
    """Starts `keras-cascade serve` and stops it again; a context manager.

    The server's standard input is a pipe from this process: when this
    process ends, however it ends, the server stops.

    Args:
        bundle: path of the bundle to serve.
        log_file: path for the server's own output.
        host: str. Defaults to `"127.0.0.1"`.
        port: int, or 0 for any free one. Defaults to `0`.
    """

    def __init__(self, bundle, log_file, host="127.0.0.1", port=0):
        self.bundle = str(bundle)
        self.log_file = Path(log_file)
        self.host = host
        self.port = port
        self._process = None

    @property
    def url(self):
        """The teacher's address: `http://HOST:PORT/v1/models/teacher`."""
        return f"http://{self.host}:{self.port}/v1/models/teacher"

    @property
    def pid(self):
        """The server's process id."""
        return self._process.pid

    def __enter__(self):
        self.port = self.port or _free_port(self.host)
        command = [
            sys.executable, "-m", "keras_cascade.cli", "serve", self.bundle,
            "--host", self.host, "--port", str(self.port),
            "--exit-with-stdin",
        ]  # fmt: skip
        with open(self.log_file, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(
                    "The teacher server stopped while starting, with status "
                    f"{self._process.returncode}. Its last words: "
                    f"{self._last_words()}"
                )
            try:
                if httpx.get(self.url, timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # not up yet: the deadline decides
            time.sleep(0.1)
        raise RuntimeError(
            f"The teacher server was not ready after {START_SECONDS} s. Its "
            f"last words: {self._last_words()}"
        )

    def _last_words(self):
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "none"


def _free_port(host):
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]

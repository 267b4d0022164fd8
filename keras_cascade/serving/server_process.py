"""A teacher server in a process of its own, for as long as a block lasts."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
        options: list of str, further options of `keras-cascade serve`.
            Defaults to `()`.

    Attributes:
        url: str, the teacher's address, once the block has begun:
            `http://HOST:PORT/v1/models/teacher`.
        grpc_url: str, its address for gRPC: `grpc://HOST:PORT/teacher`.
    """

    def __init__(self, bundle, log_file, host="127.0.0.1", port=0, options=()):
        self.bundle = str(bundle)
        self.log_file = Path(log_file)
        self.host = host
        self.port = port
        self.options = list(options)
        self.url = None
        self.grpc_url = None
        self._process = None

    @property
    def pid(self):
        """The server's process id."""
        return self._process.pid

    def __enter__(self):
        with tempfile.TemporaryDirectory() as folder:
            ready_file = Path(folder, "url")
            self._start(ready_file)
            try:
                self._wait_until_ready(ready_file)
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

    def _start(self, ready_file):
        command = [
            sys.executable, "-m", "keras_cascade.cli", "serve", self.bundle,
            "--host", self.host, "--port", str(self.port), "--grpc-port", "0",
            "--exit-with-stdin", "--ready-file", str(ready_file),
            *self.options,
        ]  # fmt: skip
        with open(self.log_file, "wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _wait_until_ready(self, ready_file):
        """Waits for this server's own word, not for any answer at a port."""
        deadline = time.monotonic() + START_SECONDS
        while not ready_file.exists():
            if self._process.poll() is not None:
                raise RuntimeError(
                    "The teacher server stopped while starting, with status "
                    f"{self._process.returncode}. Its last words: "
                    f"{self._last_words()}"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"The teacher server was not ready after {START_SECONDS} "
                    f"s. Its last words: {self._last_words()}"
                )
            time.sleep(0.05)
        self.url, self.grpc_url = ready_file.read_text().splitlines()
        self.port = int(self.url.split("/")[2].rpartition(":")[2])

    def _last_words(self):
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "none"

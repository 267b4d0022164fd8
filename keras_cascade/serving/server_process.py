"""Context manager for a teacher server in a separate process."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self, cast

START_SECONDS = 120
STOP_SECONDS = 15


class ServerProcess:
    """Runs `keras-cascade serve` for the duration of a `with` block.

    The server's standard input is a pipe from this process: when this
    process ends, even by SIGKILL, the server stops.

    Args:
        bundle: path of the bundle to serve.
        log_file: path of the file for the server's output.
        host: str. Defaults to `"127.0.0.1"`.
        port: int, or 0 for any free one. Defaults to `0`.
        options: list of str, further options of `keras-cascade serve`.
            Defaults to `()`.

    Attributes:
        url: str or `None`, the teacher's address inside the block:
            `http://HOST:PORT/v1/models/teacher`.
        grpc_url: str or `None`, its address for gRPC:
            `grpc://HOST:PORT/teacher`.

    Example:

    ```python
    with keras_cascade.serving.ServerProcess("bundle", "log") as server:
        edge = keras_cascade.EdgeCascade.load("bundle", teacher=server.url)
    ```
    """

    url: str | None
    grpc_url: str | None

    def __init__(
        self,
        bundle: str | os.PathLike,
        log_file: str | os.PathLike,
        host: str = "127.0.0.1",
        port: int = 0,
        options: Sequence[str] = (),
    ) -> None:
        self.bundle = str(bundle)
        self.log_file = Path(log_file)
        self.host = host
        self.port = port
        self.options = list(options)
        self.url = None
        self.grpc_url = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return cast("subprocess.Popen[bytes]", self._process).pid

    def __enter__(self) -> Self:
        with tempfile.TemporaryDirectory() as folder:
            ready_file = Path(folder, "url")
            self._start(ready_file)
            try:
                self._wait_until_ready(ready_file)
            except BaseException:
                self.__exit__()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        process = cast("subprocess.Popen[bytes]", self._process)
        cast("IO[bytes]", process.stdin).close()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def wait(self) -> None:
        """Waits until the server ends by itself.

        Raises:
            RuntimeError: it ended with an error.
        """
        process = cast("subprocess.Popen[bytes]", self._process)
        if process.wait():
            raise RuntimeError(
                "The teacher server stopped with status "
                f"{process.returncode}. Its last words: {self._last_lines()}"
            )

    def _command(self, ready_file):
        return [
            sys.executable, "-m", "keras_cascade.cli", "serve", self.bundle,
            "--host", self.host, "--port", str(self.port), "--grpc-port", "0",
            "--exit-with-stdin", "--ready-file", str(ready_file),
            *self.options,
        ]  # fmt: skip

    def _start(self, ready_file):
        with open(self.log_file, "wb") as log:
            self._process = subprocess.Popen(
                self._command(ready_file),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _wait_until_ready(self, ready_file):
        """Waits for the server's ready file.

        Not for an answer at the port: that may be another server's.
        """
        deadline = time.monotonic() + START_SECONDS
        while not ready_file.exists():
            if self._process.poll() is not None:
                raise RuntimeError(
                    "The teacher server stopped while starting, with status "
                    f"{self._process.returncode}. Its last words: "
                    f"{self._last_lines()}"
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"The teacher server was not ready after {START_SECONDS} "
                    f"s. Its last words: {self._last_lines()}"
                )
            time.sleep(0.05)
        self.url, self.grpc_url = ready_file.read_text().splitlines()
        self.port = int(self.url.split("/")[2].rpartition(":")[2])

    def _last_lines(self):
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:]) or "none"

"""Real Triton server in an environment of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

#: Triton's binary comes with this package, which needs an older NumPy.
PACKAGES = ("nvidia-pytriton==0.7.0", "numpy<2", "onnxruntime")
READY_SECONDS = 60
CONFIGURATION = Path(__file__).parents[2] / "deploy/triton/config.pbtxt"
#: What must change in it: here Triton has its Python backend only.
CHANGES = {
    '"onnxruntime"': '"python"',
    "[ 28, 28, 1 ]": "[ {features} ]",
    "[ 10 ]": "[ {classes} ]",
}


def make_environment(folder):
    """Creates a virtual environment with Triton's packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run(
        [folder / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True
    )
    return folder


class TritonServer:
    """Serves a bundle's teacher as long as a block lasts.

    Args:
        environment: `Path` of a virtual environment with `PACKAGES`.
        bundle: `Bundle` with `teacher.onnx`, of one input `(features,)`.
        folder: `Path` to work in.

    Attributes:
        http: str, address of the HTTP port.
        grpc: str, address of the gRPC port.
    """

    def __init__(self, environment, bundle, folder):
        self._environment = environment
        self._repository = folder / "models"
        self._log = folder / "triton.log"
        self._home = folder / "triton"
        self._make_repository(bundle)
        self._copy_triton()

    def __enter__(self):
        ports = _free_ports(3)
        self.http, self.grpc = (f"127.0.0.1:{port}" for port in ports[:2])
        libraries = self._packages() / "nvidia_pytriton.libs"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    self._home / "bin" / "tritonserver",
                    f"--model-repository={self._repository}",
                    f"--backend-directory={self._home / 'backends'}",
                    "--http-address=127.0.0.1",
                    "--grpc-address=127.0.0.1",
                    f"--http-port={ports[0]}",
                    f"--grpc-port={ports[1]}",
                    f"--metrics-port={ports[2]}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PATH": f"{self._environment / 'bin'}:{os.environ['PATH']}",
                    "VIRTUAL_ENV": str(self._environment),
                    "LD_LIBRARY_PATH": str(libraries),
                },
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()

    def _make_repository(self, bundle):
        version = self._repository / "teacher" / "1"
        version.mkdir(parents=True)
        shutil.copy(bundle.onnx_files["teacher"], version)
        shutil.copy(
            Path(__file__).with_name("triton_model.py"), version / "model.py"
        )
        (spec,) = bundle.inputs
        sizes = {
            "features": spec["shape"][1],
            "classes": len(bundle.classes),
        }
        text = CONFIGURATION.read_text()
        for before, after in CHANGES.items():
            text = text.replace(before, after.format(**sizes))
        (version.parent / "config.pbtxt").write_text(text)

    def _copy_triton(self):
        """Copies Triton, with the Python stub where its backend expects it."""
        shutil.copytree(self._packages() / "pytriton/tritonserver", self._home)
        version = "{}.{}".format(*sys.version_info)
        stub = "triton_python_backend_stub"
        shutil.copy(
            self._home / "python_backend_stubs" / version / stub,
            self._home / "backends" / "python",
        )
        for file in (
            self._home / "backends" / "python" / stub,
            self._home / "bin" / "tritonserver",
        ):
            file.chmod(0o755)

    def _packages(self):
        (folder,) = self._environment.glob("lib/python*/site-packages")
        return folder

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                url = f"http://{self.http}/v2/models/teacher/ready"
                urllib.request.urlopen(url, timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        raise RuntimeError(f"Triton did not start: {self._log.read_text()}")


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports

"""Memory and event loop of the server under JSON bodies made to exhaust them.

    python -m benchmarks.faults.json_bodies --json [--quick]

Bodies of 256 KB, 1 MB and about the limit, 63 MB, full of brackets, strings,
numbers, keys and so on, are sent to `keras-cascade serve`, one after the
other: to a teacher of numbers whose count is free, and to one of texts. During
each, another client asks for the server's health 50 times per second.

`json_memory_ratio`: the largest growth of the server's resident memory during
a body of at least 1 MB, over the size of the body, which is part of it.
`json_stall_seconds`: the longest that a health check took. `json_worst`: which
bodies these were, and which was the largest growth of a smaller one.
"""

import collections
import hashlib
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.harness import options, show
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.serving import ServerProcess

BUNDLE = Path(__file__).parents[2] / "saved_models" / "fashion_mnist"
MEBIBYTE = 2**20
SIZES = (2**18, MEBIBYTE, 63 * MEBIBYTE)
QUICK = SIZES[:2]
HEALTH_SECONDS = 0.02
PREDICT, INFER = "/v1/models/teacher:predict", "/v2/models/teacher/infer"
ELEMENTS = {
    "lists": b"[],",
    "empty strings": b'"",',
    "objects": b"{},",
    "strings": b'"ab",',
    "digits": b"1,",
    "fractions": b"0.1,",
    "numbers": b"300,",
    "escapes": b'"\\n",',
    "base64": b'{"b64":"YQ=="},',
    "ragged lists": b"[1],[2,3],",
    "white space": b" " * 40 + b"1,",
}


def measure(quick):
    """Sends every body to both servers; returns a dict of the keys above."""
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        for kind in ("numbers", "texts"):
            path = free_bundle(Path(temporary) / kind, kind)
            with ServerProcess(path, Path(temporary, "log")) as server:
                attack = Attack(server)
                attack.send(PREDICT, _repeated(b"1,", MEBIBYTE))  # warms it
                for size in QUICK if quick else SIZES:
                    for name, route, body in bodies(size, kind):
                        outcome = attack.send(route, body)
                        results.append((f"{kind}, {name}, {size}", *outcome))
    large = [one for one in results if one[1] > MEBIBYTE / 2]
    small = [one for one in results if one[1] <= MEBIBYTE / 2]
    memory = max(large, key=lambda one: one[2] / one[1])
    stall = max(results, key=lambda one: one[3])
    below = max(small, key=lambda one: one[2])
    return {
        "json_memory_ratio": memory[2] / memory[1],
        "json_stall_seconds": stall[3],
        "json_bodies": len(results),
        "json_statuses": dict(collections.Counter(one[4] for one in results)),
        "json_worst": {
            "memory": memory[0],
            "stall": stall[0],
            "small": [below[0], f"{below[2] / MEBIBYTE:.1f} MiB"],
        },
    }


class Attack:
    """Sends bodies to a server while its health is asked for.

    Args:
        server: `ServerProcess`.
    """

    def __init__(self, server):
        self._pid = server.pid
        self._address = server.url.split("/")[2]

    def send(self, route, body):
        """Sends one body.

        Returns:
            Tuple of its size, the growth of the server's memory in bytes, the
            longest health check in seconds and the status.
        """
        end, longest = threading.Event(), [0.0]
        before = self._memory("VmRSS")
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        watching = threading.Thread(target=self._watch, args=(end, longest))
        watching.start()
        try:
            status = self._post(route, body)
        finally:
            end.set()
            watching.join()
        growth = self._memory("VmHWM") - before
        return len(body), growth, longest[0], status

    def _post(self, route, body):
        connection = http.client.HTTPConnection(self._address, timeout=120)
        try:
            connection.request("POST", route, body)
            answer = connection.getresponse()
            answer.read()
            return str(answer.status)
        except OSError as error:
            return type(error).__name__
        finally:
            connection.close()

    def _watch(self, end, longest):
        connection = http.client.HTTPConnection(self._address, timeout=120)
        while not end.is_set():
            start = time.perf_counter()
            connection.request("GET", "/v2/health/live")
            connection.getresponse().read()
            longest[0] = max(longest[0], time.perf_counter() - start)
            end.wait(HEALTH_SECONDS)
        connection.close()

    def _memory(self, name):
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
        raise RuntimeError(f"There is no {name} of the server's process.")


def bodies(size, kind):
    """Yields names, routes and bodies of about `size` bytes."""
    datatype = b"FP32" if kind == "numbers" else b"BYTES"
    data = (
        b'{"inputs":[{"name":"input","datatype":"%s","shape":[1,99],"data":['
        % datatype,
        b"0]}]}",
    )
    for name, element in ELEMENTS.items():
        yield f"{name} as rows", PREDICT, _repeated(element, size)
        yield (
            f"{name} in a row",
            PREDICT,
            _repeated(element, size, b'{"instances":[[', b"0]]}"),
        )
        yield f"{name} as data", INFER, _repeated(element, size, *data)
    for name, start, character, end in (
        ("a string", b'{"instances":["', b"a", b'"]}'),
        ("a wide string", b'{"instances":["\xf0\x9f\x98\x80', b"a", b'"]}'),
        ("an escaped string", b'{"instances":["', b"\\u0101", b'"]}'),
        ("a long and short strings", b'{"instances":[["', b"a",
         b'"' + b',"b"' * (size // 20) + b"]]}"),
        ("a number", b'{"instances":[[', b"1", b"]]}"),
        ("depth", b'{"instances":', b"[", b""),
        ("objects in depth", b"", b'{"a":', b""),
    ):  # fmt: skip
        yield name, PREDICT, _repeated(character, size, start, end)
    keys = b",".join(b'"%d":1' % n for n in range(size // 11))
    yield "keys", PREDICT, b"{%s}" % keys
    yield "keys of inputs", PREDICT, b'{"inputs":{%s}}' % keys
    yield "keys of a row", PREDICT, b'{"instances":[{%s}]}' % keys
    yield "keys of a tensor", INFER, b'{"inputs":[{%s}]}' % keys


def _repeated(element, size, start=b'{"instances":[', end=b"0]}"):
    count = max(0, size - len(start) - len(end)) // len(element)
    return start + element * count + end


def free_bundle(path, kind):
    """Copies a bundle, with a teacher whose inputs have any length."""
    shutil.copytree(BUNDLE, path)
    teacher = path / "teacher" / "1"
    shutil.rmtree(teacher)
    subprocess.run(
        [sys.executable, "-c", _TEACHER, str(teacher), kind],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    manifest = json.loads((path / "manifest.json").read_text())
    is_text = kind == "texts"
    manifest["input"] = [
        {
            "name": "input",
            "shape": [None] if is_text else [None, None],
            "dtype": "string" if is_text else "float32",
            "range": None,
        }
    ]
    manifest["teacher"]["files"] = {
        file.relative_to(teacher).as_posix(): hashlib.sha256(
            file.read_bytes()
        ).hexdigest()
        for file in teacher.rglob("*")
        if file.is_file()
    }
    manifest["teacher"].pop("probes", None)
    write_manifest(manifest, path / "manifest.json")
    return path


_TEACHER = """
import sys
import tensorflow as tf
folder, kind = sys.argv[1:]
spec = (tf.TensorSpec([None], tf.string, "input") if kind == "texts"
        else tf.TensorSpec([None, None], tf.float32, "input"))

@tf.function(input_signature=[spec])
def logits(x):
    sums = (tf.cast(tf.strings.length(x), tf.float32) if kind == "texts"
            else tf.reduce_mean(x, 1))
    return {"logits": tf.tile(sums[:, None], [1, 10])}

module = tf.Module()
module.logits = logits
tf.saved_model.save(module, folder, signatures=logits)
"""


def main():
    """Runs the benchmark."""
    arguments = options(__doc__)
    show(measure(arguments.quick), arguments.json)


if __name__ == "__main__":
    main()

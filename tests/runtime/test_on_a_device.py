"""The runtime with the packages of `requirements-edge.txt` alone."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import keras_cascade

ROOT = Path(keras_cascade.__file__).parents[1]
# The packages of each part of the file, and what they import in turn.
ALONE = [
    "ai_edge_litert", "attr", "attrs", "jsonschema",
    "jsonschema_specifications", "keras_cascade", "numpy", "referencing",
    "rpds", "typing_extensions",
]  # fmt: skip
WITH_A_TEACHER = [*ALONE, "circuitbreaker", "tenacity"]
OVER_HTTP = [*WITH_A_TEACHER, "certifi", "h11", "httpcore"]
CODE = """
import json, sys

class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ModuleNotFoundError(f"{name} is not on the device", name=name)

ALLOWED = set(json.loads(sys.argv[1]))
sys.meta_path.insert(0, Only())
import keras_cascade.runtime
import numpy as np

class Away:
    def logits(self, inputs):
        raise keras_cascade.runtime.TeacherError("away")

options = json.loads(sys.argv[3])
if options.get("teacher") == "an object":
    options["teacher"] = Away()
edge = keras_cascade.runtime.EdgeCascade.load(
    sys.argv[2], retries=0, **options
)
found = edge.predict(np.load(sys.argv[4]))
edge.close()
print(json.dumps({
    "labels": found.labels.tolist(),
    "source": found.source.tolist(),
    "modules": sorted({m.partition(".")[0] for m in sys.modules}),
}))
"""


def on_a_device(bundle, x, tmp_path, allowed, **options):
    """Predicts in a process that can import the allowed packages alone."""
    np.save(tmp_path / "x.npy", x)
    run = subprocess.run(
        [
            sys.executable, "-c", CODE, json.dumps(allowed), str(bundle),
            json.dumps(options), str(tmp_path / "x.npy"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_a_bundle_is_loaded_and_answers(
    bundle_path, blobs, students_answer, tmp_path
):
    x, _ = blobs(40)
    found = on_a_device(bundle_path, x, tmp_path, ALONE)
    expected = students_answer(x)
    assert found["labels"] == expected["probabilities"].argmax(1).tolist()
    assert set(found["source"]) == {"edge", "edge_fallback"}
    # A device that talks to nobody needs neither HTTP nor SQLite.
    assert not {"httpcore", "sqlite3", "asyncio"} & set(found["modules"])


def test_with_a_teacher_and_a_queue(bundle_path, blobs, tmp_path):
    found = on_a_device(
        bundle_path,
        blobs(40)[0],
        tmp_path,
        OVER_HTTP,
        teacher="http://127.0.0.1:9",
        on_failure="queue",
        queue=str(tmp_path / "queue"),
    )
    assert set(found["source"]) == {"edge", "queued"}
    # No line of the file is there for nothing.
    installed = {name.replace("-", "_") for name in required("")}
    assert installed <= set(found["modules"])


def test_a_teacher_without_http(bundle_path, blobs, tmp_path):
    found = on_a_device(
        bundle_path, blobs(40)[0], tmp_path, WITH_A_TEACHER, teacher="an object"
    )
    assert set(found["source"]) == {"edge", "edge_fallback"}


def test_every_package_that_is_imported_is_asked_for():
    distributions = {
        "ai_edge_litert": "ai-edge-litert",
        "google": "protobuf",
        "grpc": "grpcio",
    }
    package = ROOT / "keras_cascade"
    files = [
        *package.glob("runtime/**/*.py"),
        *package.glob("bundle/*.py"),
        package / "utils" / "numpy_softmax.py",
        package / "utils" / "onnx_session.py",
        package / "text" / "text_columns.py",
        package / "text" / "text_reader.py",
        package / "text" / "tokenizer.py",
    ]
    imported = {top for file in files for top in imports(file)}
    imported -= {*sys.stdlib_module_names, "keras_cascade", "tensorflow"}
    assert {distributions.get(top, top) for top in imported} == {
        *required(""),
        *required("# "),
    }


def required(prefix):
    """Names on the lines of the file that begin with a prefix."""
    lines = (ROOT / "requirements-edge.txt").read_text().splitlines()
    return re.findall(rf"^{prefix}([\w-]+)[=>]=", "\n".join(lines), re.M)


def imports(file):
    """Top-level packages that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]

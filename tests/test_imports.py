"""Imports: every public name can be used first; what loads TensorFlow."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_cascade as kc
from keras_cascade.utils.keras_import import needs_keras
from keras_cascade.utils.optional_package import optional_package
from tests.helpers.public_api import PACKAGES

# A fresh interpreter per name would import TensorFlow a hundred times. So one
# process imports everything that is not ours, and forks a child per name, in
# which keras_cascade is imported for the first time. `keras` itself is taken
# out of `sys.modules` there (its insides, `keras.src`, stay), so that it is
# imported when our code first needs it, as in a fresh process.
FIRST_USE = """
import importlib, json, os, sys, traceback

sys.stdout.flush()
for module in json.loads(sys.argv[1]):
    importlib.import_module(module)
for module in list(sys.modules):
    top, _, rest = module.partition(".")
    if top == "keras" and not rest.startswith("src"):
        del sys.modules[module]
assert not any(module.startswith("keras_cascade") for module in sys.modules)

failures = {}
for statement in json.loads(sys.argv[2]):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            exec(statement, {})
            status = 0
        except BaseException:
            os.write(write, traceback.format_exc(limit=-3)[-1500:].encode())
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, errors="replace") as stream:
        told = stream.read()
    if os.waitpid(child, 0)[1]:
        failures[statement] = told
print(json.dumps(failures))
"""
#: What our modules import at their top, beside Keras and TensorFlow.
IMPORTED = (
    "tensorflow", "keras", "ai_edge_litert.interpreter", "jinja2",
    "jsonschema", "matplotlib.figure", "scipy.optimize", "scipy.special",
    "scipy.stats", "tokenizers",
)  # fmt: skip
WITHOUT_KERAS = {
    "bundle": (),
    "calibration": (),
    "errors": (),
    "evaluation": (),
    "runtime": (),
}


def failures_of_first_use(statements, imported=IMPORTED):
    """Runs each statement first in a process: statement to traceback."""
    done = subprocess.run(
        [
            sys.executable, "-W", "ignore", "-c", FIRST_USE,
            json.dumps(imported), json.dumps(statements),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def uses(package):
    """Statements that use one public name of a package first."""
    below = package.partition(".")[2]
    for name in __import__(package, fromlist=["__all__"]).__all__:
        path = ".".join(part for part in ("kc", below, name) if part)
        yield f"import keras_cascade as kc; {path}"
    yield f"from {package} import *"


def test_every_public_name_can_be_the_first_that_is_used():
    statements = [one for package in PACKAGES for one in uses(package)]
    assert len(statements) > 120
    failures = failures_of_first_use(statements)
    told = "\n\n".join(f"{code}\n{text}" for code, text in failures.items())
    assert not failures, f"{len(failures)} names cannot come first:\n{told}"


def test_a_circle_would_be_found():
    statements = ["import json", "import no_such_module"]
    found = failures_of_first_use(statements, imported=[])
    assert list(found) == ["import no_such_module"]
    assert "No module named 'no_such_module'" in found["import no_such_module"]


@pytest.mark.parametrize("package", WITHOUT_KERAS)
def test_what_needs_neither_tensorflow_nor_keras(package):
    with_keras = WITHOUT_KERAS[package]
    code = f"""
import sys
import keras_cascade as kc
names = [n for n in kc.{package}.__all__ if n not in {with_keras!r}]
for name in names:
    getattr(kc.{package}, name)
loaded = {{"jax", "keras", "tensorflow", "torch"}} & set(sys.modules)
assert names and not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_keras_comes_before_a_module_that_needs_it():
    code = """
import sys
from keras_cascade.gates import Gate
import keras_cascade as kc
assert sys.modules["keras_cascade.gates"] is kc.gates
assert kc.gates.Gate is Gate
assert kc.gates.__spec__.name == "keras_cascade.gates"
assert kc.gates.__spec__.origin.endswith("__init__.py")
import keras
registered = keras.saving.get_custom_objects()
assert registered["keras_cascade>Cascade"] is kc.Cascade
assert registered["keras_cascade>MarginGate"] is kc.gates.MarginGate
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_every_module_that_imports_keras_waits_for_it():
    top = Path(kc.__file__).parent
    missing = []
    for file in sorted(top.rglob("*.py")):
        parts = file.relative_to(top).with_suffix("").parts
        # Nothing that is registered imports these.
        if parts[0] == "cli" or "child" in parts:
            continue
        imported = [
            name
            for node in ast.parse(file.read_text("utf-8")).body
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        name = ".".join(("keras_cascade", *parts))
        if "keras" in imported and not needs_keras(name):
            missing.append(name)
    assert not missing


def test_the_top_package_alone_loads_almost_nothing():
    code = "import keras_cascade, sys; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = set(done.stdout.split())
    assert not {"numpy", "keras", "tensorflow"} & modules
    ours = {one for one in modules if one.startswith("keras_cascade.")}
    assert ours == {
        "keras_cascade.utils",
        "keras_cascade.utils.keras_import",
        "keras_cascade.utils.native_output",
        "keras_cascade.version",
    }


def test_a_name_that_is_not_public_is_an_error():
    with pytest.raises(AttributeError, match="no attribute 'Cascades'"):
        kc.Cascades  # noqa: B018


def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    expected = re.escape("pip install 'keras-cascade[tfds]'")
    with pytest.raises(ImportError, match=expected):
        optional_package("tensorflow_datasets", extra="tfds")
    with pytest.raises(ImportError, match=expected):
        kc.datasets.load("tfds:mnist")


def test_fashion_mnist_without_tensorflow_datasets(monkeypatch, tmp_path):
    from keras_cascade.datasets import sources

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setattr(sources, "SYSTEM_FASHION_MNIST", tmp_path / "none")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"keras-cascade\[tfds\].*digits"):
        kc.datasets.load("fashion_mnist")

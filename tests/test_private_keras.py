"""Private names of Keras: each exists, and no other is used."""

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from importlib.util import find_spec
from pathlib import Path

import keras
import pytest

import keras_cascade as kc
from keras_cascade.utils.keras_private import (
    PRIVATE_NAMES,
    TFMOT_PRIVATE_NAMES,
)

PACKAGE = Path(kc.__file__).parent
LISTED = {entry.name for entry in PRIVATE_NAMES}
ELSEWHERE = {entry.name for entry in TFMOT_PRIVATE_NAMES}
#: Documented in Python's own library.
PUBLIC_IN_PYTHON = {"_exit", "_replace", "_asdict", "_fields"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
TRAINERS = (
    "keras.src.backend.jax.trainer",
    "keras.src.backend.tensorflow.trainer",
)


def source_of(module):
    """Source text of a module; its parents are imported, itself it is not."""
    return Path(find_spec(module).origin).read_text("utf-8")


def private_names_in(tree):
    """Names like `_x` that code reads, writes, defines, passes or asks for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.keyword):
            names = [node.arg or ""]
        elif isinstance(node, ast.Call):
            names = [
                one.value
                for one in node.args
                if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
        else:
            continue
        yield from (one for one in names if re.fullmatch("_[a-z][a-z_]*", one))


def product_files():
    return sorted(PACKAGE.rglob("*.py"))


def names_of_our_own():
    """Every private name that product code defines or assigns."""
    names = set()
    for file in product_files():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, DEFINITIONS):
                names.add(node.name)
            elif isinstance(node, ast.Attribute):
                if isinstance(node.ctx, ast.Store):
                    names.add(node.attr)
            elif isinstance(node, ast.Name):
                names.add(node.id)
    return names


def classes_on_keras():
    """Our classes that derive from a class of Keras."""
    for module in pkgutil.walk_packages(kc.__path__, "keras_cascade."):
        if not re.search("__main__|export.optimization|serving", module.name):
            importlib.import_module(module.name)
    bases = (
        keras.layers.Layer,
        keras.callbacks.Callback,
        keras.losses.Loss,
        keras.metrics.Metric,
        keras.utils.PyDataset,
    )
    waiting, classes = list(bases), set()
    while waiting:
        for cls in type.__subclasses__(waiting.pop()):
            waiting.append(cls)
            if cls.__module__.startswith("keras_cascade."):
                classes.add(cls)
    return sorted(classes, key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize(
    "entry", (*PRIVATE_NAMES, *TFMOT_PRIVATE_NAMES), ids=lambda one: one.name
)
def test_each_exists_where_it_is_said_to(entry):
    if entry in TFMOT_PRIVATE_NAMES:
        # Importing it would set TF_USE_LEGACY_KERAS for every later test.
        top, _, rest = entry.module.partition(".")
        root = Path(find_spec(top).origin).parent
        source = (root / f"{rest.replace('.', '/')}.py").read_text("utf-8")
    else:
        source = source_of(entry.module)
    assert entry.name in set(private_names_in(ast.parse(source)))


def test_each_is_used():
    used = set()
    for file in product_files():
        used.update(private_names_in(ast.parse(file.read_text("utf-8"))))
    assert used >= LISTED | ELSEWHERE


def test_no_other_is_overridden_or_used_on_self():
    trainers = {
        name
        for module in TRAINERS
        for name in private_names_in(ast.parse(source_of(module)))
    }
    assert {"_loss_tracker", "_get_jax_state"} <= trainers
    unlisted = {}
    for cls in classes_on_keras():
        inherited = set()
        for base in cls.__mro__:
            if base.__module__.startswith("keras."):
                source = textwrap.dedent(inspect.getsource(base))
                inherited.update(private_names_in(ast.parse(source)))
        if issubclass(cls, keras.Model):
            inherited |= trainers
        own = set(
            private_names_in(ast.parse(textwrap.dedent(inspect.getsource(cls))))
        )
        if shared := (own & inherited) - LISTED:
            unlisted[cls.__qualname__] = sorted(shared)
    assert not unlisted, (
        "Private names of Keras that keras_private.py does not list: "
        f"{unlisted}"
    )


def test_no_other_is_used_on_other_objects():
    ours = names_of_our_own() - LISTED
    unlisted = []
    for file in product_files():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            of_self = isinstance(node.value, ast.Name) and node.value.id in (
                "self",
                "cls",
            )
            known = ours | LISTED | ELSEWHERE | PUBLIC_IN_PYTHON
            private = re.fullmatch("_[a-z][a-z_]*", node.attr)
            if private and not of_self and node.attr not in known:
                where = file.relative_to(PACKAGE)
                unlisted.append(f"{where}:{node.lineno} {ast.unparse(node)}")
    assert not unlisted, (
        f"Private names that neither we nor keras_private.py know: {unlisted}"
    )

"""What editors, `help()` and type checkers see of the public API."""

import ast
import importlib
import inspect
from pathlib import Path

import jedi
import keras
import pytest

import keras_cascade as kc
from tests.helpers.public_api import PACKAGES, parameters, public_callables

ROOT = Path(kc.__file__).parent
GATHERED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
#: Methods whose arguments Keras chooses: they differ between backends.
KERAS_CHOOSES = {
    "Cascade.test_step",
    "Cascade.train_step",
}
#: Hand all that they are given to one named function of Keras, or of a user.
PASS_ON = {
    "AbstainDistillation.student_head",  # `keras.layers.Dense`
    "cross_fit_teacher_logits",  # the user's `teacher.fit`
}


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Jedi writes its cache in place: of two processes with one folder, the
    second reads half a file (`EOFError`)."""
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp("jedi"))
        patch.setattr(jedi.settings, "cache_directory", folder)
        yield


@pytest.mark.parametrize("package", PACKAGES)
def test_dir_lists_the_public_names_and_nothing_else(package):
    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        getattr(module, name)


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_a_literal_list(package):
    file = Path(importlib.import_module(package).__file__)
    tree = ast.parse(file.read_text("utf-8"))
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id == "__all__"
    ]
    changes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.AugAssign)
        and ast.unparse(node.target) == "__all__"
    ]
    assert len(values) == 1
    assert not changes
    assert isinstance(values[0], ast.List)
    names = ast.literal_eval(values[0])
    assert all(isinstance(name, str) for name in names)


def test_every_subpackage_that_users_import_is_public():
    subpackages = {name.rpartition(".")[2] for name in PACKAGES[1:]}
    assert subpackages <= set(kc.__all__)


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "py.typed").is_file()


def test_an_editor_completes_the_class_and_shows_its_signature():
    script = jedi.Script("import keras_cascade as kc\nkc.C")
    assert "Cascade" in [one.name for one in script.complete(2, 4)]
    script = jedi.Script("import keras_cascade as kc\nkc.Cascade(")
    (signature,) = script.get_signatures(2, 11)
    shown = [one.name for one in signature.params]
    assert shown[:4] == ["teacher", "student", "distillation", "gate"]


@pytest.mark.parametrize("package", PACKAGES)
def test_an_editor_finds_the_definition_of_every_name(package):
    public = importlib.import_module(package).__all__
    lines = "\n".join(f"m.{name}" for name in public)
    script = jedi.Script(f"import {package} as m\n{lines}")
    lost = [
        name
        for row, name in enumerate(public, start=2)
        if not name.startswith("__") and not script.infer(row, len(name) + 2)
    ]
    assert not lost


@pytest.mark.parametrize("package", PACKAGES)
def test_a_notebook_completes_the_public_names_and_nothing_else(package):
    module = importlib.import_module(package)
    interpreter = jedi.Interpreter("m.", [{"m": module}])
    offered = {one.name for one in interpreter.complete(1, 2)}
    assert {name for name in offered if not name.startswith("__")} == {
        name for name in module.__all__ if not name.startswith("__")
    }


def test_signatures_are_explicit():
    opaque = []
    for name, function, cls in public_callables():
        keras_class = cls is not None and issubclass(cls, keras.layers.Layer)
        if keras_class and name.endswith(".__init__"):
            continue  # on to `keras.layers.Layer` or `keras.Model`
        if name in KERAS_CHOOSES | PASS_ON:
            continue
        kinds = [one.kind for one in parameters(function)]
        if inspect.Parameter.VAR_KEYWORD in kinds:
            opaque.append(name)
    assert not opaque, f"`**kwargs` in public signatures: {opaque}"


def test_every_public_callable_is_annotated():
    bare = {}
    for name, function, _ in public_callables():
        missing = [
            one.name
            for one in parameters(function)
            if one.annotation is one.empty and one.kind not in GATHERED
        ]
        signature = inspect.signature(function)
        constructor = name.endswith(".__init__")
        if not constructor and signature.return_annotation is signature.empty:
            missing.append("return")
        if missing:
            bare[name] = missing
    lines = "\n".join(f"{name}: {', '.join(m)}" for name, m in bare.items())
    assert not bare, f"Without annotations:\n{lines}"

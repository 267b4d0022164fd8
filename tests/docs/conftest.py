"""The teachers that `docs/wire.md` talks to, behind real servers."""

import contextlib
import json
import shutil

import pytest
import tensorflow as tf

from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.serving import ServerProcess
from tests.helpers.documents import ROOT

CLASSES = ["cat", "dog", "bird"]


@tf.function(input_signature=[tf.TensorSpec([None, 2], name="input")])
def sums(x):
    """Two numbers and their sum."""
    return {"logits": tf.concat([x, tf.reduce_sum(x, 1, True)], 1)}


@tf.function(input_signature=[tf.TensorSpec([None], tf.string, "input")])
def lengths(text):
    """Characters, bytes of UTF-8, and 0."""
    characters = tf.strings.length(text, "UTF8_CHAR")
    columns = [characters, tf.strings.length(text), 0 * characters]
    return {"logits": tf.cast(tf.stack(columns, 1), tf.float32)}


TEACHERS = {
    "numbers": (sums, [None, 2], "float32"),
    "texts": (lengths, [None], "string"),
}


def make_bundle(path, logits, shape, dtype):
    """A bundle with a teacher of our own; its student is of no use."""
    shutil.copytree(ROOT / "saved_models" / "fashion_mnist_float32", path)
    teacher = path / "teacher" / "1"
    shutil.rmtree(teacher)
    module = tf.Module()
    module.logits = logits
    tf.saved_model.save(
        module, str(teacher), signatures={"serving_default": logits}
    )
    manifest = json.loads((path / "manifest.json").read_text("utf-8"))
    manifest["classes"] = CLASSES
    manifest["input"] = [
        {"name": "input", "shape": shape, "dtype": dtype, "range": None}
    ]
    manifest["teacher"]["files"] = {
        file.relative_to(teacher).as_posix(): hash_file(file)
        for file in teacher.rglob("*")
        if file.is_file()
    }
    write_manifest(manifest, path / "manifest.json")
    return path


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """Dict of a teacher's name to `keras-cascade serve` with its bundle."""
    folder = tmp_path_factory.mktemp("wire")
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(
                ServerProcess(
                    make_bundle(folder / name, *teacher),
                    folder / f"{name}.log",
                )
            )
            for name, teacher in TEACHERS.items()
        }

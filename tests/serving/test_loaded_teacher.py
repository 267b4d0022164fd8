"""Teachers that are exchanged between the hash check and the load."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.runtime import SavedModelTeacher
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from tests.helpers.bundle_exchange import replace_bundle

X = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


@pytest.fixture
def path(bundle_path, tmp_path):
    shutil.copytree(bundle_path, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def answered(monkeypatch):
    """The answers of every teacher that a server has loaded."""
    answers = []

    def keep(self, bundle, run, limits, metrics, platform):
        answers.append(run({"input": X}))

    monkeypatch.setattr(LoadedTeacher, "__init__", keep)
    return answers


@pytest.fixture(scope="module")
def saved_ones(tmp_path_factory):
    """A SavedModel with the teacher's inputs, whose logits are ones."""
    folder = tmp_path_factory.mktemp("ones") / "1"
    module = tf.Module()
    module.ones = tf.function(
        lambda x: {"logits": tf.ones((tf.shape(x)[0], 4))},
        input_signature=[tf.TensorSpec([None, 6], name="input")],
    )
    tf.saved_model.save(
        module, str(folder), signatures={"serving_default": module.ones}
    )
    return folder


def exchange_folder(path, other):
    def another(manifest, folder):
        teacher = folder / manifest["teacher"]["path"]
        shutil.rmtree(teacher)
        shutil.copytree(other, teacher)
        manifest["teacher"]["files"] = {
            file.relative_to(teacher).as_posix(): hash_file(file)
            for file in teacher.rglob("*")
            if file.is_file()
        }

    replace_bundle(path, another)


def exchange_teacher(path, other):
    shutil.rmtree(path / "teacher" / "1")
    shutil.copytree(other, path / "teacher" / "1")


def write_in_place(path, other):
    for file in other.rglob("*"):
        name = file.relative_to(other)
        if file.is_file():
            with open(path / "teacher" / "1" / name, "wb") as stream:
                stream.write(file.read_bytes())


EXCHANGES = pytest.mark.parametrize(
    "exchange", [exchange_folder, exchange_teacher, write_in_place]
)


@EXCHANGES
def test_between_the_check_and_the_load(path, saved_ones, exchange, answered):
    bundle = Bundle.load(path)
    exchange(path, saved_ones)
    with pytest.raises(BundleError, match=r"was altered|lacks"):
        LoadedTeacher.load(bundle, Limits(), ServerMetrics())
    assert not answered


@EXCHANGES
def test_while_it_is_loaded(
    path, saved_ones, exchange, answered, bundle_path, monkeypatch
):
    expected = SavedModelTeacher(bundle_path / "teacher" / "1").logits(
        {"input": X}
    )
    load = tf.saved_model.load

    def slow_load(folder):
        exchange(path, saved_ones)
        return load(folder)

    monkeypatch.setattr(tf.saved_model, "load", slow_load)
    LoadedTeacher.load(Bundle.load(path), Limits(), ServerMetrics())
    (logits,) = answered
    np.testing.assert_array_equal(logits, expected)


def test_its_manifest(path):
    bundle = Bundle.load(path)
    teacher = LoadedTeacher(
        bundle, lambda inputs: inputs["input"], Limits(), ServerMetrics()
    )
    shutil.rmtree(path)
    assert teacher.manifest_sha256 == bundle.manifest_sha256
    assert json.loads(json.dumps(teacher.version)) == "1"

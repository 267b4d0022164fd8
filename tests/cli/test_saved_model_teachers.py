"""Commands on a cascade whose teacher is a SavedModel."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle
from keras_cascade.cli.saved_cascade import TRUST
from tests.helpers.command_line import save_model

COMMAND = "calibrate", "evaluate", "export"


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """Folder of a SavedModel that outputs logits of four classes."""
    folder = tmp_path_factory.mktemp("saved")
    file = save_model(folder / "teacher.keras")
    model = keras.models.load_model(file)
    model.export(folder / "saved_model", verbose=False)
    return folder / "saved_model"


def cascade_of(saved_model, file, kind):
    """Saves an untrained cascade with it, of Keras or of `kc.teachers`."""
    student = keras.models.load_model(save_model(file.with_name("s.keras")))
    teacher = (
        kc.models.load_model(saved_model)
        if kind == "keras"
        else kc.teachers.SavedModel(saved_model)
    )
    cascade = kc.Cascade(teacher, student)
    cascade.compile("sgd", metrics=["accuracy"])
    cascade.save(file)


@pytest.mark.parametrize("kind", ["keras", "teachers"])
def test_it_is_run_where_the_user_trusts_it(
    kind, saved_model, points, run, monkeypatch, tmp_path
):
    file, bundle = tmp_path / "c.keras", tmp_path / "bundle"
    cascade_of(saved_model, file, kind)
    arguments = {
        "calibrate": ["--objective", "max_delegation_rate=0.5"],
        "evaluate": [],
        "export": ["--output", bundle],
    }
    monkeypatch.delenv(TRUST, raising=False)
    for command in COMMAND:
        with pytest.raises(ValueError, match=f"graph is code.*{TRUST}=1"):
            run(command, file, "--data", points, *arguments[command])
    monkeypatch.setenv(TRUST, "1")
    printed = [
        run(command, file, "--data", points, *arguments[command], "--json")
        for command in COMMAND
    ]
    metrics = json.loads(printed[1])
    loaded = Bundle.load(bundle)
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    expected = keras.ops.softmax(kc.models.load_model(saved_model)(x))
    with kc.runtime.EdgeCascade.load(loaded.path, teacher="local") as edge:
        found = edge.predict(x)
    cloud = found.source == "cloud"
    assert cloud.any()
    assert 0.0 <= metrics["delegation_rate"] <= 0.6
    np.testing.assert_allclose(
        found.probabilities[cloud],
        keras.ops.convert_to_numpy(expected)[cloud],
        atol=1e-5,
    )


def test_other_values_of_the_variable_are_no_trust(
    saved_model, points, run, monkeypatch, tmp_path
):
    cascade_of(saved_model, tmp_path / "c.keras", "keras")
    monkeypatch.setenv(TRUST, "0")
    with pytest.raises(ValueError, match="graph is code"):
        run("evaluate", tmp_path / "c.keras", "--data", points)

"""Classifiers from files, folders and handles."""

import keras
import keras_hub
import numpy as np
import pytest
from keras import layers

import keras_cascade as kc

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")


@pytest.fixture
def model():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, activation="softmax")]
    )


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_files(name, model, tmp_path):
    model.save(tmp_path / name)
    loaded = kc.models.load_model(tmp_path / name)
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)


def test_saved_model(model, tmp_path):
    model.export(tmp_path / "saved", verbose=False)
    loaded = kc.models.load_model(tmp_path / "saved")
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
    assert loaded.count_params() == model.count_params()
    loaded.save(tmp_path / "again.keras")
    with pytest.raises(ValueError, match="safe_mode=False"):
        kc.models.load_model(tmp_path / "again.keras")
    again = kc.models.load_model(tmp_path / "again.keras", safe_mode=False)
    np.testing.assert_allclose(again(X), model(X), atol=1e-6)
    with pytest.raises(ValueError, match="output out of"):
        kc.models.load_model(tmp_path / "saved", output="nothing")
    with pytest.raises(ValueError, match=r"Expected the inputs \['"):
        loaded({"other": X})


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match="There is none at"):
        kc.models.load_model(tmp_path / "nothing.keras")
    (tmp_path / "m.keras").write_bytes(b"no model")
    with pytest.raises(ValueError, match="is something else, or damaged"):
        kc.models.load_model(tmp_path / "m.keras")
    with pytest.raises(ValueError, match=r"neither a saved_model\.pb nor"):
        kc.models.load_model(tmp_path)


def test_handles(model, monkeypatch):
    """Nothing is downloaded: which loader is given which handle."""
    asked = []

    def found(handle):
        asked.append(("text", handle))
        return model

    def refused(handle):
        asked.append(("image", handle))
        raise ValueError("a preset of another task")

    models = keras_hub.models
    monkeypatch.setattr(models.ImageClassifier, "from_preset", refused)
    monkeypatch.setattr(models.TextClassifier, "from_preset", found)
    handle = "kaggle://user/bert/keras/small"
    assert kc.models.load_model(handle) is model
    assert asked == [("image", handle), ("text", handle)]
    monkeypatch.setattr(models.TextClassifier, "from_preset", refused)
    with pytest.raises(ValueError, match="KerasHub preset of a classifier"):
        kc.models.load_model(handle)
    monkeypatch.setattr(
        keras.models, "load_model", lambda handle, *_, **__: (handle, model)
    )
    assert kc.models.load_model("hf://user/m") == ("hf://user/m", model)

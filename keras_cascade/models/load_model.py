"""Classifiers from files, folders and handles."""

import os
import zipfile
from pathlib import Path
from typing import Any

import keras

from keras_cascade.models.saved_model_classifier import SavedModelClassifier
from keras_cascade.utils.optional_package import optional_package

HDF5 = (".h5", ".hdf5")
#: KerasHub's base classes of classifiers, in the order of trying.
_TASKS = ("ImageClassifier", "TextClassifier")
_EXPECTED = (
    "Expected a .keras file, as `model.save` writes it, an .h5 file, the "
    "folder of a SavedModel or of a KerasHub preset, or a handle such as "
    "hf://USER/MODEL or kaggle://USER/MODEL/keras/VARIATION."
)


def load_model(
    filepath: str | os.PathLike,
    custom_objects: dict[str, Any] | None = None,
    safe_mode: bool = True,
    endpoint: str | None = None,
    output: str | None = None,
) -> keras.Model:
    """Loads a classifier, for use as a cascade's teacher or student.

    Args:
        filepath: str or path: a `.keras` file; an `.h5` file of Keras 2 or 3
            (read without its optimizer); the folder of a TensorFlow 2
            SavedModel, or of a KerasHub preset; or a handle with `://`, of
            Hugging Face or Kaggle, as `keras_hub` and
            `keras.models.load_model` take it.
        custom_objects: dict of name to class, of Keras. Defaults to `None`.
        safe_mode: bool, of Keras. `False` also reads what runs code of its
            file: `Lambda` layers, and cascades whose teacher is a SavedModel.
            Defaults to `True`.
        endpoint: of `SavedModelClassifier`. Defaults to `None`.
        output: of `SavedModelClassifier`. Defaults to `None`.

    Returns:
        `keras.Model`. It may end in logits or in probabilities: see
        `logits_model`.

    Raises:
        ImportError: a preset needs `keras_hub`, which is not installed.
        ValueError: there is no such file, or it is something else.

    Example:

    ```python
    teacher = keras_cascade.models.load_model("resnet50.h5")
    cascade = keras_cascade.Cascade(teacher, student)
    ```
    """
    if "://" in str(filepath):
        return _of_handle(str(filepath), custom_objects, safe_mode)
    path = Path(filepath)
    if not path.exists():
        raise ValueError(f"{_EXPECTED} There is none at '{path}'.")
    if Path(path, "saved_model.pb").is_file():
        return SavedModelClassifier(path, endpoint, output)
    if path.is_dir():
        if Path(path, "config.json").is_file():
            return _of_preset(str(path))
        raise ValueError(
            f"{_EXPECTED} The folder '{path}' has neither a saved_model.pb "
            "nor a config.json."
        )
    if path.suffix.lower() in HDF5:
        return keras.models.load_model(path, custom_objects, compile=False)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{_EXPECTED} '{path}' is something else, or damaged.")
    return keras.models.load_model(path, custom_objects, safe_mode=safe_mode)


def _of_handle(handle, custom_objects, safe_mode):
    """Model of a handle: a KerasHub preset, or a `.keras` model."""
    try:
        return _of_preset(handle)
    except ValueError as error:
        if not handle.startswith("hf://"):
            raise
        try:
            return keras.models.load_model(
                handle, custom_objects, safe_mode=safe_mode
            )
        except ValueError as second:
            raise ValueError(f"{error} As a Keras model: {second}") from second


def _of_preset(preset):
    """KerasHub's classifier of a preset."""
    models = optional_package("keras_hub", extra="text").models
    reasons = []
    for name in _TASKS:
        try:
            return getattr(models, name).from_preset(preset)
        except ValueError as error:  # a preset of another task
            reasons.append(f"{name}: {' '.join(str(error).split())[:200]}")
    raise ValueError(
        f"Expected a KerasHub preset of a classifier at '{preset}'. Received "
        f"none: {'; '.join(reasons)}."
    )

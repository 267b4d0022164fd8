"""A teacher on this machine: the bundle's own SavedModel."""

from __future__ import annotations

import importlib
import os
import re

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.utils.native_output import load_tensorflow

UNKNOWN_OPERATION = r"Op type not registered '(\w+)'"


class SavedModelTeacher:
    """Runs a SavedModel in this process. Needs TensorFlow.

    Args:
        folder: path of a SavedModel with the signature `serving_default`.
        output: str, the output to read. Defaults to `"logits"`.
    """

    def __init__(self, folder: str | os.PathLike, output: str = "logits"):
        try:
            tf = load_tensorflow()
        except ImportError as error:
            raise TeacherError(
                "A local teacher needs TensorFlow: install `tensorflow`, or "
                "pass the URL of a teacher that runs elsewhere."
            ) from error
        self._tf = tf
        try:
            self._model = self._loaded(str(folder))
            self._signature = self._model.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise TeacherError(
                f"Expected a SavedModel with the signature 'serving_default' "
                f"in '{folder}'. Received: {error}"
            ) from error
        self._output = output

    def check(self) -> None:
        """Does nothing: a loaded teacher is ready to answer."""

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Computes the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`.
        """
        # TensorFlow encodes texts, which are objects here, as UTF-8.
        tensors = {k: self._tf.constant(v) for k, v in inputs.items()}
        return self._signature(**tensors)[self._output].numpy()

    def close(self) -> None:
        """Does nothing: there is no connection."""

    def _loaded(self, folder):
        try:
            return self._tf.saved_model.load(folder)
        except (OSError, RuntimeError) as error:
            missing = re.search(UNKNOWN_OPERATION, str(error))
            if missing is None:
                raise
            operation = missing.group(1)
        # A tokenizer of KerasHub in it, most likely: its operations are known
        # to TensorFlow once the package that has them was imported.
        try:
            importlib.import_module("tensorflow_text")
            return self._tf.saved_model.load(folder)
        except ImportError as error:
            raise TeacherError(
                f"The SavedModel in '{folder}' needs the operation "
                f"'{operation}', which TensorFlow Text brings. Install "
                "`tensorflow-text`."
            ) from error
        except RuntimeError as error:
            raise TeacherError(
                f"The SavedModel in '{folder}' needs an operation that is in "
                f"neither TensorFlow nor TensorFlow Text: {str(error)[:200]}"
            ) from error

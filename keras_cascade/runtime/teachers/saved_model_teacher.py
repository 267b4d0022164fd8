"""A teacher on this machine: the bundle's own SavedModel."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import weakref
from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import BundleError, TeacherError
from keras_cascade.runtime.teachers.graph_operations import file_operations
from keras_cascade.utils.native_output import load_tensorflow

if TYPE_CHECKING:
    from keras_cascade.bundle import Bundle

UNKNOWN_OPERATION = r"Op type not registered '(\w+)'"


class SavedModelTeacher:
    """Runs a SavedModel in this process. Needs TensorFlow.

    Its graph runs with the rights of this process, and nothing of it is
    checked: use `SavedModelTeacher.of(bundle)` for a bundle's teacher.

    Args:
        folder: path of a SavedModel with the signature `serving_default`.
        output: str, the output to read. Defaults to `"logits"`.
    """

    def __init__(self, folder: str | os.PathLike, output: str = "logits"):
        self._tf = _tensorflow()
        self._output = output
        self._open(str(folder), str(folder))

    @classmethod
    def of(
        cls, bundle: Bundle, allow_file_operations: bool = False
    ) -> SavedModelTeacher:
        """Loads a bundle's teacher, from bytes that have its hashes.

        TensorFlow is given a private copy of the SavedModel, which is hashed
        while it is made and removed once it is loaded: what is exchanged or
        altered in the bundle meanwhile is not seen.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.
            allow_file_operations: bool. Loads a graph that opens files or
                reaches out of TensorFlow in another way; the copy is then
                kept as long as the teacher. Defaults to `False`.

        Raises:
            BundleError: the bundle holds no teacher, a file of it is missing
                or was altered, or its graph has operations on files.
            TeacherError: the SavedModel cannot be loaded.
        """
        teacher = cls.__new__(cls)
        teacher._tf = _tensorflow()
        with contextlib.ExitStack() as stack:
            copy = stack.enter_context(bundle.teacher_copy())
            teacher._output = bundle.manifest["teacher"]["output"]
            name = str(bundle.teacher_folder)
            found = teacher._operations(str(copy), name)
            if found and not allow_file_operations:
                raise BundleError(
                    f"The graph of the SavedModel '{name}' reaches out of "
                    "TensorFlow. Expected: one that only computes. Received: "
                    f"{'; '.join(map(str, found[:3]))}. Export a teacher "
                    "without it; or, if you trust whoever made the bundle, "
                    "pass `--allow-file-operations` to `keras-cascade serve` "
                    "(in Python: `allow_file_operations=True`)."
                )
            teacher._open(str(copy), name)
            if found:  # it may open its files at any time
                weakref.finalize(teacher, stack.pop_all().close)
        return teacher

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

    def _operations(self, folder, name):
        parse = self._tf.__internal__.saved_model.parse_saved_model
        try:
            return file_operations(parse(folder))
        except OSError as error:
            raise _unusable(name, error) from error

    def _open(self, folder, name):
        """Loads a folder, which errors call `name`."""
        try:
            self._model = self._loaded(folder, name)
            self._signature = self._model.signatures["serving_default"]
        except (OSError, KeyError) as error:
            raise _unusable(name, error) from error

    def _loaded(self, folder, name):
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
                f"The SavedModel in '{name}' needs the operation "
                f"'{operation}', which TensorFlow Text brings. Install "
                "`tensorflow-text`."
            ) from error
        except RuntimeError as error:
            raise TeacherError(
                f"The SavedModel in '{name}' needs an operation that is in "
                f"neither TensorFlow nor TensorFlow Text: {str(error)[:200]}"
            ) from error


def _tensorflow():
    try:
        return load_tensorflow()
    except ImportError as error:
        raise TeacherError(
            "A local teacher needs TensorFlow: install `tensorflow`, or "
            "pass the URL of a teacher that runs elsewhere."
        ) from error


def _unusable(name, error):
    return TeacherError(
        f"Expected a SavedModel with the signature 'serving_default' in "
        f"'{name}'. Received: {error}"
    )

"""Base class of teachers that are no Keras model."""

from __future__ import annotations

import abc
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import (
    CLIP,
    check_outputs,
    logits_of_answers,
)

#: Fewer rows may look like probabilities by chance.
ROWS_TO_TELL = 4
#: The name that a cascade gives its one unnamed input.
SINGLE_INPUT = "input"


class Teacher(abc.ABC):
    """Base class of teachers that are no Keras model.

    A subclass implements `answers`. Everything else, `Cascade(teacher=...)`,
    `cache_teacher_logits`, `judge`, `calibrate`, `evaluate`, `predict` and
    `EdgeCascade.load(teacher=...)`, stands on `logits`.

    The contract: `answers` gets a batch of the cascade's inputs in NumPy
    (floats of 64 bits as float32, texts as an array of `str`) and returns one
    row per example, in the same order, over the same classes as the student.
    One column is that of a binary classifier: a score z stands for the logits
    (0, z), a probability p for (log(1 - p), log p). A row of NaN says that
    the teacher gave no answer to that example: the student then learns from
    its label, and a delegated row keeps the student's answer.

    Args:
        outputs: str, `"logits"` or `"probabilities"`. Of probabilities the
            logarithm is taken. Defaults to `"logits"`.
        clip: float, the least probability: smaller ones become it. Defaults
            to `1e-7`.

    Attributes:
        outputs: str.
        clip: float.
        class_names: list of str in label order, or `None` where the teacher
            names none. Where it names them, `export` compares them with
            `class_names`.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> class Thresholds(kc.teachers.Teacher):
    ...     def answers(self, inputs):
    ...         return inputs.sum(axis=1) - 1.0  # one column: binary
    >>> Thresholds().logits(np.array([[1.0, 2.0], [0.0, 0.5]])).tolist()
    [[0.0, 2.0], [0.0, -0.5]]
    """

    class_names: list[str] | None = None
    #: Inputs that are made up may be asked about, at export: it is no
    #: endpoint, and an answer costs nothing.
    takes_probes = False

    def __init__(self, outputs: str = "logits", clip: float = CLIP) -> None:
        check_outputs(outputs, clip)
        self.outputs = outputs
        self.clip = clip

    @abc.abstractmethod
    def answers(self, inputs: Any) -> np.ndarray:
        """Answers a batch.

        Args:
            inputs: a batch of the cascade's inputs: an array, or a structure
                of arrays, batch first.

        Returns:
            float array `(rows, classes)`, or `(rows,)` of a binary
            classifier.
        """

    def logits(self, inputs: Any) -> np.ndarray:
        """Answers a batch with validated logits.

        Args:
            inputs: as `answers` takes them; also a dict with the one key
                `"input"`, as `EdgeCascade` names an unnamed input.

        Returns:
            float32 array `(rows, classes)`; rows without an answer are NaN.

        Raises:
            ValueError: the answers are no numbers, have another number of
                rows, infinite values, or are probabilities where logits are
                expected.
        """
        if isinstance(inputs, dict) and set(inputs) == {SINGLE_INPUT}:
            inputs = inputs[SINGLE_INPUT]
        logits = logits_of_answers(
            self.answers(inputs), self.outputs, self.clip
        )
        rows = len(_first_leaf(inputs))
        if len(logits) != rows:
            raise ValueError(
                f"Expected one row of answers per example, {rows}, from "
                f"{self.describe()}. Received: {len(logits)}."
            )
        self._check(logits)
        return logits

    def describe(self) -> str:
        """Returns a short name for error messages and model cards."""
        return type(self).__name__

    def identity(self) -> str:
        """Returns a SHA-256 that another teacher does not have, in hex.

        A cache of logits is refused for a teacher with another identity. By
        default it is that of the class's name and `get_config()`.
        """
        return _sha256(
            json.dumps(
                [type(self).__qualname__, self.get_config()],
                sort_keys=True,
                default=str,
            ).encode()
        )

    def served_identity(self, classes: list[str]) -> str | None:
        """Returns the identity that a server of this teacher states.

        Args:
            classes: list of str, the bundle's, in label order.

        Returns:
            SHA-256 of `identity()` and the classes, in hex.
        """
        content = {"classes": list(classes), "teacher": self.identity()}
        return _sha256(json.dumps(content, sort_keys=True).encode())

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make this teacher again, as JSON."""
        return {"outputs": self.outputs, "clip": self.clip}

    @classmethod
    def restored(cls, config: dict[str, Any]) -> Teacher:
        """Makes the teacher that a saved cascade had, from its config.

        Raises:
            ValueError: it must be attached again. So it is by default: a
                file of a cascade holds no Python objects.
        """
        raise ValueError("a saved cascade holds no Python objects")

    def write(self, folder: Path, signature: Any) -> dict | None:
        """Writes what a bundle ships of the teacher.

        Args:
            folder: `Path` to write to, which does not exist yet.
            signature: `Signature` of the cascade's inputs.

        Returns:
            Dict to add to the manifest's entry of the teacher; or `None`,
            where nothing was written and the bundle names a teacher that runs
            elsewhere.
        """
        return None

    def elsewhere(self) -> dict[str, Any]:
        """Returns the manifest's `remote_teacher` of a bundle without it.

        Returns:
            Dict of `kind` and `url`, which is `None` where there is none.
        """
        return {"kind": type(self).__name__, "url": None}

    def keep_answers_in(self, folder: str | os.PathLike) -> None:  # noqa: B027
        """Keeps paid answers in a folder; other teachers keep none.

        `cache_teacher_logits` calls this with the cache's folder.
        """

    def _check(self, logits):
        answered = ~np.isnan(logits).all(axis=1)
        if not np.isfinite(logits[answered]).all():
            raise ValueError(
                f"Expected finite answers from {self.describe()}, or rows of "
                "NaN where it has none. Received NaN or infinity among "
                "numbers."
            )
        if self.outputs != "logits" or answered.sum() < ROWS_TO_TELL:
            return
        values = logits[answered]
        sums = values.sum(axis=1)
        if values.min() >= 0 and np.abs(sums - 1.0).max() < 1e-3:
            raise ValueError(
                f"Expected logits from {self.describe()}. Received "
                "probabilities: every row's sum is 1. Pass "
                "outputs='probabilities'."
            )


def files_sha256(files: dict[str, Path]) -> str:
    """SHA-256 of some files' names and contents, in hex.

    Args:
        files: dict of the name that counts to the file's path.
    """
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(name.encode() + b"\0")
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _sha256(content):
    return hashlib.sha256(content).hexdigest()


def _first_leaf(inputs):
    while isinstance(inputs, (dict, tuple)) or (
        isinstance(inputs, list) and inputs and hasattr(inputs[0], "shape")
    ):
        inputs = next(
            iter(inputs.values() if isinstance(inputs, dict) else inputs)
        )
    return inputs

"""Keras model around a teacher that is none."""

from __future__ import annotations

import os
from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import take_rows
from keras_cascade.datasets.fingerprint import example_hashes
from keras_cascade.teachers.callable import Callable
from keras_cascade.teachers.memory import AnswerMemory
from keras_cascade.teachers.onnx import Onnx
from keras_cascade.teachers.openai_compatible import OpenAICompatible
from keras_cascade.teachers.saved_model import SavedModel
from keras_cascade.teachers.sklearn_pipeline import SklearnPipeline
from keras_cascade.teachers.teacher import Teacher
from keras_cascade.teachers.torch import Torch
from keras_cascade.teachers.url import Url
from keras_cascade.text.text_columns import as_text_arrays
from keras_cascade.utils.tensor_ops import Tensor

#: Teachers that a saved cascade makes again from their config.
RESTORED: dict[str, type[Teacher]] = {
    "Onnx": Onnx,
    "OpenAICompatible": OpenAICompatible,
    "SavedModel": SavedModel,
    "Url": Url,
}
#: Why some of them are not made in Keras's safe mode.
RISKS = {
    "OpenAICompatible": "your key would be sent to the URL that the file names",
    "SavedModel": "a SavedModel's graph is code",
}
EXPECTED = (
    "Expected the teacher to be a `keras.Model` from inputs to logits, an "
    "object with `logits(inputs)`, a function, a PyTorch module, a fitted "
    "scikit-learn classifier, or the path of an ONNX file or a SavedModel."
)


def get(identifier: Any) -> Teacher:
    """Makes a `Teacher` of anything that can be one.

    Args:
        identifier: `Teacher`; path of an `.onnx` file or of a SavedModel's
            folder; fitted scikit-learn classifier; PyTorch module; object
            with `logits(inputs)`; or function.

    Returns:
        `Teacher`.

    Raises:
        ValueError: it is none of these.

    Example:

    >>> import keras_cascade as kc
    >>> kc.teachers.get(lambda x: x).describe()
    "the function '<lambda>'"
    """
    if isinstance(identifier, Teacher):
        return identifier
    if isinstance(identifier, (str, os.PathLike)):
        path = os.fspath(identifier)
        if "://" in path:
            raise ValueError(
                "Expected `keras_cascade.teachers.Url(url, classes)` for a "
                f"teacher behind a URL. Received: '{path}'."
            )
        return Onnx(path) if path.endswith(".onnx") else SavedModel(path)
    if hasattr(identifier, "state_dict") and hasattr(identifier, "eval"):
        return Torch(identifier)
    if hasattr(identifier, "classes_"):
        return SklearnPipeline(identifier)
    own = getattr(identifier, "logits", None)
    if callable(own):
        return Callable(own)
    if callable(identifier) and not isinstance(identifier, type):
        return Callable(identifier)
    raise ValueError(f"{EXPECTED} Received: {type(identifier).__name__}.")


def as_keras_teacher(teacher: Any) -> Any:
    """Returns a Keras model as it is, and wraps any other teacher.

    Args:
        teacher: `keras.Model`, or what `get` takes.

    Returns:
        `keras.Model`.
    """
    if isinstance(teacher, (keras.Model, keras.layers.Layer)):
        return teacher
    return TeacherModel(get(teacher))


@keras.saving.register_keras_serializable("keras_cascade")
class TeacherModel(keras.Model):
    """Keras model without weights that asks a teacher outside of the graph.

    An example is asked about once: answers are kept in memory, by a hash of
    the example. So an epoch, a validation or an export after the first one
    costs nothing.

    Args:
        teacher: `Teacher`, or `None` for one that must be attached.
        missing: str, why there is none. Defaults to `""`.
        **kwargs: of `keras.Model`.

    Attributes:
        teacher: `Teacher` or `None`; set it with `attach`.
        error: the error that the teacher raised inside of a graph, or `None`.
        is_untrusted: bool. `True` where the file names a teacher that Keras's
            safe mode does not make.
    """

    #: Checks and files of Keras models do not apply.
    is_external = True

    def __init__(
        self, teacher: Teacher | None, missing: str = "", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.autocast = False
        # XLA cannot call Python.
        self.supports_jit = False
        self.error: Exception | None = None
        self.is_untrusted = False
        self._missing = missing
        self._classes: int | None = None
        self._set(teacher)
        self.built = True

    def attach(self, teacher: Any) -> None:
        """Puts another teacher, or a missing one, into its position.

        Args:
            teacher: what `keras_cascade.teachers.get` takes.
        """
        self._set(get(teacher))

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        """Calls the teacher; Keras would put its own words around an error."""
        if any(
            isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(args)
        ):
            return super().__call__(*args, **kwargs)
        return self.call(*args, **kwargs)

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        if keras.backend.backend() == "jax":
            return self._call_jax(inputs)
        import tensorflow as tf

        tensors = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        if tf.executing_eagerly():
            arrays = keras.tree.map_structure(_to_numpy, tensors)
            return tf.convert_to_tensor(self.numpy_logits(arrays))
        logits = tf.numpy_function(
            lambda *leaves: self._in_graph(inputs, leaves),
            keras.tree.flatten(tensors),
            tf.float32,
        )
        logits.set_shape([None, self._classes])
        return logits

    def numpy_logits(self, inputs: Any) -> np.ndarray:
        """Answers a batch of NumPy arrays, from memory where it can.

        Args:
            inputs: structure of arrays, batch first.

        Returns:
            float32 array `(rows, classes)`; rows without an answer are NaN.
        """
        teacher = self._attached()
        x = keras.tree.map_structure(_as_seen_by_student, inputs)
        x = as_text_arrays(x)
        hashes = example_hashes(x).tolist()
        found = self._memory.find(hashes)
        unknown = {
            key: row
            for row, key in reversed(list(enumerate(hashes)))
            if found[row] is None
        }
        if unknown:
            rows = np.array(sorted(unknown.values()))
            whole = len(rows) == len(hashes)
            fresh = teacher.logits(x if whole else take_rows(x, rows))
            if self._classes not in (None, fresh.shape[1]):
                raise ValueError(
                    f"Expected answers over {self._classes} classes from "
                    f"{teacher.describe()}. Received: {fresh.shape[1]}."
                )
            keys = [hashes[row] for row in rows]
            self._memory.add(keys, fresh)
            answers = dict(zip(keys, fresh, strict=True))
            found = [
                answers[key] if one is None else one
                for key, one in zip(hashes, found, strict=True)
            ]
        logits = np.stack([one for one in found if one is not None])
        self._classes = logits.shape[1]
        return np.asarray(logits, "float32")

    def identity(self) -> str:
        """Returns the teacher's identity, for caches of its logits."""
        return self._attached().identity()

    def get_config(self) -> dict[str, Any]:
        config = {"name": self.name}
        if self.teacher is None:
            return {**config, "missing": self._missing, "teacher": None}
        kind = type(self.teacher).__name__
        restored = type(self.teacher) is RESTORED.get(kind)
        return {
            **config,
            "classes": self._classes,
            "missing": self.teacher.describe(),
            "teacher": {
                "kind": kind,
                "identity": self.teacher.identity(),
                "config": self.teacher.get_config(),
            }
            if restored
            else None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TeacherModel:
        saved, missing = config["teacher"], config["missing"]
        teacher, risk = None, None
        if saved is not None:
            risk = RISKS.get(saved["kind"]) if _is_safe_mode() else None
            if risk is None:
                teacher, why = _restored(saved)
                missing += why
            else:
                missing += (
                    f" ({risk}: `load_model(path, safe_mode=False)` makes it "
                    "of a file that you trust)"
                )
        model = cls(teacher, missing, name=config["name"])
        model.is_untrusted = risk is not None
        model._classes = config.get("classes")
        return model

    def _set(self, teacher):
        # Kept out of Keras's tracking: it is no part of the saved weights.
        object.__setattr__(self, "teacher", teacher)
        object.__setattr__(self, "_memory", _memory_of(teacher))
        self.error = None
        self.is_untrusted = False

    def _attached(self):
        if self.teacher is None:
            raise ValueError(
                "This cascade was saved without its teacher, "
                f"{self._missing}, which the file cannot hold or that is not "
                "found. Attach it again: `cascade.teacher = teacher`."
            )
        return self.teacher

    def _in_graph(self, structure, leaves):
        """Answers inside of a graph, which hides what an error says."""
        try:
            return self.numpy_logits(
                keras.tree.pack_sequence_as(structure, list(leaves))
            )
        except Exception as error:
            self.error = error
            raise

    def _call_jax(self, inputs):
        import jax

        leaves = keras.tree.flatten(inputs)
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            arrays = keras.tree.map_structure(np.asarray, inputs)
            return keras.ops.convert_to_tensor(self.numpy_logits(arrays))
        if self._classes is None:
            raise ValueError(
                "Expected the teacher to be asked once outside of a compiled "
                "step. Call the cascade on a batch first."
            )
        shape = (leaves[0].shape[0], self._classes)
        return jax.pure_callback(
            lambda *arrays: self._in_graph(
                inputs, [np.asarray(one) for one in arrays]
            ),
            jax.ShapeDtypeStruct(shape, np.float32),
            *leaves,
        )


class _Probe(keras.layers.TFSMLayer):
    """Layer of the kind that Keras's safe mode refuses, without a file."""

    def __init__(self) -> None:
        keras.layers.Layer.__init__(self)


def _is_safe_mode():
    """Returns `True` where Keras is asked to run no code of a file."""
    try:
        _Probe.from_config({})
    except ValueError:
        return True
    return False


def _restored(saved):
    """`(Teacher, "")` of a config, or `(None, why not)`."""
    try:
        teacher = RESTORED[saved["kind"]].restored(saved["config"])
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        return None, f" ({' '.join(str(error).split())[:200]})"
    if _is_file(teacher) and _changed(teacher, saved):
        return None, ", whose files changed since it was saved"
    return teacher, ""


def _memory_of(teacher):
    """The teacher's own memory: a cascade and a cache share it."""
    if teacher is None:
        return AnswerMemory()
    if not hasattr(teacher, "_answer_memory"):
        teacher._answer_memory = AnswerMemory()
    return teacher._answer_memory


def _is_file(teacher):
    return isinstance(teacher, (Onnx, SavedModel))


def _changed(teacher, saved):
    return teacher.identity() != saved["identity"]


def _to_numpy(tensor):
    return tensor.numpy() if hasattr(tensor, "numpy") else np.asarray(tensor)


def _as_seen_by_student(array):
    """Array as Keras gives it to a student: floats of 64 bits in 32."""
    array = np.asarray(array)
    return array.astype("float32") if array.dtype == "float64" else array

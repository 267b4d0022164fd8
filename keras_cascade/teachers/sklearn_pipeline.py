"""A scikit-learn classifier as a teacher."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import CLIP
from keras_cascade.teachers.callable import code_of
from keras_cascade.teachers.teacher import Teacher
from keras_cascade.utils.optional_package import optional_package

#: Attributes that change as an estimator is used: the address of an object.
VOLATILE = ("_stop_words_id",)
METHODS = {"predict_proba": "probabilities", "decision_function": "logits"}


class SklearnPipeline(Teacher):
    """Fitted scikit-learn classifier, or a pipeline that ends in one.

    A saved cascade and a bundle do not hold it: attach it again after
    loading, with `cascade.teacher = kc.teachers.SklearnPipeline(pipeline)`.

    Args:
        pipeline: fitted estimator with `classes_` and `predict_proba` or
            `decision_function`. Inputs of more than two axes are flattened
            for it; texts come as a list of `str`.
        classes: names of the classes in the student's label order. Columns
            are put in that order by name. Defaults to `None`: integer
            `classes_` must be 0, 1, ...; names are taken in the estimator's
            own order, which is alphabetical.
        method: str, `"predict_proba"` (the logarithm is taken) or
            `"decision_function"`. Defaults to `None`: the first that the
            estimator has.
        clip: of `Teacher`. Defaults to `1e-7`.

    Attributes:
        class_names: list of str, in label order.

    Raises:
        ValueError: it is not fitted, has no such method, or has other
            classes than `classes`.

    Example:

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> import keras_cascade as kc
    >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> model = LogisticRegression().fit(x, ["no", "no", "yes", "yes"])
    >>> teacher = kc.teachers.SklearnPipeline(model, classes=["yes", "no"])
    >>> teacher.logits(x).argmax(axis=1).tolist()
    [1, 1, 0, 0]
    """

    takes_probes = True

    def __init__(
        self,
        pipeline: Any,
        classes: Sequence[str] | None = None,
        method: str | None = None,
        clip: float = CLIP,
    ) -> None:
        if method is None:
            offered = [one for one in METHODS if hasattr(pipeline, one)]
            method = offered[0] if offered else None
        if method not in METHODS or not hasattr(pipeline, method):
            raise ValueError(
                "Expected a fitted classifier with `predict_proba` or "
                f"`decision_function`. Received: {type(pipeline).__name__}, "
                f"with method={method!r}."
            )
        super().__init__(METHODS[method], clip)
        own = getattr(pipeline, "classes_", None)
        if own is None:
            raise ValueError(
                "Expected a fitted classifier, with `classes_`. Received: "
                f"{type(pipeline).__name__} without. Call its `fit` first."
            )
        self.pipeline = pipeline
        self.method = method
        self._order = _order(own, classes)
        self.class_names = [str(own[index]) for index in self._order]

    def answers(self, inputs: Any) -> np.ndarray:
        values = getattr(self.pipeline, self.method)(_rows(inputs))
        values = np.asarray(values)
        if values.ndim == 1:  # a binary decision function: of `classes_[1]`
            values = values if self._order[1] == 1 else -values
            return values
        return values[:, self._order]

    def describe(self) -> str:
        return f"scikit-learn's {type(self.pipeline).__name__}"

    def identity(self) -> str:
        digest = hashlib.sha256(
            f"{self.class_names} {self.method} {self.clip}".encode()
        )
        # Pickle's own bytes differ between processes.
        joblib = optional_package("joblib", extra="sklearn")
        digest.update(joblib.hash(_state(self.pipeline), "sha1").encode())
        return digest.hexdigest()

    def get_config(self) -> dict[str, Any]:
        return {
            "clip": self.clip,
            "method": self.method,
            "pipeline": type(self.pipeline).__name__,
            "classes": self.class_names,
        }


def _state(part):
    """Learnt values of an estimator and of those in it, to be hashed."""
    if isinstance(part, types.FunctionType):
        return part.__qualname__, code_of(part)
    if isinstance(part, dict):
        return {key: _state(one) for key, one in part.items()}
    if isinstance(part, (list, tuple)):
        return [_state(one) for one in part]
    if hasattr(part, "get_params") and hasattr(part, "__dict__"):
        learnt = {
            name: _state(one)
            for name, one in vars(part).items()
            if name not in VOLATILE
        }
        return type(part).__qualname__, learnt
    return part


def _rows(inputs):
    if isinstance(inputs, dict):
        raise ValueError(
            "Expected one array of inputs for a scikit-learn teacher. "
            f"Received a dict of {sorted(inputs)}. Wrap it in a function that "
            "joins them: `kc.teachers.Callable(function)`."
        )
    array = np.asarray(inputs)
    if array.dtype.kind in "OSU":
        return [str(one) for one in array.reshape(-1).tolist()]
    return array.reshape(len(array), -1)


def _order(own, classes):
    """Column of each class, in label order."""
    own = np.asarray(own)
    if classes is not None:
        position = {str(name): index for index, name in enumerate(own)}
        names = [str(name) for name in classes]
        if sorted(names) != sorted(position):
            raise ValueError(
                f"Expected a classifier of the classes {names[:8]}. Received: "
                f"one of {[str(one) for one in own[:8]]}."
            )
        return [position[name] for name in names]
    if own.dtype.kind in "iufb" and own.tolist() != list(range(len(own))):
        raise ValueError(
            "Expected a classifier of the labels 0, 1, .... Received: "
            f"{own[:8].tolist()}. Pass `classes=`, those labels in the "
            "student's order."
        )
    return list(range(len(own)))

"""A Python function as a teacher."""

from __future__ import annotations

import hashlib
import marshal
from collections import abc
from typing import Any

import numpy as np

from keras_cascade.runtime.teachers.answers import CLIP
from keras_cascade.teachers.teacher import Teacher


class Callable(Teacher):
    """Python function from a batch of inputs to logits or probabilities.

    `Cascade(teacher=function)` makes one by itself; make it by hand for
    probabilities or a name.

    Args:
        function: function from inputs, an array or a structure of arrays, to
            an array `(rows, classes)`.
        outputs: of `Teacher`. Defaults to `"logits"`.
        clip: of `Teacher`. Defaults to `1e-7`.
        name: str that stands for this very teacher: caches of logits are
            refused for one of another name. Defaults to `None`: the
            function's name and code count, not the data that it reads.

    A saved cascade does not hold the function: attach it again after loading,
    with `cascade.teacher = function`.

    Example:

    >>> import numpy as np
    >>> import keras_cascade as kc
    >>> teacher = kc.teachers.Callable(
    ...     lambda x: np.full((len(x), 2), 0.5), outputs="probabilities"
    ... )
    >>> teacher.logits(np.zeros((1, 3))).round(3).tolist()
    [[-0.693, -0.693]]
    """

    def __init__(
        self,
        function: abc.Callable,
        outputs: str = "logits",
        clip: float = CLIP,
        name: str | None = None,
    ) -> None:
        super().__init__(outputs, clip)
        if not callable(function):
            raise ValueError(
                "Expected a function from inputs to logits. Received: "
                f"{type(function).__name__}."
            )
        self.function = function
        self.name = name

    def answers(self, inputs: Any) -> np.ndarray:
        return self.function(inputs)

    def describe(self) -> str:
        return f"the function '{self.name or _name(self.function)}'"

    def identity(self) -> str:
        digest = hashlib.sha256(f"{self.outputs} {self.clip} ".encode())
        digest.update((self.name or _name(self.function)).encode())
        if self.name is None:
            digest.update(code_of(self.function))
        return digest.hexdigest()

    def get_config(self) -> dict[str, Any]:
        name = self.name or _name(self.function)
        return {**super().get_config(), "name": name}


def code_of(function: abc.Callable) -> bytes:
    """Returns a function's byte code with its constants; empty of others."""
    code = getattr(function, "__code__", None)
    if code is None:
        return b""
    return code.co_code + marshal.dumps(_constants(code))


def _constants(code):
    """Constants of a function and of those in it, without file names."""
    return tuple(
        (one.co_code, _constants(one)) if hasattr(one, "co_code") else repr(one)
        for one in code.co_consts
    )


def _name(function):
    return str(getattr(function, "__qualname__", type(function).__qualname__))

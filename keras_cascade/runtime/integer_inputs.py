"""Inputs of a student's file that are integers by a stated scale.

A cascade takes floats, such as images from 0 to 1. The file of its student may
take them as int8 or uint8: `q = round(x / scale) + zero_point`, halves to even
and within the type's limits. `x = (q - zero_point) * scale` is what `q` stands
for, and is what the teacher is asked about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_cascade.bundle import Bundle


class IntegerInput:
    """Conversion of one input between floats and integers of 8 bits.

    Args:
        dtype: `"int8"` or `"uint8"`.
        scale: float > 0, difference of two neighbouring values.
        zero_point: number that stands for 0.0. It is no integer where pixels
            from 0 to 255 stand for -1 to 1.
    """

    __slots__ = (
        "_high", "_low", "_step", "_values", "_zero", "dtype", "scale",
        "zero_point",
    )  # fmt: skip

    def __init__(self, dtype: str, scale: float, zero_point: float):
        self.dtype = np.dtype(dtype)
        self.scale = float(scale)
        self.zero_point = zero_point
        limits = np.iinfo(self.dtype)
        self._low, self._high = np.float32(limits.min), np.float32(limits.max)
        self._step, self._zero = np.float32(scale), np.float32(zero_point)
        # What each integer stands for, in the order of its bits.
        integers = np.arange(256, dtype="uint8").view(self.dtype)
        self._values = (
            (integers.astype("float64") - zero_point) * self.scale
        ).astype("float32")

    def quantized(self, values: np.ndarray) -> np.ndarray:
        """Returns the integers that are nearest to floats.

        Args:
            values: array of finite numbers.
        """
        steps = values / self._step
        steps += self._zero
        np.rint(steps, out=steps)
        np.maximum(steps, self._low, out=steps)
        np.minimum(steps, self._high, out=steps)
        return steps.astype(self.dtype)

    def dequantized(self, integers: np.ndarray) -> np.ndarray:
        """Returns what integers stand for, as float32.

        Args:
            integers: array of the type `dtype`.
        """
        return self._values[np.ascontiguousarray(integers).view("uint8")]

    def describe(self) -> dict:
        """Returns scale and zero point, as in the manifest."""
        return {"scale": self.scale, "zero_point": self.zero_point}


class IntegerInputs:
    """Conversion of a bundle's inputs to those of its student's file.

    Args:
        inputs: dict of input name to `IntegerInput`; other inputs stay as
            they are.
        only: str, the name of the cascade's only input. Defaults to `None`:
            it has several.
    """

    def __init__(self, inputs: dict[str, IntegerInput], only: str | None):
        self._inputs = inputs
        self._only = only

    @classmethod
    def of(cls, specs: list[dict]) -> IntegerInputs | None:
        """Creates it from a manifest; `None` where no input is converted.

        Args:
            specs: list of the student's inputs, as in the manifest.
        """
        inputs = {
            spec["name"]: IntegerInput(spec["dtype"], **spec["quantization"])
            for spec in specs
            if "quantization" in spec
        }
        if not inputs:
            return None
        return cls(inputs, specs[0]["name"] if len(specs) == 1 else None)

    def quantized(self, inputs: dict[str, np.ndarray]) -> dict:
        """Converts a batch to what the file takes.

        Args:
            inputs: dict of input name to array. Arrays of the file's own type
                stay as they are.
        """
        converted = dict(inputs)
        for name, one in self._inputs.items():
            if inputs[name].dtype != one.dtype:
                converted[name] = one.quantized(inputs[name])
        return converted

    def dequantized(self, x: Any) -> Any:
        """Converts arrays of the file's own type to what the cascade takes.

        Args:
            x: inputs in any form; what is no array of that type stays as it
                is.
        """
        if isinstance(x, dict):
            return {name: self._one(name, value) for name, value in x.items()}
        return x if self._only is None else self._one(self._only, x)

    def _one(self, name, value):
        one = self._inputs.get(name)
        if (
            one is not None
            and isinstance(value, np.ndarray)
            and value.dtype == one.dtype
        ):
            return one.dequantized(value)
        return value


class IntegerInputStudent:
    """Converts inputs to integers, then runs the student on them.

    Args:
        student: object with `run(inputs)`, for the file's own inputs.
        inputs: `IntegerInputs`.
    """

    def __init__(self, student: Any, inputs: IntegerInputs):
        self._student = student
        self._inputs = inputs

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch.

        Args:
            inputs: dict of input name to array, batch first: floats, or
                integers as the file takes them.

        Returns:
            The student's outputs.
        """
        return self._student.run(self._inputs.quantized(inputs))

    def row_shapes(self) -> dict[str, list[int]]:
        """Returns the sizes of one row per input."""
        return self._student.row_shapes()

    def close(self) -> None:
        """Releases the student's interpreters."""
        self._student.close()


def with_integer_inputs(student: Any, bundle: Bundle) -> Any:
    """Puts the conversion of inputs before a student that takes integers.

    Args:
        student: object with `run(inputs)`, for the inputs of the file.
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        `IntegerInputStudent`, or `student` as it is.
    """
    inputs = IntegerInputs.of(bundle.student_inputs)
    return student if inputs is None else IntegerInputStudent(student, inputs)

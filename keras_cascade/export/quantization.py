"""Quantization of a student's TFLite file."""

from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.errors import ExportError

FLOAT32 = "float32"
#: Weights of 4 bits, by LiteRT Quantizer.
INT4 = "int4"
#: Quantizations of the trained student as it is: all but `INT4` by TFLite's
#: converter.
POST_TRAINING = ("float16", "dynamic", "int8", INT4)
#: Quantizations that train on, with TensorFlow Model Optimization; `"qat"` with
#: Keras 3 where that refuses a student.
TRAINING = ("qat", "prune", "cluster", "prune+qat", "cluster+qat")
#: Number of examples that ranges of activations are measured on.
REPRESENTATIVE = 400


def checked_quantization(quantization):
    """Name of a quantization; `None` is `"float32"`."""
    known = (FLOAT32, *POST_TRAINING, *TRAINING)
    name = FLOAT32 if quantization is None else quantization
    if name not in known:
        raise ValueError(
            f"Expected `quantization` to be None or one of {list(known)}. "
            f"Received: {quantization!r}."
        )
    return name


def representative_inputs(
    data: LabelledData, count: int = REPRESENTATIVE, seed: int = 0
) -> list:
    """Uniform random sample of the inputs of a data set.

    Args:
        data: `LabelledData`.
        count: int, at most so many. Defaults to `400`.
        seed: int. Defaults to `0`.

    Returns:
        List of batches of one row.
    """
    rng = np.random.default_rng(seed)
    chosen: list[Any] = []
    rows_read = 0
    for x, _, _ in data.batches():
        for row in range(rows_of(x)):
            # Vitter's algorithm R: a sample of a stream of unknown length.
            index = (
                len(chosen)
                if rows_read < count
                else rng.integers(rows_read + 1)
            )
            rows_read += 1
            if index < count:
                one = take_rows(x, slice(row, row + 1))
                one = keras.tree.map_structure(np.copy, one)
                chosen[index : index + 1] = [one]
    return chosen


def check_measurable(signature):
    """Raises for strings, which TFLite's calibrator reads as pointers.

    Args:
        signature: `Signature` of the student's inputs.

    Raises:
        ExportError: names the inputs.
    """
    names = [
        spec["name"]
        for spec in signature.describe()
        if spec["dtype"] == "string"
    ]
    if names:
        raise ExportError(
            "TFLite's converter cannot measure the ranges of activations of a "
            "student that takes strings. Expected, for quantization='int8': "
            f"inputs of numbers. Received: strings in {names}. Use 'dynamic' "
            "or 'float16', or look words up before the student."
        )

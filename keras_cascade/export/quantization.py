"""Quantization of a student's TFLite file."""

from typing import Any

import keras
import numpy as np

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.errors import ExportError

FLOAT32 = "float32"
#: Quantizations of the trained student as it is, by TFLite's converter. Of
#: the two tools it is the one that also stores embeddings in 8 or 16 bits:
#: ai-edge-quantizer 0.10 left a text student at 0.98 of its size (converter:
#: 0.26 and 0.50) and made integer inputs of float ones. On convnets both came
#: out alike; on a small MobileNet it was smaller (0.46 against 0.51).
POST_TRAINING = ("float16", "dynamic", "int8")
#: Quantizations that train on, with TensorFlow Model Optimization.
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


def quantize(converter, quantization, representative, signature):
    """Configures how a `tf.lite.TFLiteConverter` stores numbers.

    Inputs and outputs stay what they are; integers are no weights.

    Args:
        converter: `tf.lite.TFLiteConverter` of a student without its gate.
        quantization: `"float32"`, `"float16"`, `"dynamic"` or `"int8"`.
        representative: list of batches, for `"int8"`.
        signature: `Signature` of the inputs.

    """
    import tensorflow as tf

    # The default lets in operations that no current interpreter runs.
    operations = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization == "int8":
        # What has no 8-bit kernel stays in float.
        operations.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
        converter.representative_dataset = lambda: (
            signature.named(x) for x in representative
        )
    converter.target_spec.supported_ops = operations
    if quantization == FLOAT32:
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]


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

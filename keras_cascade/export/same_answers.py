"""Whether an exported model answers as Keras does."""

import numpy as np

from keras_cascade.errors import ExportError

#: A dynamic batch can collapse to one size: all of these are run.
BATCH_SIZES = (1, 2, 7, 64)
#: Float32 arithmetic in another order moves a probability by about 1e-6.
TOLERANCE = 1e-4


def check_same(artifact, name, found, expected):
    """Raises unless an output is that of Keras, value by value.

    Args:
        artifact: str, such as `"ONNX file"`, for the error.
        name: str, the output.
        found: array, from the artifact.
        expected: array, batch first, from Keras.

    Raises:
        ExportError: another shape, or values further apart than float32
            arithmetic in another order explains.
    """
    gap = "its shape"
    if found.shape == expected.shape:
        if np.allclose(found, expected, rtol=1e-3, atol=TOLERANCE):
            return
        difference = np.abs(found.astype(float) - expected.astype(float))
        gap = f"values by up to {difference.max():.2g}"
    raise ExportError(
        f"The {artifact} does not answer as Keras does: '{name}' at "
        f"{len(expected)} rows has shape {found.shape}, where "
        f"{expected.shape} is expected, and differs in {gap}. It was not kept."
    )

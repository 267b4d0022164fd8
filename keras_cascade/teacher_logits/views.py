"""Seeded augmented views, identical for teacher and student."""

import keras
import numpy as np

from keras_cascade.datasets.fingerprint import cast_hashes

_STEP = np.uint64(0x9E3779B97F4A7C15)


def view_keys(hashes, view):
    """Keys of one view of examples: the hashes themselves for view 0."""
    with np.errstate(over="ignore"):
        return hashes + np.uint64(view) * _STEP


def key_arrays(x, hashes, view=0):
    """Arrays by which a cache finds one view of examples.

    Args:
        x: structure of arrays, the plain inputs.
        hashes: uint64 array `(rows,)`, of the plain inputs.
        view: int. Defaults to `0`.

    Returns:
        Dict of `keys`, and of `cast` where some inputs are in float64 and
        float32 cannot hold them.
    """
    arrays = {"keys": view_keys(hashes, view)}
    if any(leaf.dtype == "float64" for leaf in keras.tree.flatten(x)):
        cast = cast_hashes(x)
        if (cast != hashes).any():
            arrays["cast"] = view_keys(cast, view)
    return arrays


def augmented(x, hashes, view, augment):
    """One augmented view of a batch, determined by each example.

    Args:
        x: array `(rows, ...)`, the plain inputs.
        hashes: uint64 array `(rows,)`, of the plain inputs.
        view: int.
        augment: TensorFlow function of `(example, seed)`, with an int32 seed
            of shape `(2,)` as `tf.image.stateless_random_*` take it.

    Returns:
        float32 array `(rows, ...)`.
    """
    import tensorflow as tf

    seeds = np.stack(
        [(hashes & np.uint64(0x7FFFFFFF)).astype("int32"),
         np.full(len(hashes), view, "int32")],
        axis=1,
    )  # fmt: skip
    return tf.map_fn(
        lambda pair: tf.cast(augment(pair[0], pair[1]), tf.float32),
        (tf.convert_to_tensor(x), tf.convert_to_tensor(seeds)),
        fn_output_signature=tf.float32,
    ).numpy()

"""Gradients of a function, on whichever backend runs."""

import keras
import numpy as np


def gradient(function, at):
    """Gradient of a scalar function at an array, as a NumPy array."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(at))
    import tensorflow as tf

    variable = tf.Variable(at)
    with tf.GradientTape() as tape:
        value = function(variable)
    return tape.gradient(value, variable).numpy()

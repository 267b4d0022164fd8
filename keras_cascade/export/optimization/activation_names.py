"""The name of an activation function, out of a layer's config."""

from keras_cascade.errors import ExportError


def activation_name(layer, activation):
    """The name of one of Keras's own activations.

    Args:
        layer: the layer that has it, for the error.
        activation: what its config holds: a name, or `None`; a dict where it
            is a function of the user's.

    Returns:
        String, `"linear"` for `None`.
    """
    if activation is None:
        return "linear"
    if not isinstance(activation, str):
        raise ExportError(
            "The student cannot be rebuilt for optimization: layer "
            f"'{layer.name}' ({type(layer).__name__}) has an activation of "
            "its own. Expected: one of Keras's, by name."
        )
    return activation

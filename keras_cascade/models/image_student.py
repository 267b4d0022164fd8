"""Convolutional student for small images."""

import keras
from keras import layers


def image_student(
    input_shape: tuple[int, int, int],
    classes: int,
    width: int = 8,
    name: str = "student",
) -> keras.Model:
    """Two strided convolutions and a dense layer that outputs logits.

    Args:
        input_shape: tuple `(height, width, channels)`. Values in [0, 1].
        classes: int >= 2, number of logits.
        width: int, channels of the first convolution; the second has twice
            as many. Defaults to `8`.
        name: str, of the model. Defaults to `"student"`.

    Returns:
        Functional `keras.Model`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.models.image_student((8, 8, 1), classes=10).output_shape
    (None, 10)
    """
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for channels in (width, 2 * width):
        x = layers.Conv2D(
            channels, 3, strides=2, padding="same", activation="relu"
        )(x)
    x = layers.Flatten()(x)
    outputs = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)

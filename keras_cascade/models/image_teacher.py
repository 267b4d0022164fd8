"""Convolutional teacher for small images."""

import keras
from keras import layers


def image_teacher(
    input_shape: tuple[int, int, int],
    classes: int,
    width: int = 32,
    dropout: float = 0.4,
    name: str = "teacher",
) -> keras.Model:
    """A convnet with batch normalization that outputs logits.

    Three stages of two 3×3 convolutions; each stage halves the resolution
    (as long as there is any) and doubles the width.

    Args:
        input_shape: tuple `(height, width, channels)`. Values in [0, 1].
        classes: int >= 2, number of logits.
        width: int, channels of the first stage. Defaults to `32`.
        dropout: float in [0, 1), before the last layer. Defaults to `0.4`.
        name: str, of the model. Defaults to `"teacher"`.

    Returns:
        Functional `keras.Model`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.models.image_teacher((8, 8, 1), classes=10).output_shape
    (None, 10)
    """
    inputs = keras.Input(input_shape, name="image")
    x = inputs
    for stage in range(3):
        for _ in range(2):
            x = layers.Conv2D(
                width * 2**stage, 3, padding="same", use_bias=False
            )(x)
            # Short trainings: the moving statistics must keep up.
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
        if min(x.shape[1], x.shape[2]) >= 4:
            x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(dropout)(x)
    outputs = layers.Dense(classes, name="logits")(x)
    return keras.Model(inputs, outputs, name=name)

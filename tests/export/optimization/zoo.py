"""Small students with every layer that optimization supports."""

import keras
import numpy as np
from keras import layers


def convnet():
    """Convolutions of every kind, BatchNormalization, pooling."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Rescaling(1 / 127.5, offset=-1.0),
            layers.Conv2D(8, 3, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            layers.BatchNormalization(epsilon=1e-2),
            layers.ReLU(6.0),
            layers.MaxPooling2D(),
            layers.SeparableConv2D(6, 3, strides=2, padding="same"),
            layers.BatchNormalization(scale=False),
            layers.LeakyReLU(0.1),
            layers.Dropout(0.3),
            layers.AveragePooling2D(2, padding="same"),
            layers.Flatten(),
            layers.Dense(9, activation="tanh", kernel_regularizer="l2"),
            layers.Dense(5),
        ]
    )


def residual():
    """Branches, merges, activations that Keras 2 has not or has otherwise."""
    inputs = keras.Input((8, 8, 2))
    x = layers.ZeroPadding2D(((0, 1), (1, 0)))(inputs)
    x = layers.Conv2D(6, 3, activation="hard_silu")(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(6, 1, activation="hard_sigmoid")(squeezed)
    x = layers.Multiply()([x, squeezed])
    other = layers.Conv2D(6, 1, activation="silu", name="wide")(x)
    x = layers.Add()([x, other])
    x = layers.Concatenate()([x, layers.Activation("relu6")(other)])
    x = layers.ELU()(x)
    x = layers.Reshape((-1, 12))(x)
    x = layers.Conv1D(4, 3, activation="gelu")(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dense(8, activation="leaky_relu")(x)
    return keras.Model(inputs, layers.Dense(5)(x))


def text():
    """Integers, an embedding, a mask."""
    return keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(20, 6, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(8, activation="relu"),
            layers.Dense(5),
        ]
    )


def two_inputs():
    """A dict of inputs, not made in alphabetical order."""
    left = keras.Input((3,), name="b")
    right = keras.Input((2,), name="a")
    x = layers.Concatenate()([layers.Dense(4)(right), left])
    return keras.Model({"b": left, "a": right}, layers.Dense(5)(x))


def nested():
    """Models as layers, and operators between tensors."""
    block = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, activation="relu")], name="block"
    )
    inner = keras.Input((6,))
    head = keras.Model(inner, layers.Dense(5)(block(inner)), name="head")
    inputs = keras.Input((6,))
    x = 1.0 - (inputs * 2.0 + 0.5) / 4.0
    x = keras.ops.relu(x - 0.1) + inputs
    x = layers.LayerNormalization()(x * inputs)
    return keras.Model(inputs, head(x))


def frozen_norm():
    """What is called with `training=False` stays so; half a batch norm."""
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 3)(inputs)
    x = layers.BatchNormalization(center=False)(x, training=False)
    base = keras.Sequential(
        [
            keras.Input((2, 2, 4)),
            layers.Dropout(0.5),
            layers.GaussianNoise(0.5),
            layers.BatchNormalization(name="norm"),
        ]
    )
    x = base(x, training=False)
    x = layers.Flatten()(layers.PReLU()(x))
    return keras.Model(inputs, layers.Dense(5)(x))


class Excited(layers.Layer):
    """A block of layers and operations, as KerasHub has them."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(filters, 3, padding="same")
        self.norm = layers.BatchNormalization()
        self.squeeze = layers.Conv2D(filters, 1, activation="sigmoid")

    def build(self, shape):
        for layer in (self.conv, self.norm, self.squeeze):
            layer.build(shape)
        self.built = True

    def call(self, x, training=None):
        y = self.norm(self.conv(x), training=training)
        y = keras.ops.relu(y)
        return x + y * self.squeeze(
            keras.ops.mean(y, axis=(1, 2), keepdims=True)
        )


class Backbone(keras.Model):
    """A functional model with a config of its own."""

    def __init__(self, filters, **kwargs):
        inputs = keras.Input((6, 6, filters))
        super().__init__(inputs, Excited(filters)(inputs), **kwargs)
        self.filters = filters

    def get_config(self):
        return {"filters": self.filters}


def composed():
    """A backbone of composed layers, between other layers."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 1)(inputs)
    x = layers.Flatten()(Backbone(4)(x))
    return keras.Model(inputs, layers.Dense(5)(x))


def conv_next():
    """Factors a channel, dropped paths, dense layers over pixels."""
    from keras.src.applications.convnext import ConvNeXt

    return ConvNeXt(
        depths=[1, 1, 1, 1], projection_dims=[4, 4, 6, 6],
        drop_path_rate=0.3, input_shape=(32, 32, 3), weights=None, classes=5,
        classifier_activation=None, name="convnext",
    )  # fmt: skip


class OwnNoise(layers.Layer):
    """An augmentation of the user's own, which trains where nothing is said."""

    def call(self, x, training=True):
        if training:
            x = x + keras.random.normal(keras.ops.shape(x))
        return x


def augmented():
    """What prepares and augments images, in every place, by name or value."""
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(1).random((9, 10, 10, 3)))
    first = keras.Sequential(
        [
            layers.RandomFlip(),
            layers.Pipeline([layers.RandAugment(), layers.RandomErasing()]),
            layers.Rescaling(1 / 255.0),
        ]
    )
    inputs = keras.Input((10, 10, 3))
    x = layers.RandomRotation(0.1)(first(inputs), training=True)
    x = layers.BatchNormalization()(normalization(OwnNoise()(x)))
    x = layers.Conv2D(4, 3)(x)
    x = layers.RandomTranslation(0.2, 0.2, name="moved")(x)
    x = layers.GaussianNoise(0.5)(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(5)(x))


def of_bytes():
    """Images of bytes, which an augmentation makes floats."""
    return keras.Sequential(
        [
            keras.Input((10, 10, 3), dtype="uint8"),
            layers.RandomFlip(),
            layers.CenterCrop(8, 8),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(5),
        ]
    )


def mobile_net_v2():
    """A real architecture, with many names."""
    return keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=5,
        classifier_activation=None,
    )  # fmt: skip


def mobile_net_v3():
    """Squeeze-and-excitation and operators, by Keras itself."""
    return keras.applications.MobileNetV3Small(
        (32, 32, 3), weights=None, classes=5, classifier_activation=None
    )


#: Name to the model and how to draw rows of its inputs.
ZOO = {
    "convnet": (
        convnet, lambda rng, rows: rng.uniform(0, 255, (rows, 12, 12, 3)),
    ),
    "residual": (residual, lambda rng, rows: rng.normal(size=(rows, 8, 8, 2))),
    "text": (text, lambda rng, rows: rng.integers(0, 20, (rows, 7))),
    "two_inputs": (
        two_inputs,
        lambda rng, rows: {
            "a": rng.normal(size=(rows, 2)), "b": rng.normal(size=(rows, 3)),
        },
    ),
    "nested": (nested, lambda rng, rows: rng.normal(size=(rows, 6))),
    "frozen_norm": (
        frozen_norm, lambda rng, rows: rng.normal(size=(rows, 4, 4, 3)),
    ),
    "composed": (composed, lambda rng, rows: rng.normal(size=(rows, 6, 6, 3))),
    "conv_next": (
        conv_next, lambda rng, rows: rng.uniform(0, 255, (rows, 32, 32, 3)),
    ),
    "augmented": (
        augmented, lambda rng, rows: rng.uniform(0, 255, (rows, 10, 10, 3)),
    ),
    "of_bytes": (
        of_bytes,
        lambda rng, rows: rng.integers(0, 256, (rows, 10, 10, 3)),
    ),
    "mobile_net_v2": (
        mobile_net_v2, lambda rng, rows: rng.normal(size=(rows, 32, 32, 3)),
    ),
    "mobile_net_v3": (
        mobile_net_v3,
        lambda rng, rows: rng.uniform(0, 255, (rows, 32, 32, 3)),
    ),
}  # fmt: skip


def make(name):
    """A model of the zoo with no weight at its initial value, and inputs."""
    make_model, draw = ZOO[name]
    # Layers are numbered by what the process made before: start anew, so that
    # they have the same names in any order of tests.
    keras.utils.clear_session()
    rng = np.random.default_rng(0)
    model = make_model()
    model.set_weights(
        [
            # Positive, for variances; near one, so that depth blows nothing
            # up.
            np.abs(array + rng.normal(scale=0.1, size=array.shape)) + 0.1
            if array.ndim == 1
            else array + 0.1 * rng.normal(size=array.shape) * array.std()
            for array in model.get_weights()
        ]
    )
    inputs = keras.tree.map_structure(
        lambda a: a.astype("int32" if a.dtype.kind == "i" else "float32"),
        draw(rng, 6),
    )
    return model, inputs

"""The models of the coverage table, at random initialisation."""

import dataclasses
import functools
from collections.abc import Callable

import keras

from benchmarks.coverage.inputs import images, tokens

CLASSES = 10


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the table.

    Attributes:
        group: str, whose model it is.
        make: function that builds it.
        draw: function from a seed and a number of rows to inputs.
        quick: bool, whether `--quick` runs it. Defaults to `False`.
    """

    group: str
    make: Callable
    draw: Callable
    quick: bool = False


def application(name, size=64, lowest=0.0, highest=255.0, **options):
    """An `Entry` of keras.applications, by name.

    Args:
        name: str.
        size: int, pixels of a side. Defaults to `64`.
        lowest: float, least value of a pixel that the model was made for.
            Defaults to `0.0`.
        highest: float, greatest. Defaults to `255.0`.
        **options: of `Entry`.
    """

    def make():
        return getattr(keras.applications, name)(
            input_shape=(size, size, 3),
            weights=None,
            classes=CLASSES,
            classifier_activation=None,
        )

    draw = functools.partial(images, size=size, lowest=lowest, highest=highest)
    return Entry("keras.applications", make, draw, **options)


def small_conv_next():
    """ConvNeXt with blocks as in ConvNeXtTiny, fewer and narrower."""
    from keras.src.applications.convnext import ConvNeXt

    return ConvNeXt(
        depths=[1, 1, 3, 1],
        projection_dims=[32, 64, 128, 256],
        input_shape=(64, 64, 3),
        weights=None,
        classes=CLASSES,
        classifier_activation=None,
        name="convnext",
    )


def hub_mobile_net():
    """The blocks of MobileNetV3: plain and with squeeze-and-excitation."""
    from keras_hub import models

    backbone = models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64, 144, 144], [72, 72], [144]],
        stackwise_num_blocks=[2, 3, 2, 1],
        stackwise_num_filters=[[16, 16], [24, 24, 24], [24, 24], [48]],
        stackwise_kernel_size=[[3, 3], [5, 5, 5], [5, 5], [5]],
        stackwise_num_strides=[[2, 1], [2, 1, 1], [1, 1], [2]],
        stackwise_se_ratio=[
            [None, None], [0.25, 0.25, 0.25], [0.25, 0.25], [0.25],
        ],
        stackwise_activation=[
            ["relu", "relu"], ["hard_swish"] * 3, ["hard_swish"] * 2,
            ["hard_swish"],
        ],
        stackwise_padding=[[1, 1], [2, 2, 2], [2, 2], [2]],
        output_num_filters=288,
        input_num_filters=16,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=288,
        image_shape=(64, 64, 3),
    )  # fmt: skip
    return models.MobileNetImageClassifier(backbone, CLASSES, num_features=128)


def hub_res_net():
    """ResNet-18."""
    from keras_hub import models

    backbone = models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=[2, 2, 2, 2],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    return models.ResNetImageClassifier(backbone, CLASSES)


def hub_vit():
    """Four blocks of 96 units on patches of 8 pixels."""
    from keras_hub import models

    backbone = models.ViTBackbone(
        image_shape=(64, 64, 3),
        patch_size=8,
        num_layers=4,
        num_heads=4,
        hidden_dim=96,
        mlp_dim=192,
    )
    return models.ViTImageClassifier(backbone, CLASSES)


def hub_bert():
    """Three blocks of 96 units over 2,000 tokens."""
    from keras_hub import models

    backbone = models.BertBackbone(
        vocabulary_size=2_000,
        num_layers=3,
        num_heads=4,
        hidden_dim=96,
        intermediate_dim=192,
        max_sequence_length=64,
    )
    return models.BertTextClassifier(backbone, CLASSES, preprocessor=None)


def hub_distil_bert():
    """Three blocks of 96 units over 2,000 tokens."""
    from keras_hub import models

    backbone = models.DistilBertBackbone(
        vocabulary_size=2_000,
        num_layers=3,
        num_heads=4,
        hidden_dim=96,
        intermediate_dim=192,
        max_sequence_length=64,
    )
    return models.DistilBertTextClassifier(
        backbone, CLASSES, hidden_dim=96, preprocessor=None
    )


SIGNED = {"lowest": -1.0, "highest": 1.0}
IMAGES = functools.partial(images, size=64, lowest=0.0, highest=255.0)
SIGNED_IMAGES = functools.partial(images, size=64, **SIGNED)
HUB_TOKENS = functools.partial(tokens, vocabulary=2_000, length=24)
BERT_TOKENS = functools.partial(HUB_TOKENS, segments=True)
ZOO = {
    "keras_hub Bert": Entry("keras_hub", hub_bert, BERT_TOKENS, quick=True),
    "keras_hub DistilBert": Entry("keras_hub", hub_distil_bert, HUB_TOKENS),
    "keras_hub ViT": Entry("keras_hub", hub_vit, SIGNED_IMAGES),
    "MobileNet": application("MobileNet", quick=True, **SIGNED),
    "ConvNeXt": Entry("keras.applications", small_conv_next, IMAGES),
    "keras_hub MobileNet": Entry("keras_hub", hub_mobile_net, SIGNED_IMAGES),
    "MobileNetV2": application("MobileNetV2", **SIGNED),
    "MobileNetV3Small": application("MobileNetV3Small"),
    "keras_hub ResNet": Entry("keras_hub", hub_res_net, SIGNED_IMAGES),
    "EfficientNetB0": application("EfficientNetB0"),
    "EfficientNetV2B0": application("EfficientNetV2B0"),
    "MobileNetV3Large": application("MobileNetV3Large"),
    "NASNetMobile": application("NASNetMobile", **SIGNED),
}

"""A task of a user's own: a class for each pixel, outputs of four axes."""

import keras
from keras import ops

import keras_cascade as kc


@keras.saving.register_keras_serializable("tests")
class Pixels(kc.tasks.Task):
    """One of several classes for each pixel of `(height, width)`.

    Args:
        most: float, the share of wrong pixels above which the loss is 1.
    """

    activation = "softmax"
    zero_one_loss = True
    loss_name = "share of images with too many wrong pixels"
    default_threshold = 0.5

    def __init__(self, most=0.3):
        self.most = most

    def label_loss(self, labels, outputs):
        targets = ops.one_hot(ops.cast(labels, "int32"), outputs.shape[-1])
        return _mean_cross_entropy(targets, outputs)

    def distillation_loss(self, teacher_outputs, outputs, temperature):
        targets = ops.softmax(teacher_outputs / temperature, axis=-1)
        return _mean_cross_entropy(targets, outputs)

    def score(self, outputs):
        best = ops.max(ops.softmax(outputs, axis=-1), axis=-1)
        return ops.mean(best, axis=(1, 2))

    def loss(self, labels, answers):
        predicted = ops.cast(ops.argmax(answers, axis=-1), "int32")
        wrong = ops.not_equal(predicted, ops.cast(labels, "int32"))
        share = ops.mean(ops.cast(wrong, "float32"), axis=(1, 2))
        return ops.cast(ops.greater(share, self.most), "float32")

    def get_config(self):
        return {"most": self.most}


def _mean_cross_entropy(targets, outputs):
    losses = -ops.sum(targets * ops.log_softmax(outputs, axis=-1), axis=-1)
    return ops.mean(losses, axis=(1, 2))

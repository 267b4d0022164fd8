"""Distillation policies and baselines of the comparison."""

from keras import ops

import keras_cascade as kc
from keras_cascade.distillation.distillation_policy import (
    DistillationPolicy,
    label_smoothing_targets,
)

ALPHAS = (0.0, 0.4, 0.6, 0.8, 1.0)
TEMPERATURES = (1.0, 2.0)
SMOOTHINGS = (0.1, 0.2, 0.4)
#: Families of policies; each is tuned over its own settings.
CROSS_ENTROPY = "cross-entropy"
LABEL_SMOOTHING = "label smoothing"
T1, T2 = "T=1 distillation", "T=2 distillation"
CLASS_SPECIFIC = "class-specific"
ABSTAIN = "abstain"
BASELINES = (CROSS_ENTROPY, LABEL_SMOOTHING, T1, T2)


class LabelSmoothing(DistillationPolicy):
    """Cross-entropy against LS(α), without a teacher.

    Args:
        alpha: float in [0, 1]; 0 is plain cross-entropy.
    """

    selective = False

    def __init__(self, alpha):
        self.alpha = alpha

    def targets(self, labels, teacher_logits):
        return label_smoothing_targets(labels, teacher_logits, self.alpha)

    def selected(self, labels, teacher_logits, student_logits=None):
        return ops.ones((ops.shape(teacher_logits)[0],), dtype="bool")


def contenders(head):
    """Returns every policy of the comparison.

    Args:
        head: ints, the classes that make most of the traffic.

    Returns:
        Dict of family to a dict of setting to `DistillationPolicy`.
    """
    class_specific = kc.distillation.ClassSpecificDistillation
    return {
        CROSS_ENTROPY: {"": LabelSmoothing(0.0)},
        LABEL_SMOOTHING: {
            f"alpha={a:g}": LabelSmoothing(a) for a in SMOOTHINGS
        },
        T1: {"": kc.distillation.StandardDistillation(1.0)},
        T2: {"": kc.distillation.StandardDistillation(2.0)},
        CLASS_SPECIFIC: {
            class_specific_setting(alpha, t): class_specific(
                head, temperature=t, label_smoothing=alpha
            )
            for alpha in ALPHAS
            for t in TEMPERATURES
        },
        ABSTAIN: {
            f"T={t:g}": kc.distillation.AbstainDistillation(head, temperature=t)
            for t in TEMPERATURES
        },
    }


def class_specific_setting(alpha, temperature):
    """Returns the name of a setting of class-specific distillation."""
    return f"alpha={alpha:g}, T={temperature:g}"

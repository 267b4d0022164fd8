"""Distillation policies: the target that each example is trained on."""

from keras_cascade.distillation.abstain_distillation import (
    AbstainDistillation,
)
from keras_cascade.distillation.cascade_aware_distillation import (
    CascadeAwareDistillation,
)
from keras_cascade.distillation.class_specific_distillation import (
    ClassSpecificDistillation,
)
from keras_cascade.distillation.combined_distillation import (
    CombinedDistillation,
)
from keras_cascade.distillation.distillation_policy import DistillationPolicy
from keras_cascade.distillation.gatekeeper import Gatekeeper
from keras_cascade.distillation.label_smoothing import LabelSmoothing
from keras_cascade.distillation.margin_distillation import MarginDistillation
from keras_cascade.distillation.serialization import (
    deserialize,
    get,
    serialize,
)
from keras_cascade.distillation.standard_distillation import (
    StandardDistillation,
)

__all__ = [
    "AbstainDistillation",
    "CascadeAwareDistillation",
    "ClassSpecificDistillation",
    "CombinedDistillation",
    "DistillationPolicy",
    "Gatekeeper",
    "LabelSmoothing",
    "MarginDistillation",
    "StandardDistillation",
    "deserialize",
    "get",
    "serialize",
]


def __dir__():
    return list(__all__)

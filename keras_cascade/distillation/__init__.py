"""What the student learns: one policy a file."""

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
from keras_cascade.distillation.margin_distillation import MarginDistillation
from keras_cascade.distillation.standard_distillation import (
    StandardDistillation,
)
from keras_cascade.utils.registry import resolve

NAMES = {
    "abstain": AbstainDistillation,
    "cascade_aware": CascadeAwareDistillation,
    "combined": CombinedDistillation,
    "class_specific": ClassSpecificDistillation,
    "gatekeeper": Gatekeeper,
    "margin": MarginDistillation,
    "standard": StandardDistillation,
}


def get(identifier):
    """A policy from a name, a dict or an object.

    Example:

    >>> import keras_cascade as kc
    >>> kc.distillation.get("margin").threshold
    0.4
    """
    return resolve(identifier, DistillationPolicy, NAMES)


__all__ = [
    "AbstainDistillation",
    "CascadeAwareDistillation",
    "ClassSpecificDistillation",
    "CombinedDistillation",
    "DistillationPolicy",
    "Gatekeeper",
    "MarginDistillation",
    "StandardDistillation",
    "get",
]

"""Serialization of distillation policies, and policies by name."""

from typing import Any

import keras

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
from keras_cascade.distillation.standard_distillation import (
    StandardDistillation,
)
from keras_cascade.utils.registry import resolve

#: Every policy by its short name.
NAMES = {
    "abstain": AbstainDistillation,
    "cascade_aware": CascadeAwareDistillation,
    "combined": CombinedDistillation,
    "class_specific": ClassSpecificDistillation,
    "gatekeeper": Gatekeeper,
    "label_smoothing": LabelSmoothing,
    "margin": MarginDistillation,
    "standard": StandardDistillation,
}
DEFAULT = "standard"


def get(
    identifier: "str | dict[str, Any] | DistillationPolicy | None",
) -> DistillationPolicy:
    """Retrieves a distillation policy from a name, a dict or an object.

    Args:
        identifier: short name, such as `"standard"` or `"margin"`; dict, as
            `serialize` returns it; `DistillationPolicy`, which is returned as
            it is; or `None`, for `"standard"`.

    Returns:
        `DistillationPolicy`.

    Raises:
        ValueError: an unknown name, or a policy that needs arguments.

    Example:

    >>> import keras_cascade as kc
    >>> kc.distillation.get("margin").threshold
    0.4
    """
    return resolve(identifier, DistillationPolicy, NAMES, DEFAULT)


def serialize(policy: DistillationPolicy) -> dict[str, Any]:
    """Returns the serialized config of a policy, as a JSON-compatible dict.

    Args:
        policy: `DistillationPolicy`.

    Example:

    >>> import keras_cascade as kc
    >>> policy = kc.distillation.Gatekeeper(alpha=0.25)
    >>> kc.distillation.serialize(policy)["config"]
    {'alpha': 0.25}
    """
    return keras.saving.serialize_keras_object(policy)


def deserialize(config: dict[str, Any]) -> DistillationPolicy:
    """Makes a policy from its serialized config.

    Args:
        config: dict, as `serialize` returns it, or in its short form of
            `class_name` (a short name) and `config`.

    Returns:
        `DistillationPolicy`.

    Example:

    >>> import keras_cascade as kc
    >>> policy = kc.distillation.MarginDistillation(threshold=0.6)
    >>> kc.distillation.deserialize(kc.distillation.serialize(policy))
    MarginDistillation(threshold=0.6)
    """
    return get(config)

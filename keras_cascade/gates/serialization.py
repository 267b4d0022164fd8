"""Serialization of gates, and gates by name."""

from typing import Any

import keras
import numpy.typing as npt

from keras_cascade.gates.abstain_gate import AbstainGate
from keras_cascade.gates.class_gate import ClassGate
from keras_cascade.gates.energy_gate import EnergyGate
from keras_cascade.gates.entropy_gate import EntropyGate
from keras_cascade.gates.gate import Gate
from keras_cascade.gates.learned_gate import LearnedGate
from keras_cascade.gates.margin_gate import MarginGate
from keras_cascade.gates.max_probability_gate import MaxProbabilityGate
from keras_cascade.utils.registry import resolve

#: Every gate by its short name.
NAMES = {
    "abstain": AbstainGate,
    "class": ClassGate,
    "energy": EnergyGate,
    "entropy": EntropyGate,
    "learned": LearnedGate,
    "margin": MarginGate,
    "max_probability": MaxProbabilityGate,
}
DEFAULT = "margin"


def get(
    identifier: "str | dict[str, Any] | Gate | None",
    *,
    in_domain_classes: npt.ArrayLike | None = None,
    margin: float | None = None,
) -> Gate:
    """Retrieves a gate from a name, a dict or an object.

    Args:
        identifier: short name, such as `"margin"` or `"class"`; dict, as
            `serialize` returns it; `Gate`, which is returned as it is; or
            `None`, for `"margin"`.
        in_domain_classes: ints, for a gate by name that takes them
            (`DistillationPolicy.gate_defaults`). Defaults to `None`.
        margin: float, the threshold of a margin gate by name. Defaults to
            `None`.

    Returns:
        `Gate`.

    Raises:
        ValueError: an unknown name, or a gate that needs arguments.

    Example:

    >>> import keras_cascade as kc
    >>> kc.gates.get("margin", margin=0.25)
    MarginGate(threshold=0.25)
    """
    return resolve(
        identifier,
        Gate,
        NAMES,
        DEFAULT,
        in_domain_classes=in_domain_classes,
        margin=margin,
    )


def serialize(gate: Gate) -> dict[str, Any]:
    """Returns the serialized config of a gate, as a JSON-compatible dict.

    The threshold and the temperature are part of it; the fitted weights of a
    `LearnedGate` are not, as in every Keras layer.

    Args:
        gate: `Gate`.

    Example:

    >>> import keras_cascade as kc
    >>> kc.gates.serialize(kc.gates.EntropyGate())["class_name"]
    'EntropyGate'
    """
    return keras.saving.serialize_keras_object(gate)


def deserialize(config: dict[str, Any]) -> Gate:
    """Makes a gate from its serialized config.

    Args:
        config: dict, as `serialize` returns it, or in its short form of
            `class_name` (a short name) and `config`.

    Returns:
        `Gate`.

    Example:

    >>> import keras_cascade as kc
    >>> gate = kc.gates.MarginGate(temperature=2.0)
    >>> kc.gates.deserialize(kc.gates.serialize(gate))
    MarginGate(temperature=2.0, threshold=0.5)
    """
    return get(config)

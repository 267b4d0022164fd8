"""When to delegate: one gate a file, each a Keras layer."""

from keras_cascade.gates.abstain_gate import AbstainGate
from keras_cascade.gates.class_gate import ClassGate
from keras_cascade.gates.energy_gate import EnergyGate
from keras_cascade.gates.entropy_gate import EntropyGate
from keras_cascade.gates.gate import Gate
from keras_cascade.gates.learned_gate import LearnedGate
from keras_cascade.gates.margin_gate import MarginGate
from keras_cascade.gates.max_probability_gate import MaxProbabilityGate
from keras_cascade.gates.student_with_gate import StudentWithGate
from keras_cascade.gates.temperature_gate import TemperatureGate
from keras_cascade.utils.registry import resolve

NAMES = {
    "abstain": AbstainGate,
    "class": ClassGate,
    "energy": EnergyGate,
    "entropy": EntropyGate,
    "learned": LearnedGate,
    "margin": MarginGate,
    "max_probability": MaxProbabilityGate,
}


def get(identifier, **defaults):
    """A gate from a name, a dict or an object.

    Args:
        identifier: name, dict or `Gate`.
        **defaults: what a gate made by name takes over from the distillation
            policy (`DistillationPolicy.gate_defaults()`).

    Example:

    >>> import keras_cascade as kc
    >>> kc.gates.get("margin", margin=0.25).threshold
    0.25
    """
    return resolve(identifier, Gate, NAMES, **defaults)


__all__ = [
    "AbstainGate",
    "ClassGate",
    "EnergyGate",
    "EntropyGate",
    "Gate",
    "LearnedGate",
    "MarginGate",
    "MaxProbabilityGate",
    "StudentWithGate",
    "TemperatureGate",
    "get",
]

"""Gates: Keras layers that decide which examples are delegated."""

from keras_cascade.gates.abstain_gate import AbstainGate
from keras_cascade.gates.class_gate import ClassGate
from keras_cascade.gates.energy_gate import EnergyGate
from keras_cascade.gates.entropy_gate import EntropyGate
from keras_cascade.gates.gate import Gate
from keras_cascade.gates.learned_gate import LearnedGate
from keras_cascade.gates.margin_gate import MarginGate
from keras_cascade.gates.max_probability_gate import MaxProbabilityGate
from keras_cascade.gates.serialization import deserialize, get, serialize
from keras_cascade.gates.student_with_gate import StudentWithGate
from keras_cascade.gates.temperature_gate import TemperatureGate

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
    "deserialize",
    "get",
    "serialize",
]


def __dir__():
    return list(__all__)

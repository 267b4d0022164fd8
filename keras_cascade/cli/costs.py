"""`--costs` on the command line."""

from keras_cascade.datasets.batches import first_rows
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.flops import costs_from_flops
from keras_cascade.export import costs_from_latency

EXPECTED = (
    "Expected --costs flops, latency, latency,NETWORK_MS, or "
    "STUDENT,TEACHER,UNIT, or STUDENT,TEACHER,NETWORK,UNIT."
)


def set_costs(cascade, text, data):
    """Gives a cascade the costs that `--costs` asks for.

    Args:
        cascade: `Cascade`.
        text: str, as the message above says.
        data: batches, whose first inputs are looked at.
    """
    inputs, _ = first_rows(data)
    cascade.prepare(inputs)
    kind, *rest = text.split(",")
    try:
        if kind == "flops" and not rest:
            cascade.costs = costs_from_flops(
                cascade.student, cascade.teacher, inputs
            )
        elif kind == "latency" and len(rest) <= 1:
            cascade.costs = costs_from_latency(
                cascade, inputs, network=float(rest[0]) if rest else 0.0
            )
        else:
            cascade.costs = _given(kind, *rest)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{EXPECTED} Received: '{text}'. ({error})") from None


def _given(student, teacher, *rest):
    *network, unit = rest
    numbers = [float(value) for value in network]
    if len(numbers) > 1 or not unit.strip():
        raise ValueError("a unit comes last, such as EUR")
    return Costs(
        float(student), float(teacher), unit.strip(), "given", *numbers
    )

"""Settings of a conversion from a SavedModel to a TFLite file."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class ConverterSettings:
    """Says how the converter stores numbers.

    Inputs and outputs stay what they are; integers are no weights.

    Attributes:
        quantization: `"float32"`, `"float16"`, `"dynamic"` (8-bit weights, and
            whatever ranges are in the graph already) or `"int8"`. Defaults to
            `"float32"`.
        representative: list of dicts of input name to array, which `"int8"`
            measures activations on. Defaults to `()`.
        calibrated_only: bool, whether the file stays in float, with the
            measured ranges in it, for `ConverterProcess.quantize`. Defaults
            to `False`.
    """

    quantization: str = "float32"
    representative: Sequence[dict] = ()
    calibrated_only: bool = False

"""Types of the inputs of a student's file: float32, int8 or uint8."""

from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import ExportError
from keras_cascade.runtime.integer_inputs import IntegerInput
from keras_cascade.utils.image_format import SCALES, scale_of_range

if TYPE_CHECKING:
    from keras_cascade.export.export_job import ExportJob

FLOAT32, INT8, UINT8 = "float32", "int8", "uint8"
#: How far a value may be from that of a whole byte, in steps of one.
NEAR_A_BYTE = 0.02


def check_input_types(
    io_type: str | None, input_type: str | None, quantization: str
) -> None:
    """Raises a `ValueError` unless a file can have these types.

    Args:
        io_type: `"float32"`, `"int8"` or `None`.
        input_type: `"float32"`, `"uint8"` or `None`.
        quantization: str, of the file.
    """
    for name, value, known in (
        ("io_type", io_type, (FLOAT32, INT8)),
        ("input_type", input_type, (FLOAT32, UINT8)),
    ):
        if value not in (None, *known):
            raise ValueError(
                f"Expected `{name}` to be None or one of {list(known)}. "
                f"Received: {value!r}."
            )
    if io_type != INT8:
        return
    if quantization != "int8" and not quantization.endswith("qat"):
        raise ValueError(
            "Expected quantization='int8' or 'qat' with io_type='int8', whose "
            "inputs are those of a student that computes in 8 bits. Received: "
            f"quantization={quantization!r}."
        )
    if input_type == UINT8:
        raise ValueError(
            "Expected io_type='int8' or input_type='uint8', as an input has "
            "one type. Received both."
        )


def pixel_inputs(job: "ExportJob") -> dict[str, IntegerInput]:
    """Inputs of a cascade that are images, as uint8.

    Args:
        job: `ExportJob`; the value ranges of its signature take in those of
            its data.

    Returns:
        Dict of input name to `IntegerInput`; empty where the images are uint8
        already.

    Raises:
        ExportError: there are no images, or their values are not those of
            bytes in a known scale.
    """
    specs = job.signature.describe()
    images = [
        spec
        for spec in specs
        if len(spec["shape"]) == 4 and spec["shape"][3] in (1, 3, 4)
    ]
    if not images:
        raise ExportError(
            "Expected, with input_type='uint8', a student of images, of the "
            "shape (rows, height, width, channels). Received: "
            f"{ {spec['name']: spec['shape'] for spec in specs} }."
        )
    floats = [spec for spec in images if spec["dtype"] == FLOAT32]
    if not floats:
        return {}
    for x, _, _ in job.data.batches() if job.data else ():
        job.signature.widen(x)
    examples = job.signature.named(job.example_inputs)
    known = (job.cascade.data_record.images or {}).get("scale")
    pixels = {}
    for spec in floats:
        scale = (len(specs) == 1 and known) or scale_of_range(spec["range"])
        if not scale:
            raise ExportError(
                "Expected, with input_type='uint8', images with values from 0 "
                "to 1, from 0 to 255 or from -1 to 1. Received "
                f"{spec['range']} as '{spec['name']}'. Scale them so, and "
                "normalize them further in the models."
            )
        low, high = SCALES[scale]
        step = (high - low) / 255
        zero_point = round(-low / step, 6)
        if zero_point == int(zero_point):
            zero_point = int(zero_point)
        one = pixels[spec["name"]] = IntegerInput(UINT8, step, zero_point)
        values = examples[spec["name"]]
        gap = np.abs(one.dequantized(one.quantized(values)) - values)
        steps = float(gap.max()) / step
        if steps > NEAR_A_BYTE:
            raise ExportError(
                "Expected, with input_type='uint8', images whose values are "
                "those of whole bytes, as the device will have them. Received "
                f"'{spec['name']}' with values up to {steps:.2g} of a step "
                "beside one. Round them to bytes after resizing."
            )
    return pixels

"""Weights of 4 and 8 bits by LiteRT Quantizer, on the reference student.

    python -m benchmarks.weight_bits --json

The float32 file of `saved_models/fashion_mnist_float32` is quantized, and run
over the test split beside the converter's int8 file of the same student,
`saved_models/fashion_mnist`. By way of storing: `bytes`, `student_accuracy`,
`drift` (mean over inputs of half the summed differences of the probabilities
to float32), `score_drift` (mean difference of a score) and
`kernels_differ` (largest difference of a score between XNNPACK and LiteRT's own
kernels).

`int8_rule`: LiteRT Quantizer's int8 is used where its file is no larger than
the converter's by a twentieth and its `drift` smaller by a tenth.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import keras_cascade as kc
from benchmarks.export_students import arrays
from benchmarks.harness import options, show

STUDENTS = Path(__file__).parent.parent / "saved_models"
CALIBRATION, QUICK_TEST, BATCH = 400, 1_000, 100
SMALLER, NEARER = 1.05, 0.9


def quantized(content, rules, batches=()):
    """TFLite bytes, quantized by rules.

    Args:
        content: TFLite bytes.
        rules: list of `(operation, bits, kind)`; the kind is `"channel"` or
            `"block"` for a scale per channel or per 32 weights, multiplied
            with integers, `"floats"` for weights that become floats again,
            `"static"` for activations of 8 bits too.
        batches: list of dicts of arrays, for `"static"`. Defaults to `()`.
    """
    from litert_quantizer import Quantizer, qtyping

    granularity = qtyping.QuantGranularity
    quantizer = Quantizer(content)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        for operation, bits, kind in rules:
            name = qtyping.TFLOperationName(operation)
            if kind == "static":
                quantizer.add_static_config(".*", name, 8, bits)
            elif kind == "floats":
                quantizer.add_weight_only_config(".*", name, bits)
            else:
                in_blocks = kind == "block"
                quantizer.add_dynamic_config(
                    ".*", name, bits,
                    granularity.BLOCKWISE_32 if in_blocks
                    else granularity.CHANNELWISE,
                )  # fmt: skip
        measured = None
        if batches:
            measured = quantizer.calibrate({"serving_default": batches})
        return bytes(quantizer.quantize(measured).quantized_model)


def answers(content, x, own_kernels=False):
    """Outputs of a file, dict of arrays."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    options = {"experimental_op_resolver_type": resolver} if own_kernels else {}
    runner = Interpreter(
        model_content=content, num_threads=1, **options
    ).get_signature_runner()
    parts = [
        runner(input=x[start : start + BATCH])
        for start in range(0, len(x), BATCH)
    ]
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


def measured(content, floats, x, y):
    """What a way of storing costs, against the answers in float32."""
    found, own = answers(content, x), answers(content, x, own_kernels=True)
    gap = np.abs(found["probabilities"] - floats["probabilities"]).sum(axis=1)
    return {
        "bytes": len(content),
        "student_accuracy": float(
            (found["probabilities"].argmax(axis=1) == y).mean()
        ),
        "drift": float(gap.mean() / 2),
        "score_drift": float(np.abs(found["score"] - floats["score"]).mean()),
        "kernels_differ": float(np.abs(found["score"] - own["score"]).max()),
    }


def main():
    """Measures and prints."""
    chosen = options(__doc__)
    splits = kc.datasets.load("fashion_mnist")
    x, y = arrays(splits.test, QUICK_TEST if chosen.quick else None)
    x = x.astype("float32")
    rows, _ = arrays(splits.calibration, CALIBRATION)
    rows = rows.astype("float32")
    content, converter = (
        (STUDENTS / name / "student.tflite").read_bytes()
        for name in ("fashion_mnist_float32", "fashion_mnist")
    )
    floats = answers(content, x)
    static = [
        (name, 8, "static")
        for name in ("CONV_2D", "FULLY_CONNECTED", "RESHAPE")
    ]
    files = {
        "float32": content,
        "int8": converter,
        "int8_quantizer": quantized(content, static, [{"input": rows}]),
        "int8_quantizer_row_by_row": quantized(
            content, static, [{"input": row[None]} for row in rows]
        ),
        "dense_4_bits_by_channel": quantized(
            content, [("FULLY_CONNECTED", 4, "channel")]
        ),
        "dense_4_bits_in_blocks": quantized(
            content, [("FULLY_CONNECTED", 4, "block")]
        ),
        "convolutions_4_bits": quantized(content, [("CONV_2D", 4, "floats")]),
        "convolutions_8_bits": quantized(content, [("CONV_2D", 8, "floats")]),
        "int4": quantized(
            content,
            [("FULLY_CONNECTED", 4, "block"), ("CONV_2D", 8, "floats")],
        ),
    }
    results = {
        name: measured(file, floats, x, y) for name, file in files.items()
    }
    ours, other = results["int8_quantizer"], results["int8"]
    better = (
        ours["bytes"] <= SMALLER * other["bytes"]
        and ours["drift"] <= NEARER * other["drift"]
    )
    show(
        {
            "files": results,
            "int8_rule": {
                "better": better,
                "chosen": "int8_quantizer" if better else "int8",
            },
            "test_examples": len(x),
            "command": "python -m benchmarks.weight_bits --json"
            + (" --quick" if chosen.quick else ""),
        },
        chosen.json,
    )


if __name__ == "__main__":
    main()

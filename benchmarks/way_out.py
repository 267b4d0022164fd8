"""Ways to a TFLite file without TensorFlow's frozen SavedModel converter.

    python3 -m venv way_out
    way_out/bin/pip install . torch==2.13.0 litert-torch==0.10.0 psutil
    way_out/bin/python -m benchmarks.way_out --json [--quick]

Three students, with random weights and with a margin gate: a convnet,
MobileNetV3Small and a small transformer over token ids. Each goes three ways,
each in a process of its own:

- `keras_tensorflow`: Keras's `model.export(format="litert")` with the
  TensorFlow backend, which calls the frozen converter;
- `keras_torch`: the same with the torch backend, which calls litert-torch. The
  sizes are fixed, for one row;
- `litert_torch_free`: `litert_torch.convert` with a free number of rows.

`student` is the model alone; `with_gate` has `probabilities`, `score` and
`delegate` as outputs. Of a file: `bytes`, `operations`, `seconds` of the
conversion, `difference` (the largest from Keras in the same process, over 16
rows), `decisions_differ` of its rows, `rows_at_once` (an interpreter resizes
it to 16 rows and answers the same) and `compiled_model` (so does LiteRT's
`CompiledModel`, one row). Otherwise `error`.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "keras_tensorflow": "tensorflow",
    "keras_torch": "torch",
    "litert_torch_free": "torch",
}
STUDENTS = ("convnet", "mobilenet_v3_small", "text_transformer")
ROWS, LENGTH, WORDS = 16, 24, 4000
MINUTES = 10


def build(name):
    """`(student, inputs)` of a name."""
    import keras
    import numpy as np

    import keras_cascade as kc

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    if name == "convnet":
        student = kc.models.image_student((28, 28, 1), 10)
        x = rng.random((ROWS, 28, 28, 1), "float32")
    elif name == "mobilenet_v3_small":
        student = keras.applications.MobileNetV3Small(
            (96, 96, 3), weights=None, classes=10, classifier_activation=None
        )
        x = 255 * rng.random((ROWS, 96, 96, 3), "float32")
    else:
        student = kc.models.text_transformer(WORDS, 10, LENGTH)
        x = rng.integers(1, WORDS, (ROWS, LENGTH)).astype("int32")
        x[:, LENGTH // 2 :] *= rng.integers(0, 2, (ROWS, 1), "int32")
    # Random weights hardly tell inputs apart: scores would all be alike.
    if x.dtype.kind == "f":
        x *= np.linspace(0.1, 1.0, ROWS, dtype="float32")[:, None, None, None]
    # Normalized by these rows' own statistics, their features differ.
    normalizations = [
        layer
        for layer in student._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    for layer in normalizations:
        layer.momentum = 0.0
        for weight, low, high in (
            (layer.gamma, 0.5, 1.5), (layer.beta, -0.5, 0.5),
        ):  # fmt: skip
            if weight is not None:
                weight.assign(rng.uniform(low, high, weight.shape))
    if normalizations:
        student(x, training=True)
    return student, x


def with_gate(student, x):
    """Functional model of a student and its gate, with named outputs."""
    import keras
    import numpy as np

    import keras_cascade as kc

    gate = kc.gates.MarginGate()
    model = kc.gates.StudentWithGate(student, gate)
    scores = np.sort(keras.ops.convert_to_numpy(model(x)["score"]))
    # Away from every score: a decision must not hang on the last bit.
    gap = int(np.diff(scores[ROWS // 4 : -ROWS // 4]).argmax()) + ROWS // 4
    gate.threshold = float(scores[gap : gap + 2].mean())
    # One flat graph: litert-torch 0.10 fails on integers in a nested model.
    answer = model.answer(student.output)
    return keras.Model(
        student.input,
        {
            "probabilities": answer["probabilities"],
            "score": answer["score"],
            "delegate": keras.ops.cast(answer["delegate"], "int32"),
        },
    )


def convert(way, model, x, file):
    """Writes a model as a TFLite file."""
    import keras

    one = keras.InputSpec(shape=(1, *x.shape[1:]), dtype=str(x.dtype))
    if way == "keras_tensorflow":
        import tensorflow as tf

        model.export(
            file, format="litert", verbose=False,
            target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        )  # fmt: skip
    elif way == "keras_torch":
        model.export(
            file, format="litert", verbose=False, input_signature=[one]
        )
    else:
        import litert_torch
        import torch

        rows = torch.export.Dim("rows", min=1, max=256)
        model.eval()
        with torch.no_grad():
            litert_torch.convert(
                model, (torch.from_numpy(x[:2]),),
                dynamic_shapes=(({0: rows},),),  # Keras's `forward` takes *args
            ).export(file)  # fmt: skip


def described(file, model, x):
    """What a file computes, and of what; JSON-compatible dict."""
    import keras
    import numpy as np

    from keras_cascade.export.tflite_file import operations

    built_in, others = operations(Path(file).read_bytes())
    expected = keras.tree.map_structure(
        keras.ops.convert_to_numpy, model(x, training=False)
    )
    names = sorted(expected) if isinstance(expected, dict) else [None]
    if names == [None]:
        expected = {None: expected}
    rows = [run(file, x[n : n + 1]) for n in range(len(x))]
    outputs = matched(rows, expected)
    result = {
        "bytes": os.path.getsize(file),
        "operations": built_in,
        "custom_operations": others,
        "difference": max(
            float(np.abs(outputs[name] - expected[name]).max())
            for name in names
            if name != "delegate"
        ),
    }
    if "delegate" in names:
        result["decisions_differ"] = int(
            (outputs["delegate"] != expected["delegate"]).sum()
        )
    result["rows_at_once"] = same(lambda: [run(file, x)], expected)
    result["compiled_model"] = same(
        lambda: [compiled(file, x[n : n + 1]) for n in range(4)],
        {name: array[:4] for name, array in expected.items()},
    )
    return result


def run(file, x):
    """Outputs of LiteRT's interpreter, a list."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    (entry,) = interpreter.get_input_details()
    if list(entry["shape"]) != list(x.shape):
        interpreter.resize_tensor_input(entry["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(entry["index"], x)
    interpreter.invoke()
    return [
        interpreter.get_tensor(one["index"])
        for one in interpreter.get_output_details()
    ]


def compiled(file, x):
    """Outputs of `CompiledModel` on the CPU, a list."""
    import numpy as np
    from ai_edge_litert.compiled_model import CompiledModel
    from ai_edge_litert.interpreter import Interpreter

    model = CompiledModel.from_file(str(file))
    ((key, names),) = model.get_signature_list().items()
    number = model.get_signature_index(key)
    inputs = model.create_input_buffers(number)
    outputs = model.create_output_buffers(number)
    inputs[0].write(np.ascontiguousarray(x))
    model.run_by_index(number, inputs, outputs)
    details = (
        Interpreter(model_path=str(file))
        .get_signature_runner(key)
        .get_output_details()
    )
    return [
        buffer.read(
            int(np.prod(details[name]["shape"])), details[name]["dtype"]
        ).reshape(details[name]["shape"])
        for name, buffer in zip(names["outputs"], outputs, strict=True)
    ]


def matched(rows, expected):
    """Outputs by name: those of the same type and shape that are closest.

    A way may rename and reorder them.
    """
    import numpy as np

    found = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return {
        name: min(
            (
                one
                for one in found
                if one.shape == array.shape
                and (one.dtype.kind == array.dtype.kind)
            ),
            key=lambda one: float(np.abs(one - array).max()),
        )
        for name, array in expected.items()
    }


def same(action, expected):
    """`True`, or why the outputs of an action are not those expected."""
    import numpy as np

    try:
        outputs = matched(action(), expected)
    except Exception as error:
        return " ".join(f"{type(error).__name__}: {error}".split())[:200]
    gap = max(
        float(np.abs(outputs[name] - expected[name]).max()) for name in expected
    )
    return True if gap < 1e-3 else f"off by {gap:.2g}"


def both(way, name, folder):
    """Converts a student without and with its gate; prints what came of it."""
    student, x = build(name)
    results = {}
    for part in ("student", "with_gate"):
        model = student if part == "student" else with_gate(student, x)
        model(x[:1])
        file = os.path.join(folder, f"{way}-{name}-{part}.tflite")
        start = time.perf_counter()
        try:
            convert(way, model, x, file)
            spent = time.perf_counter() - start
            results[part] = {**described(file, model, x), "seconds": spent}
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            results[part] = {"error": text[:300] + " ... " + text[-300:]}
        # After each: a converter may end the process.
        print(json.dumps(results), flush=True)


def in_a_process(way, name, folder):
    """`both` in a process, whose end is none of this one's."""
    command = [
        sys.executable, "-m", "benchmarks.way_out", "--one", way, name, folder,
    ]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True, text=True, timeout=60 * MINUTES, check=False,
        env={**os.environ, "KERAS_BACKEND": WAYS[way]},
    )  # fmt: skip
    print(way, name, done.stdout[-3000:], file=sys.stderr, flush=True)
    lines = done.stdout.splitlines()
    results = json.loads(lines[-1]) if lines else {}
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()]
        text = " ".join(last[-3:])[-400:]
        results["ended"] = f"exit status {done.returncode}: {text}"
    return results


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        both(*chosen.one)
        return
    with tempfile.TemporaryDirectory() as folder:
        result = {
            name: {way: in_a_process(way, name, folder) for way in WAYS}
            for name in STUDENTS[: 1 if chosen.quick else None]
        }
    from benchmarks.harness import show

    versions = {
        package: importlib.metadata.version(package)
        for package in (
            "ai-edge-litert", "keras", "litert-torch", "tensorflow", "torch"
        )
    }  # fmt: skip
    show({"students": result, "versions": versions}, chosen.json)


if __name__ == "__main__":
    main()

"""The coverage table as a page of documentation."""

from benchmarks.coverage.artifacts import COLUMNS, TFLITE

MEGABYTE = 1e6
_INTRODUCTION = """\
# Export coverage by model

Every model below, at random initialisation and with no network, is the
student and the teacher of a `kc.Cascade` and goes through the package's own
exporters. Every file is run (TFLite in LiteRT, the SavedModel in TensorFlow,
ONNX in onnxruntime) and **all of its outputs are compared with Keras at batch
sizes {sizes}**. A number in the table means: exported, the outputs agree, no
NaN, and in TFLite built-in operations only (no Flex, no custom operation) and
no variable. TFLite float32, SavedModel and ONNX are shown in MB, the other
TFLite files as a ratio to the float32 file.

Made by `python -m benchmarks.coverage --json --write docs/coverage.md`
on {date}, with {versions}.

| model | parameters | {columns} |
|---|---|{rules}|
"""
_AGREEMENT = """
## How well they agree

Largest difference of a probability for what computes in float; for 8 bits the
mean over inputs of half the summed differences (0: the same, 1: nothing in
common), and the share of inputs with the same label. *Spread* is that mean
difference between the answers to *different* inputs: what a file would show
that answers the same to everything. Limits: {limits}.

A model at its initial weights answers nearly the same to any input, and all
of its exports would agree. So biases and scales get noise, BatchNormalization
an offset of 1 and the statistics of real activations, and the last layer reads
the principal directions of what reaches it, with a standard deviation of 3 for
every logit over 512 inputs (`benchmarks/coverage/inputs.py`). How far 8 bits
move the answers of a *trained* model has to be measured on it: `export` does so
and records it in the manifest. QAT is two steps of fine-tuning here: what is
asked is whether it exports: by TensorFlow Model Optimization, or where that
refuses a model, such as one of attention, by Keras 3
([which](quantization.md)). Layers that it leaves in float are listed in the
manifest.

| model | spread | {columns} |
|---|---|{rules}|
"""
#: What no model of the table shows. Each line names the test that proves it.
_BEYOND = """\

## Layers, sizes and precision beyond the models above

| what | files | proved by |
|---|---|---|
| `LSTM`, `GRU`, `SimpleRNN`, `RNN` of cells, `ConvLSTM2D`; stacked, bidirectional, backwards, masked | TFLite as loops of built-in operations, at fixed and free lengths; int8 | `tests/export/test_recurrent_layers.py` |
| recurrent layers with `stateful=True` | refused | the same |
| image sizes and lengths that the models leave free | TFLite, float and 8 bits, ONNX, SavedModel; or fixed by `input_shape` | `tests/export/test_free_sizes.py` |
| mixed precision, and weights of other types than float32 | in float32: every format | `tests/export/test_float32_models.py` |
| data of other types, byte orders and axes than the models declare | as declared: every format | `tests/export/test_signature.py` |
| exact GELU, error functions, hard activations, squeeze-and-excitation, grouped convolutions | TFLite, ONNX | `tests/export/test_coverage.py` |
"""  # noqa: E501


def page(result):
    """The Markdown page of a result.

    Args:
        result: dict, as `python -m benchmarks.coverage --json` prints it.

    Returns:
        String.
    """
    notes = {}
    models = result["models"]
    heads = {
        "columns": " | ".join(COLUMNS),
        "rules": "|".join("---" for _ in COLUMNS),
    }
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    text = _INTRODUCTION.format(
        sizes=", ".join(map(str, result["batch_sizes"])),
        date=result["date"],
        versions=versions,
        **heads,
    )
    for name, model in models.items():
        cells = [_size(model, column, notes) for column in COLUMNS]
        parameters = f"{model['parameters']:,}" if "parameters" in model else ""
        text += f"| {name} | {parameters} | {' | '.join(cells)} |\n"
    if notes:
        text += "\n" + "".join(
            f"[^{number}]: {why}\n" for why, number in notes.items()
        )
    later = [
        f"{column} of {name} on {cell['date']}"
        for name, model in models.items()
        for column, cell in model["columns"].items()
        if "date" in cell
    ]
    if later:
        text += f"\nMeasured again: {'; '.join(later)}.\n"
    limits = "; ".join(f"{k} {v}" for k, v in result["limits"].items())
    text += _AGREEMENT.format(limits=limits, **heads)
    for name, model in models.items():
        cells = [_agreement(model, column) for column in COLUMNS]
        spread = f"{model['spread']:.2f}" if "spread" in model else ""
        text += f"| {name} | {spread} | {' | '.join(cells)} |\n"
    return text + _BEYOND


def _size(model, column, notes):
    cell = model["columns"][column]
    if "why" in cell:
        number = notes.setdefault(cell["why"], len(notes) + 1)
        return f"no [^{number}]"
    whole = model["columns"]["TFLite float32"].get("bytes")
    if column in TFLITE and column != "TFLite float32" and whole:
        return f"{cell['bytes'] / whole:.2f}×"  # noqa: RUF001
    return f"{cell['bytes'] / MEGABYTE:.1f} MB"


def _agreement(model, column):
    cell = model["columns"][column]
    if "why" in cell:
        return ""
    if TFLITE.get(column) in ("dynamic", "int8", "qat"):
        share = 100 * cell["same_label"]
        return f"{cell['mean_distance']:.3f}, {share:.0f} %"
    return f"{cell['max_difference']:.0e}"

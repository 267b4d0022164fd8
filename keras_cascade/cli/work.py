"""What train, calibrate, evaluate and export do."""

import functools
import os
import tempfile
import zipfile
from pathlib import Path

import keras

from keras_cascade import (
    Cascade,
    MaxAccuracyDrop,
    MaxCost,
    MaxDelegationRate,
    MinAccuracy,
    MinGroupAccuracy,
    datasets,
)
from keras_cascade.cli.costs import set_costs
from keras_cascade.cli.references import reference_models
from keras_cascade.cli.training import (
    batched,
    train_cascade,
    train_teacher,
)
from keras_cascade.export.quantization import TRAINING, checked_quantization

OBJECTIVES = {
    "max_accuracy_drop": MaxAccuracyDrop,
    "max_cost": MaxCost,
    "max_delegation_rate": MaxDelegationRate,
    "min_accuracy": MinAccuracy,
    "min_class_accuracy": functools.partial(MinGroupAccuracy, "class"),
}
REFERENCE_TEACHER_WIDTH = 16
REFERENCE_STUDENT_WIDTH = 8


def train(
    spec,
    output,
    teacher_file,
    student_file,
    distillation,
    epochs,
    seed,
    console,
):
    """Trains a cascade and saves it. Returns its test metrics."""
    _check_output(output)
    keras.utils.set_random_seed(seed)
    splits = datasets.load(spec, seed)
    data = batched(splits)
    if teacher_file is None:
        teacher = train_teacher(
            reference_models(splits).teacher(REFERENCE_TEACHER_WIDTH),
            splits,
            data,
            console,
            epochs,
        )
    else:
        teacher = load_model(teacher_file)
    if student_file is None:
        student = reference_models(splits).student(REFERENCE_STUDENT_WIDTH)
    else:
        student = load_model(student_file)
    cascade, _ = train_cascade(
        teacher, student, distillation, data, console, epochs
    )
    _save(cascade, output)
    metrics = cascade.evaluate(data["test"], return_dict=True, verbose=0)
    return {"cascade": str(output), **metrics}


def calibrate(cascade_file, spec, objectives, confidence, costs, seed):
    """Calibrates a saved cascade in place. Returns the cascade."""
    objectives = [parse_objective(text, confidence) for text in objectives]
    cascade = load_cascade(cascade_file)
    data = batched(datasets.load(spec, seed))
    if costs is not None:
        set_costs(cascade, costs, data["calibration"])
    cascade.calibrate(
        data["calibration"],
        objectives[0] if len(objectives) == 1 else objectives,
    )
    _save(cascade, cascade_file)
    return cascade


def evaluate(cascade_file, spec, seed):
    """Returns the metrics of a saved cascade on the test split."""
    cascade = load_cascade(cascade_file)
    data = batched(datasets.load(spec, seed))
    return cascade.evaluate(data["test"], return_dict=True, verbose=0)


def export(
    cascade_file, spec, output, overwrite, quantization, points, onnx, seed
):
    """Exports a saved cascade. Returns what was verified."""
    points = dict(map(parse_operating_point, points))
    quantization = checked_quantization(quantization)
    cascade = load_cascade(cascade_file)
    splits = datasets.load(spec, seed)
    data = batched(splits)
    trains = quantization in TRAINING
    bundle = cascade.export(
        output,
        calibration_data=data["calibration"],
        class_names=splits.class_names,
        overwrite=overwrite,
        quantization=quantization,
        training_data=data["train"] if trains else None,
        onnx=onnx,
        operating_points=points,
    )
    point = bundle.operating_point()
    return {
        "bundle": str(bundle.path),
        "student_bytes": bundle.manifest["student"]["bytes"],
        "threshold": point["threshold"],
        "delegation_rate": point["delegation_rate"],
        "accuracy": point["accuracy"],
        **bundle.manifest["verification"],
    }


def parse_operating_point(text):
    """`(name, objective)` from `NAME:OBJECTIVE=NUMBER[@CONFIDENCE]`."""
    name, found, objective = text.partition(":")
    objective, _, confidence = objective.partition("@")
    try:
        confidence = float(confidence) if confidence else None
    except ValueError:
        found = ""
    if not found:
        raise ValueError(
            "Expected --operating-point NAME:OBJECTIVE=NUMBER, or with "
            "@CONFIDENCE behind it, such as "
            "'exact:max_accuracy_drop=0.01@0.95'. Received: "
            f"'{text}'."
        )
    return name, parse_objective(objective, confidence)


def parse_objective(text, confidence=None):
    """An objective from `NAME=NUMBER`."""
    name, _, value = text.partition("=")
    try:
        return OBJECTIVES[name](float(value), confidence=confidence)
    except (KeyError, ValueError) as error:
        reason = f" ({error})" if name in OBJECTIVES and value else ""
        raise ValueError(
            f"Expected --objective NAME=NUMBER with a name out of "
            f"{sorted(OBJECTIVES)}. Received: '{text}'.{reason}"
        ) from None


def load_model(file):
    """Loads a .keras file."""
    file = Path(file)
    if not file.is_file():
        raise ValueError(f"Expected a .keras file. There is none at '{file}'.")
    if not zipfile.is_zipfile(file):
        raise ValueError(
            f"Expected '{file}' to be a .keras file, as `model.save` writes "
            "it. It is something else, or damaged."
        )
    return keras.models.load_model(file)


def load_cascade(file):
    """Loads a .keras file that holds a cascade."""
    cascade = load_model(file)
    if not isinstance(cascade, Cascade):
        raise ValueError(
            f"Expected '{file}' to hold a cascade, as `keras-cascade train` "
            f"saves it. Received: a {type(cascade).__name__}."
        )
    return cascade


def _check_output(output):
    """Fails now what would fail after the training."""
    output = Path(output)
    if output.suffix != ".keras" or output.is_dir():
        raise ValueError(
            "Expected --output to be a file that ends in '.keras'. Received: "
            f"'{output}'."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(output.parent, os.W_OK):
        raise ValueError(f"'{output.parent}' cannot be written to.")


def _save(cascade, output):
    """Saves beside the target and renames: never half a file."""
    output = Path(output)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        part = Path(folder, output.name)
        cascade.save(part)
        os.replace(part, output)

"""Commands on a saved cascade: train, calibrate, evaluate and export."""

import functools
import os
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_cascade import (
    Cascade,
    MaxAccuracyDrop,
    MaxCost,
    MaxDelegationRate,
    MaxExpectedCost,
    MaxExpectedLoss,
    MaxFalseAlarmRate,
    MaxLossIncrease,
    MinAccuracy,
    MinGroupAccuracy,
    MinPrecision,
    MinRecall,
)
from keras_cascade.cli.cascade_data import (
    remember_data,
    splits_for,
    splits_of,
)
from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.reference_models import reference_models
from keras_cascade.cli.trainer import batched, train_cascade, train_teacher
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation.costs import Costs
from keras_cascade.evaluation.flops import costs_from_flops
from keras_cascade.export import costs_from_latency
from keras_cascade.export.quantization import TRAINING, checked_quantization
from keras_cascade.models.load_model import load_model
from keras_cascade.utils.output_path import output_path

#: Environment variable that lets a cascade's SavedModel run.
TRUST = "KERAS_CASCADE_TRUST_SAVED_MODELS"
OBJECTIVES = {
    "max_accuracy_drop": MaxAccuracyDrop,
    "max_cost": MaxCost,
    "max_delegation_rate": MaxDelegationRate,
    "max_expected_loss": MaxExpectedLoss,
    "max_loss_increase": MaxLossIncrease,
    "min_accuracy": MinAccuracy,
    "min_class_accuracy": functools.partial(MinGroupAccuracy, "class"),
}

COSTS_FORMAT = (
    "Expected --costs flops, latency, latency,NETWORK_MS, or "
    "STUDENT,TEACHER,UNIT, or STUDENT,TEACHER,NETWORK,UNIT."
)
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
    data_options=None,
):
    """Trains a cascade and saves it.

    Args:
        spec: str, data spec.
        output: path of the .keras file.
        teacher_file: path or handle of a trained model, as
            `keras_cascade.models.load_model` takes it, or `None` for a
            reference teacher, which is trained first.
        student_file: the same of a student, or `None` for a reference
            student.
        distillation: str, name of a policy.
        epochs: int.
        seed: int, of splits and weights.
        console: `rich.console.Console` for progress.
        data_options: `DataOptions`. Defaults to `None`: as the models say.

    Returns:
        Dict of the path and the metrics on the test split.
    """
    _check_output(output)
    keras.utils.set_random_seed(seed)
    data_options = data_options or DataOptions()
    teacher = None if teacher_file is None else load_model(teacher_file)
    student = None if student_file is None else load_model(student_file)
    splits = splits_for(
        [one for one in (teacher, student) if one is not None],
        spec,
        seed,
        data_options,
        must_know_scale=teacher is not None,
    )
    data = batched(splits)
    if teacher is None:
        teacher = train_teacher(
            reference_models(splits).teacher(REFERENCE_TEACHER_WIDTH),
            splits,
            data,
            console,
            epochs,
        )
    if student is None:
        student = reference_models(splits).student(REFERENCE_STUDENT_WIDTH)
    cascade, _ = train_cascade(
        teacher, student, distillation, data, console, epochs
    )
    remember_data(cascade, splits)
    _save(cascade, output)
    metrics = cascade.evaluate(data["test"], return_dict=True, verbose=0)
    return {"cascade": str(output), **metrics}


def calibrate(
    cascade_file,
    spec,
    objectives,
    confidence,
    costs,
    seed,
    data_options=None,
    per_class=False,
):
    """Calibrates a saved cascade and saves it in place.

    Args:
        cascade_file: path of a .keras file.
        spec: str, data spec; its calibration split is used.
        objectives: list of str, as `parse_objective` takes.
        confidence: float, or `None` for the calibration split alone.
        costs: str, as `--costs`, or `None` to leave them.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as in the training.
        per_class: bool. A threshold for each class that the student
            predicts. Defaults to `False`.

    Returns:
        The `Cascade`.
    """
    objectives = [parse_objective(text, confidence) for text in objectives]
    cascade = load_cascade(cascade_file)
    data = batched(splits_of(cascade, spec, seed, data_options))
    if costs is not None:
        _set_costs(cascade, costs, data["calibration"])
    cascade.calibrate(
        data["calibration"],
        objectives[0] if len(objectives) == 1 else objectives,
        per_class=per_class,
    )
    _save(cascade, cascade_file)
    return cascade


def evaluate(cascade_file, spec, seed, data_options=None):
    """Evaluates a saved cascade on the test split.

    Args:
        cascade_file: path of a .keras file.
        spec: str, data spec.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as in the training.

    Returns:
        Dict of metrics.
    """
    cascade = load_cascade(cascade_file)
    data = batched(splits_of(cascade, spec, seed, data_options))
    return cascade.evaluate(data["test"], return_dict=True, verbose=0)


def export(
    cascade_file,
    spec,
    output,
    overwrite,
    quantization,
    points,
    onnx,
    seed,
    data_options=None,
    float_layers=(),
    io_type=None,
    input_type=None,
    targets=(),
):
    """Exports a saved cascade as a bundle.

    Args:
        cascade_file: path of a .keras file.
        spec: str, data spec.
        output: path of the bundle.
        overwrite: bool. Replaces an existing bundle.
        quantization: str or `None`.
        points: list of str, as `parse_operating_point` takes.
        onnx: bool. Adds ONNX files.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as in the training.
        float_layers: list of str, with `"int8"`. Defaults to `()`.
        io_type: of `Cascade.export`. Defaults to `None`.
        input_type: of `Cascade.export`. Defaults to `None`.
        targets: of `Cascade.export`. Defaults to `()`.

    Returns:
        Dict of the path, the operating point and the verification.
    """
    points = dict(map(parse_operating_point, points))
    quantization = checked_quantization(quantization)
    cascade = load_cascade(cascade_file)
    splits = splits_of(cascade, spec, seed, data_options)
    remember_data(cascade, splits)
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
        float_layers=float_layers,
        io_type=io_type,
        input_type=input_type,
        targets=targets,
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
    """Parses `NAME:OBJECTIVE=NUMBER[@CONFIDENCE]`.

    Args:
        text: str.

    Returns:
        `(name, objective)`.
    """
    name, separator, objective = text.partition(":")
    objective, _, confidence = objective.partition("@")
    is_valid = bool(separator)
    try:
        confidence = float(confidence) if confidence else None
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            "Expected --operating-point NAME:OBJECTIVE=NUMBER, or with "
            "@CONFIDENCE behind it, such as "
            "'exact:max_accuracy_drop=0.01@0.95'. Received: "
            f"'{text}'."
        )
    return name, parse_objective(objective, confidence)


def _class_of(text):
    """Class by its index, where it is a whole number, or else by its name."""
    if not text:
        raise ValueError("No class is named.")
    return int(text) if text.isascii() and text.isdigit() else text


def _matrix_of(path):
    """Cost matrix of a file of numbers, with commas between them."""
    return np.loadtxt(path, delimiter=",", ndmin=2)


#: Objectives of a subject: class, function that reads it, its form.
OBJECTIVES_OF = {
    "max_expected_cost": (MaxExpectedCost, _matrix_of, "FILE.csv"),
    "max_false_alarm_rate": (MaxFalseAlarmRate, _class_of, "CLASS"),
    "min_precision": (MinPrecision, _class_of, "CLASS"),
    "min_recall": (MinRecall, _class_of, "CLASS"),
}


def parse_objective(text, confidence=None):
    """Parses `NAME=NUMBER` or `NAME=SUBJECT:NUMBER` to an `Objective`.

    The subject is a class by its name or index, or the file of a cost matrix.

    Args:
        text: str.
        confidence: float or `None`. Defaults to `None`.
    """
    name, _, value = text.partition("=")
    if name in OBJECTIVES_OF:
        make, read, subject_form = OBJECTIVES_OF[name]
        subject, _, value = value.rpartition(":")
        try:
            return make(read(subject), float(value), confidence=confidence)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"Expected --objective {name}={subject_form}:NUMBER. Received: "
                f"'{text}'. ({error})"
            ) from None
    try:
        return OBJECTIVES[name](float(value), confidence=confidence)
    except (KeyError, ValueError) as error:
        reason = f" ({error})" if name in OBJECTIVES and value else ""
        raise ValueError(
            f"Expected --objective NAME=NUMBER with a name out of "
            f"{sorted(OBJECTIVES)}, or NAME=SUBJECT:NUMBER with one out of "
            f"{sorted(OBJECTIVES_OF)}. Received: '{text}'.{reason}"
        ) from None


def load_cascade(file):
    """Loads a `Cascade` from a .keras file."""
    trusted = os.environ.get(TRUST) == "1"
    try:
        cascade = load_model(file, safe_mode=not trusted)
    except ValueError as error:
        if "TFSMLayer" not in str(error):
            raise
        raise _untrusted(file) from error
    if getattr(getattr(cascade, "teacher", None), "is_untrusted", False):
        raise _untrusted(file)
    if not isinstance(cascade, Cascade):
        raise ValueError(
            f"Expected '{file}' to hold a cascade, as `keras-cascade train` "
            f"saves it. Received: a {type(cascade).__name__}."
        )
    if not cascade.task.one_class_per_example:
        raise ValueError(
            "The commands on a saved cascade read data of one class per "
            f"example. Received: '{file}', of the task {cascade.task!r}. Use "
            "`evaluate`, `calibrate` and `export` of the cascade in Python; "
            "the commands on its bundle take it."
        )
    return cascade


def _untrusted(file):
    return ValueError(
        f"Expected '{file}' to hold models of Keras. Received one with a "
        "SavedModel, whose graph is code, or with an endpoint, which your key "
        "would be sent to. If you trust the file and what it names, set the "
        f"environment variable {TRUST}=1."
    )


def _set_costs(cascade, text, data):
    """Sets a cascade's costs from `--costs`.

    Args:
        cascade: `Cascade`.
        text: str, as in `COSTS_FORMAT`.
        data: batches; their first inputs are run or counted.
    """
    inputs = LabelledData.from_argument(data).first_rows()
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
            cascade.costs = _parse_costs(kind, *rest)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{COSTS_FORMAT} Received: '{text}'. ({error})"
        ) from None


def _parse_costs(student, teacher, *rest):
    *network, unit = rest
    numbers = [float(value) for value in network]
    if len(numbers) > 1 or not unit.strip():
        raise ValueError("a unit comes last, such as EUR")
    return Costs(
        float(student), float(teacher), unit.strip(), "given", *numbers
    )


def _check_output(output):
    """Raises before the training if the output cannot be written after it."""
    output = Path(output)
    if output.suffix != ".keras" or output.is_dir():
        raise ValueError(
            "Expected --output to be a file that ends in '.keras'. Received: "
            f"'{output}'."
        )
    output_path(output)


def _save(cascade, output):
    """Saves beside the target, then renames: `output` is never half a file."""
    output = output_path(output)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        part = Path(folder, output.name)
        cascade.save(part)
        os.replace(part, output)

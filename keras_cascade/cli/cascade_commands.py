"""Commands that create or read a cascade: `demo` to `export`.

Signatures and help texts only. Heavy imports stay inside the functions, so
that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from keras_cascade.cli.data_options import DataOptions, with_data_options
from keras_cascade.cli.options import (
    STARTING,
    Cascade,
    Data,
    Json,
    Policy,
    Seed,
)


@with_data_options
def demo(
    dataset: Data = "digits",
    output: Annotated[
        Path,
        typer.Option(help="folder for bundle and report", metavar="FOLDER"),
    ] = Path("runs/demo"),
    distillation: Policy = "standard",
    max_delegation_rate: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="share of inputs that may reach the teacher",
            metavar="RATE",
        ),
    ] = None,
    seed: Seed = 0,
    web: Annotated[
        bool,
        typer.Option("--web", help="then serve it with a page at /web/"),
    ] = False,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Train, calibrate, export, serve and use a cascade on real data.

    \b
    Example:
      keras-cascade demo --dataset digits --output runs/digits
    """
    from keras_cascade.cli.console import show_demo, spinner, stderr_console

    with spinner(STARTING):
        from keras_cascade.cli.demo import run_demo, serve_page

        if web:
            from keras_cascade.serving.web_page import check_page

            check_page()  # before minutes of training
    report = run_demo(
        dataset,
        output,
        stderr_console(),
        distillation,
        max_delegation_rate,
        seed,
        overwrite=True,
        data_options=data_options,
    )
    show_demo(report, output, as_json)
    if web:
        serve_page(output / "bundle", stderr_console())


@with_data_options
def train(
    data: Data,
    output: Annotated[
        Path, typer.Option(help="the .keras file to write", metavar="FILE")
    ],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="trained classifier: .keras or .h5 file, SavedModel, or "
            "hf:// or kaggle:// handle",
            metavar="MODEL",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="classifier to train, as --teacher", metavar="MODEL"),
    ] = None,
    distillation: Policy = "standard",
    epochs: Annotated[
        int, typer.Option(min=1, help="of the student", metavar="N")
    ] = 10,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Distil a teacher into a student and save the cascade.

    Without --teacher and --student it takes reference models, for images or
    for texts.

    \b
    Example:
      keras-cascade train --data digits --output cascade.keras
    """
    from keras_cascade.cli.console import show, spinner, stderr_console

    with spinner(STARTING):
        from keras_cascade.cli import saved_cascade

    result = saved_cascade.train(
        data,
        output,
        teacher,
        student,
        distillation,
        epochs,
        seed,
        stderr_console(),
        data_options,
    )
    show(result, as_json, f"trained on {data}")


@with_data_options
def calibrate(
    cascade: Cascade,
    data: Data,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="max_accuracy_drop=E, max_delegation_rate=R, max_cost=C, "
            "min_accuracy=A, min_recall=CLASS:A, or others of "
            "docs/concepts.md; several are all met",
            metavar="NAME=X",
            show_default="max_accuracy_drop=0.01",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="such as 0.95: guarantees the objective of new inputs",
            metavar="C",
        ),
    ] = None,
    per_class: Annotated[
        bool,
        typer.Option(
            "--per-class",
            help="a threshold for each class that the student predicts",
        ),
    ] = False,
    costs: Annotated[
        str | None,
        typer.Option(
            help="flops, latency[,NETWORK_MS], or STUDENT,TEACHER[,NETWORK],"
            "UNIT",
            metavar="COSTS",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Set a saved cascade's threshold on the calibration split.

    \b
    Example:
      keras-cascade calibrate cascade.keras --data digits \\
        --objective max_accuracy_drop=0.05 --confidence 0.95
    """
    from keras_cascade.cli.console import show_point, spinner

    objectives = objective or ["max_accuracy_drop=0.01"]
    with spinner(STARTING):
        from keras_cascade.cli import saved_cascade
    with spinner("Running student and teacher on the calibration split"):
        calibrated = saved_cascade.calibrate(
            cascade,
            data,
            objectives,
            confidence,
            costs,
            seed,
            data_options,
            per_class,
        )
    show_point(
        calibrated.operating_point,
        calibrated.costs,
        as_json,
        f"{cascade}, on the calibration split",
    )


@with_data_options
def evaluate(
    cascade: Cascade,
    data: Data,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Measure student, teacher and cascade on the test split.

    \b
    Example:
      keras-cascade evaluate cascade.keras --data digits
    """
    from keras_cascade.cli.console import show, spinner

    with spinner(STARTING):
        from keras_cascade.cli import saved_cascade
    with spinner("Running student and teacher on the test split"):
        result = saved_cascade.evaluate(cascade, data, seed, data_options)
    show(result, as_json, f"{cascade}, on the test split")


@with_data_options
def report(
    cascade: Cascade,
    data: Data,
    output: Annotated[
        Path, typer.Option(help="folder for the report", metavar="FOLDER")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing report")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Write a page on what the cascade is worth on the test split.

    \b
    Example:
      keras-cascade report cascade.keras --data digits --output report
    """
    from keras_cascade.cli.console import show_report, spinner

    with spinner(STARTING):
        from keras_cascade.cli.report import write_cascade_report
    with spinner("Measuring on the test split"):
        result = write_cascade_report(
            cascade, data, output, overwrite, seed, data_options
        )
    show_report(result, as_json)


@with_data_options
def export(
    cascade: Cascade,
    data: Data,
    output: Annotated[
        Path, typer.Option(help="folder of the bundle", metavar="FOLDER")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing bundle")
    ] = False,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="float16, dynamic, int8 or int4; or, trained on: qat, prune, "
            "cluster, prune+qat or cluster+qat",
            metavar="NAME",
            show_default="float32",
        ),
    ] = None,
    float_layer: Annotated[
        # Hidden, as the help must fit a screen: docs/export.md describes it.
        list[str] | None, typer.Option(hidden=True, metavar="NAME")
    ] = None,
    operating_point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:X=Y",
            help="a further threshold for the device, such as "
            "saver:max_delegation_rate=0.1",
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="add student.onnx, teacher.onnx")
    ] = False,
    io_type: Annotated[
        str | None,
        typer.Option(
            help="int8: inputs of an int8 student", metavar="NAME", hidden=True
        ),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option(
            help="uint8: images of bytes", metavar="NAME", hidden=True
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="microcontroller, browser or phone, which must run it",
            metavar="NAME",
            hidden=True,
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Write the bundle, verified in LiteRT on the calibration split.

    \b
    Example:
      keras-cascade export cascade.keras --data digits --output bundle \\
        --quantization int8
    """
    from keras_cascade.cli.console import show, spinner

    with spinner(STARTING):
        from keras_cascade.cli import saved_cascade
    with spinner("Exporting, and running what was exported"):
        result = saved_cascade.export(
            cascade, data, output, overwrite, quantization,
            operating_point or [], onnx, seed, data_options, float_layer or [],
            io_type, input_type, target or [],
        )  # fmt: skip
    show(result, as_json, f"exported to {output}")

"""The commands: options and help here, the work elsewhere.

Heavy imports stay inside the functions, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from keras_cascade.cli.options import Bundle, Cascade, Data, Json, Policy, Seed
from keras_cascade.cli.serving_command import serve

STARTING = "Starting TensorFlow"


def register(app):
    """Adds every command to the app."""
    for command in (
        demo, train, calibrate, evaluate, report, export, verify, bench,
        predict, serve,
    ):  # fmt: skip
        app.command()(command)


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
    as_json: Json = False,
):
    """Train, calibrate, export, serve and use a cascade on real data.

    \b
    Example:
      keras-cascade demo --dataset digits --output runs/digits
    """
    from keras_cascade.cli.console import people, show_demo, waiting

    with waiting(STARTING):
        from keras_cascade.cli.demo import run_demo

    report = run_demo(
        dataset,
        output,
        people(),
        distillation,
        max_delegation_rate,
        seed,
        overwrite=True,
    )
    show_demo(report, output, as_json)


def train(
    data: Data,
    output: Annotated[
        Path, typer.Option(help="the .keras file to write", metavar="FILE")
    ],
    teacher: Annotated[
        Path | None,
        typer.Option(help="trained .keras model with logits", metavar="FILE"),
    ] = None,
    student: Annotated[
        Path | None,
        typer.Option(help=".keras model with logits", metavar="FILE"),
    ] = None,
    distillation: Policy = "standard",
    epochs: Annotated[
        int, typer.Option(min=1, help="of the student", metavar="N")
    ] = 10,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Distil a teacher into a student and save the cascade.

    Without --teacher and --student it takes reference models, for images or
    for texts.

    \b
    Example:
      keras-cascade train --data digits --output cascade.keras
    """
    from keras_cascade.cli.console import people, show, waiting

    with waiting(STARTING):
        from keras_cascade.cli import work

    result = work.train(
        data, output, teacher, student, distillation, epochs, seed, people()
    )
    show(result, as_json, f"trained on {data}")


def calibrate(
    cascade: Cascade,
    data: Data,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="max_accuracy_drop=E, max_delegation_rate=R, max_cost=C, "
            "min_accuracy=A or min_class_accuracy=A; several are all met",
            metavar="NAME=X",
            show_default="max_accuracy_drop=0.01",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="such as 0.95: guarantees the objective of new inputs; "
            "without, it holds on the calibration split",
            metavar="C",
        ),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            help="flops, latency[,NETWORK_MS], or STUDENT,TEACHER[,NETWORK],"
            "UNIT",
            metavar="COSTS",
            show_default="as the cascade has them",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Set a saved cascade's threshold on the calibration split.

    \b
    Example:
      keras-cascade calibrate cascade.keras --data digits \\
        --objective max_accuracy_drop=0.05 --confidence 0.95
    """
    from keras_cascade.cli.console import show_point, waiting

    objectives = objective or ["max_accuracy_drop=0.01"]
    with waiting(STARTING):
        from keras_cascade.cli import work
    with waiting("Running student and teacher on the calibration split"):
        calibrated = work.calibrate(
            cascade, data, objectives, confidence, costs, seed
        )
    show_point(
        calibrated.operating_point,
        calibrated.costs,
        as_json,
        f"{cascade}, on the calibration split",
    )


def evaluate(
    cascade: Cascade,
    data: Data,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Measure student, teacher and cascade on the test split.

    \b
    Example:
      keras-cascade evaluate cascade.keras --data digits
    """
    from keras_cascade.cli.console import show, waiting

    with waiting(STARTING):
        from keras_cascade.cli import work
    with waiting("Running student and teacher on the test split"):
        result = work.evaluate(cascade, data, seed)
    show(result, as_json, f"{cascade}, on the test split")


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
):
    """Write a page on what the cascade is worth on the test split.

    \b
    Example:
      keras-cascade report cascade.keras --data digits --output report
    """
    from keras_cascade.cli.console import show_report, waiting

    with waiting(STARTING):
        from keras_cascade.cli import reporting
    with waiting("Measuring on the test split"):
        result = reporting.report(cascade, data, output, overwrite, seed)
    show_report(result, as_json)


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
            help="float16, dynamic or int8; or, trained on: qat, prune, "
            "cluster, prune+qat or cluster+qat",
            metavar="NAME",
            show_default="float32",
        ),
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
    seed: Seed = 0,
    as_json: Json = False,
):
    """Write the bundle, verified in LiteRT on the calibration split.

    \b
    Example:
      keras-cascade export cascade.keras --data digits --output bundle \\
        --quantization int8
    """
    from keras_cascade.cli.console import show, waiting

    with waiting(STARTING):
        from keras_cascade.cli import work
    with waiting("Exporting, and running what was exported"):
        result = work.export(
            cascade, data, output, overwrite, quantization,
            operating_point or [], onnx, seed,
        )  # fmt: skip
    show(result, as_json, f"exported to {output}")


def verify(
    bundle: Bundle,
    data: Data,
    split: Annotated[
        str, typer.Option(help="test or calibration", metavar="NAME")
    ] = "test",
    seed: Seed = 0,
    as_json: Json = False,
):
    """Check a bundle's files, graph, decisions and guarantees on data.

    \b
    Example:
      keras-cascade verify bundle --data digits
    """
    from keras_cascade.cli.console import show_checks, waiting

    with waiting(STARTING):
        from keras_cascade.cli.verifying import verify as run
    with waiting(f"Running the bundle on the {split} split"):
        result = run(bundle, data, split, seed)
    show_checks(result, as_json, f"{bundle}, on the {split} split of {data}")
    if not result["passed"]:
        raise typer.Exit(1)


def bench(
    bundle: Bundle,
    data: Data,
    batch: Annotated[
        list[int] | None,
        typer.Option(min=1, help="rows", metavar="N", show_default="1 and 32"),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="of the student's interpreter",
            metavar="N",
            show_default="1",
        ),
    ] = None,
    runs: Annotated[
        int, typer.Option(min=1, help="timed passes", metavar="N")
    ] = 200,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Measure size, latency and memory of a bundle's parts here.

    \b
    Example:
      keras-cascade bench bundle --data digits --batch 1 --threads 2
    """
    from keras_cascade.cli.console import people, show_bench, waiting

    with waiting(STARTING):
        from keras_cascade.cli.benching import bench as run
    # No spinner: it would be timed as well.
    people().print("Timing the bundle's parts ...")
    result = run(bundle, data, batch or [1, 32], threads or [1], runs, seed)
    show_bench(result, as_json)


def predict(
    bundle: Bundle,
    input: Annotated[
        Path | None,
        typer.Option(
            help="an image, or a .npy file with a batch", metavar="FILE"
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="a text; may be given again", metavar="TEXT"),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="'local', a path, or a URL: http(s)://HOST/v1/models/NAME, "
            "http(s)://HOST/v2/models/NAME, grpc(s)://HOST:PORT/NAME, or "
            "http(s)://HOST:PORT, which is asked what it speaks",
            metavar="WHERE",
        ),
    ] = None,
    on_failure: Annotated[
        str,
        typer.Option(
            help="answer, abstain or raise without the teacher",
            metavar="NAME",
        ),
    ] = "raise",
    operating_point: Annotated[
        str | None,
        typer.Option(
            help="one of the bundle's",
            metavar="NAME",
            show_default="its first",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="a token for the teacher at a URL", metavar="FILE"),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            help="certificates to trust for the URL, PEM", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
):
    """Answer inputs with an exported bundle.

    \b
    Example:
      keras-cascade predict saved_models/fashion_mnist \\
        --input tutorials/data/boot.png --teacher local
    """
    from keras_cascade.cli.console import show_prediction, waiting
    from keras_cascade.cli.predicting import predict_input

    with waiting("Answering"):
        prediction = predict_input(
            bundle, input, text, teacher, on_failure, operating_point,
            token_file, ca_file,
        )  # fmt: skip
    show_prediction(prediction, as_json)

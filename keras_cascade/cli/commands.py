"""The commands: options and help here, the work elsewhere.

Heavy imports stay inside the functions, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from keras_cascade.cli.serving_command import serve

Data = Annotated[
    str,
    typer.Option(
        help="digits, fashion_mnist, tfds:NAME, dir:PATH, npz:PATH or csv:PATH",
        metavar="SPEC",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON to stdout")]
Seed = Annotated[int, typer.Option(help="of splits and weights")]


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
        Path, typer.Option(help="folder for bundle and report")
    ] = Path("runs/demo"),
    distillation: Annotated[
        str, typer.Option(help="distillation policy: standard or margin")
    ] = "standard",
    max_delegation_rate: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="share of inputs that may reach the teacher"
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Train, calibrate, export, serve and use a cascade on real data.

    Example: keras-cascade demo --dataset fashion_mnist --output runs/fm
    """
    from keras_cascade.cli.console import people, show_demo
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
    output: Annotated[Path, typer.Option(help="the .keras file to write")],
    teacher: Annotated[
        Path | None, typer.Option(help="trained .keras model with logits")
    ] = None,
    student: Annotated[
        Path | None, typer.Option(help=".keras model with logits")
    ] = None,
    distillation: Annotated[
        str, typer.Option(help="standard or margin")
    ] = "standard",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Distil a teacher into a student and save the cascade.

    Without --teacher and --student, reference models are used, for images
    or for texts.

    Example: keras-cascade train --data digits --output cascade.keras
    """
    from keras_cascade.cli import work
    from keras_cascade.cli.console import people, show

    result = work.train(
        data, output, teacher, student, distillation, epochs, seed, people()
    )
    show(result, as_json, f"trained on {data}")


def calibrate(
    cascade: Annotated[Path, typer.Argument(help="a saved cascade")],
    data: Data,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="max_accuracy_drop=E, max_delegation_rate=R, max_cost=C, "
            "min_accuracy=A or min_class_accuracy=A; several are all met "
            "[default: max_accuracy_drop=0.01]",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="such as 0.95: promises the objective of new inputs; "
            "without, it holds on the calibration split",
        ),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            help="flops, latency[,NETWORK_MS], or STUDENT,TEACHER[,NETWORK],"
            "UNIT [default: as the cascade has them]",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Set the threshold on the calibration split; updates the saved file.

    Example: keras-cascade calibrate cascade.keras --data digits
    --objective max_accuracy_drop=0.02 --confidence 0.95
    """
    from keras_cascade.cli import work
    from keras_cascade.cli.console import show_point

    objectives = objective or ["max_accuracy_drop=0.01"]
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
    cascade: Annotated[Path, typer.Argument(help="a saved cascade")],
    data: Data,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Measure student, teacher and cascade on the test split.

    Example: keras-cascade evaluate cascade.keras --data digits
    """
    from keras_cascade.cli import work
    from keras_cascade.cli.console import show

    result = work.evaluate(cascade, data, seed)
    show(result, as_json, f"{cascade}, on the test split")


def report(
    cascade: Annotated[Path, typer.Argument(help="a calibrated cascade")],
    data: Data,
    output: Annotated[Path, typer.Option(help="folder for the report")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing report")
    ] = False,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Write one page that says what the cascade is worth on the test split.

    Example: keras-cascade report cascade.keras --data digits --output report
    """
    from keras_cascade.cli import reporting
    from keras_cascade.cli.console import show_report

    result = reporting.report(cascade, data, output, overwrite, seed)
    show_report(result, as_json)


def export(
    cascade: Annotated[Path, typer.Argument(help="a saved cascade")],
    data: Data,
    output: Annotated[Path, typer.Option(help="folder of the bundle")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="replace an existing bundle")
    ] = False,
    quantization: Annotated[
        str | None,
        typer.Option(
            help="float16, dynamic or int8; or, trained on: qat, prune, "
            "cluster, prune+qat or cluster+qat [default: float32]"
        ),
    ] = None,
    operating_point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:OBJECTIVE",
            help="a further threshold to switch to on the device, such as "
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

    Example: keras-cascade export cascade.keras --data digits --output bundle
    --quantization int8
    """
    from keras_cascade.cli import work
    from keras_cascade.cli.console import show

    result = work.export(
        cascade, data, output, overwrite, quantization, operating_point or [],
        onnx, seed,
    )  # fmt: skip
    show(result, as_json, f"bundle {output}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    data: Data,
    split: Annotated[str, typer.Option(help="test or calibration")] = "test",
    seed: Seed = 0,
    as_json: Json = False,
):
    """Check a bundle's files, graph, decisions and promises on data.

    Example: keras-cascade verify bundle --data digits
    """
    from keras_cascade.cli.console import show_checks
    from keras_cascade.cli.verifying import verify as run

    result = run(bundle, data, split, seed)
    show_checks(result, as_json, f"{bundle}, on the {split} split of {data}")
    if not result["passed"]:
        raise typer.Exit(1)


def bench(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    data: Data,
    batch: Annotated[
        list[int] | None, typer.Option(min=1, help="rows [default: 1, 32]")
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="of the student's interpreter [default: 1]"),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="timed passes")] = 200,
    seed: Seed = 0,
    as_json: Json = False,
):
    """Measure size, latency and memory of a bundle's parts on this machine.

    Example: keras-cascade bench bundle --data digits --batch 1 --threads 2
    """
    from keras_cascade.cli.benching import bench as run
    from keras_cascade.cli.console import show_bench

    result = run(bundle, data, batch or [1, 32], threads or [1], runs, seed)
    show_bench(result, as_json)


def predict(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    input: Annotated[
        Path | None,
        typer.Option(help="an image, or a .npy file with a batch"),
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="a text; may be given again")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="'local', a path, or a URL: http(s)://HOST/v1/models/NAME, "
            "http(s)://HOST/v2/models/NAME, grpc(s)://HOST:PORT/NAME, or "
            "http(s)://HOST:PORT, which is asked what it speaks",
        ),
    ] = None,
    on_failure: Annotated[
        str,
        typer.Option(help="answer, abstain or raise without the teacher"),
    ] = "raise",
    operating_point: Annotated[
        str | None,
        typer.Option(help="one of the bundle's [default: its first]"),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="a token for the teacher at a URL")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(help="certificates to trust for the URL, PEM"),
    ] = None,
    as_json: Json = False,
):
    """Answer inputs with an exported bundle.

    Example: keras-cascade predict bundle --input digit.png --teacher local
    """
    from keras_cascade.cli.console import show_prediction
    from keras_cascade.cli.predicting import predict_input

    prediction = predict_input(
        bundle, input, text, teacher, on_failure, operating_point, token_file,
        ca_file,
    )  # fmt: skip
    show_prediction(prediction, as_json)

"""Commands on a bundle: `verify`, `sign`, `bench`, `predict`, `serve`.

Signatures and help texts only. Heavy imports stay inside the functions, so
that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from keras_cascade.cli.data_options import DataOptions, with_data_options
from keras_cascade.cli.options import STARTING, Bundle, Data, Json, Seed

Port = Annotated[
    int,
    typer.Option(min=0, max=65535, help="0: any free one", metavar="PORT"),
]


PublicKey = Annotated[
    Path | None,
    typer.Option(help="the bundle must be signed for it", metavar="FILE"),
]


@with_data_options
def verify(
    bundle: Bundle,
    data: Annotated[
        str | None,
        typer.Option(
            help="of `calibrate`; without it files alone are checked",
            metavar="SPEC",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="test or calibration",
            metavar="NAME",
            show_default="test; calibration with --refit",
        ),
    ] = None,
    seed: Seed = 0,
    public_key: PublicKey = None,
    sha256: Annotated[
        str | None, typer.Option(help="of manifest.json", metavar="HEX")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="count flips in it: interpreter, compiled, litertjs, "
            "onnxruntime or tflite-micro",
            metavar="NAME",
        ),
    ] = None,
    accelerator: Annotated[
        str, typer.Option(help="of compiled: cpu, gpu or npu", metavar="NAME")
    ] = "cpu",
    refit: Annotated[
        str | None,
        typer.Option(
            help="write an operating point fitted on --runtime",
            metavar="NAME",
        ),
    ] = None,
    as_json: Json = False,
    *,
    data_options: DataOptions,
):
    """Check a bundle's files, graph, decisions and guarantees on data.

    \b
    Example:
      keras-cascade verify bundle --data digits
    """
    from keras_cascade.cli.bundle_signing import check_files
    from keras_cascade.cli.console import show_checks, spinner

    if (runtime is None or data is None) and refit is not None:
        raise ValueError("Expected --data and --runtime with --refit.")
    if runtime is not None and data is None:
        raise ValueError("Expected --data with --runtime. Received none.")
    split = split or ("test" if refit is None else "calibration")
    opened, result = check_files(bundle, sha256, public_key)
    title = str(bundle)
    if data is not None:
        with spinner(STARTING):
            from keras_cascade.cli import saved_bundle
        with spinner(f"Running the bundle on the {split} split"):
            measured = saved_bundle.verify(
                opened,
                data,
                split,
                seed,
                data_options,
                runtime,
                accelerator,
                refit,
            )
        # Its first check is that of the files, which is done.
        checks = result["checks"] + measured["checks"][1:]
        result |= {**measured, "checks": checks}
        part = f"the {split} split"
        if "task" in opened.manifest:
            part = "all rows"
        title = f"{bundle}, on {part} of {data}"
    show_checks(result, as_json, title)
    if not result["passed"]:
        raise typer.Exit(1)


def sign(
    bundle: Annotated[
        Path | None, typer.Argument(hidden=True, metavar="BUNDLE")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="Ed25519 private key, PEM", metavar="FILE"),
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option(
            help="make one here, and its public key in FILE.pub",
            metavar="FILE",
        ),
    ] = None,
    as_json: Json = False,
):
    """Sign a bundle, or make a key to sign with.

    \b
    Example:
      keras-cascade sign bundle --new-key release.pem
    """
    from keras_cascade.cli.bundle_signing import sign_or_make_key
    from keras_cascade.cli.console import show_signature

    show_signature(sign_or_make_key(bundle, key, new_key), as_json)


@with_data_options
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
    *,
    data_options: DataOptions,
):
    """Measure size, latency and memory of a bundle's parts here.

    \b
    Example:
      keras-cascade bench bundle --data digits --batch 1 --threads 2
    """
    from keras_cascade.cli.console import show_bench, spinner, stderr_console

    with spinner(STARTING):
        from keras_cascade.cli import saved_bundle
    # No spinner: it would be timed as well.
    stderr_console().print("Timing the bundle's parts ...")
    result = saved_bundle.bench(
        bundle,
        data,
        batch or [1, 32],
        threads or [1],
        runs,
        seed,
        data_options,
    )
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
    from keras_cascade.cli.console import show_prediction, spinner
    from keras_cascade.cli.prediction import predict_input

    with spinner("Answering"):
        prediction = predict_input(
            bundle, input, text, teacher, on_failure, operating_point,
            token_file, ca_file,
        )  # fmt: skip
    show_prediction(prediction, as_json)


def serve(
    bundle: Bundle,
    host: Annotated[
        str, typer.Option(help="address to listen on", metavar="HOST")
    ] = "127.0.0.1",
    port: Port = 8501,
    grpc_port: Port = 8001,
    workers: Annotated[
        # Hidden: any other number is refused, with the reason.
        int, typer.Option(hidden=True, metavar="N")
    ] = 1,
    max_batch: Annotated[
        int,
        typer.Option(min=1, help="rows in a run, or a request", metavar="N"),
    ] = 256,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            min=0,
            max=60_000,
            help="a lone request waits",
            metavar="MS",
        ),
    ] = 0.0,
    max_wait: Annotated[
        float,
        typer.Option(
            min=0.001,
            help="longest wait in the queue",
            metavar="SECONDS",
        ),
    ] = 5.0,
    max_request_mb: Annotated[
        float,
        # Hidden, as the help must fit a screen: docs/serving.md describes it.
        typer.Option(min=0.001, hidden=True, metavar="MIB"),
    ] = 64.0,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="one token a line; requests must carry one", metavar="FILE"
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(help="certificate with its chain, PEM", metavar="FILE"),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="its key, PEM", metavar="FILE")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(help="serve clients that it signed only", metavar="FILE"),
    ] = None,
    max_per_client: Annotated[
        # Hidden, as the help must fit a screen: docs/serving.md describes it.
        int | None, typer.Option(min=1, hidden=True, metavar="N")
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="web pages of it may ask; repeatable; *: any; none",
            metavar="ORIGIN",
            show_default=False,
        ),
    ] = None,
    web: Annotated[
        bool,
        typer.Option("--web", help="a page at /web/ that runs the bundle"),
    ] = False,
    exit_with_stdin: Annotated[
        bool,
        # For programs that start a server, as `ServerProcess` does.
        typer.Option("--exit-with-stdin", hidden=True),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(hidden=True, metavar="FILE"),
    ] = None,
    public_key: PublicKey = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="in Python, of a bundle that holds none", metavar="MODULE:NAME"
        ),
    ] = None,
    allow_file_operations: Annotated[
        bool,
        # Hidden: the error that asks for it names it.
        typer.Option("--allow-file-operations", hidden=True),
    ] = False,
):
    """Serve a bundle's teacher over HTTP and gRPC until Ctrl-C.

    \b
    Example:
      keras-cascade serve saved_models/fashion_mnist --port 8501
    """
    from keras_cascade import serving
    from keras_cascade.cli.teacher_object import teacher_object

    serving.serve(
        bundle,
        host=host,
        port=port,
        grpc_port=grpc_port,
        workers=workers,
        max_batch=max_batch,
        max_delay_ms=max_delay_ms,
        max_wait=max_wait,
        max_request_mb=max_request_mb,
        token_file=token_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        max_connections_per_client=max_per_client,
        exit_with_stdin=exit_with_stdin,
        ready_file=ready_file,
        public_key=public_key,
        allow_file_operations=allow_file_operations,
        cors_origins=() if cors_origin == ["none"] else cors_origin,
        web=web,
        teacher=None if teacher is None else teacher_object(teacher),
    )

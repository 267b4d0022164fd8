"""The command that serves a teacher."""

from pathlib import Path
from typing import Annotated

import typer

from keras_cascade.cli.options import Bundle

Port = Annotated[
    int,
    typer.Option(min=0, max=65535, help="0: any free one", metavar="PORT"),
]


def serve(
    bundle: Bundle,
    host: Annotated[
        str, typer.Option(help="address to listen on", metavar="HOST")
    ] = "127.0.0.1",
    port: Port = 8501,
    grpc_port: Port = 8001,
    workers: Annotated[
        int, typer.Option(help="1: the teacher uses every core", metavar="N")
    ] = 1,
    max_batch: Annotated[
        int,
        typer.Option(
            min=1, help="rows in a run, and in a request", metavar="N"
        ),
    ] = 256,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            min=0,
            max=60_000,
            help="a lone request waits so long",
            metavar="MS",
        ),
    ] = 0.0,
    max_request_mb: Annotated[
        float,
        typer.Option(min=0.001, help="of the largest request", metavar="MIB"),
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
    exit_with_stdin: Annotated[
        bool,
        typer.Option("--exit-with-stdin", help="stop when standard input ends"),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(
            help="write the teacher's URLs here once it answers",
            metavar="FILE",
        ),
    ] = None,
):
    """Serve a bundle's teacher over HTTP and gRPC until Ctrl-C.

    \b
    Example:
      keras-cascade serve saved_models/fashion_mnist --port 8501
    """
    from keras_cascade.serving.server import serve as run

    run(
        bundle,
        host=host,
        port=port,
        grpc_port=grpc_port,
        workers=workers,
        max_batch=max_batch,
        max_delay_ms=max_delay_ms,
        max_request_mb=max_request_mb,
        token_file=token_file,
        tls_cert=tls_cert,
        tls_key=tls_key,
        exit_with_stdin=exit_with_stdin,
        ready_file=ready_file,
    )

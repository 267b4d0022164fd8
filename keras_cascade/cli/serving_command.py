"""The command that serves a teacher."""

from pathlib import Path
from typing import Annotated

import typer

Port = Annotated[int, typer.Option(min=0, max=65535, help="0: any free one")]


def serve(
    bundle: Annotated[Path, typer.Argument(help="folder of a bundle")],
    host: Annotated[
        str, typer.Option(help="address to listen on")
    ] = "127.0.0.1",
    port: Port = 8501,
    grpc_port: Port = 8001,
    workers: Annotated[
        int, typer.Option(help="1: a run of the teacher uses every core")
    ] = 1,
    max_batch: Annotated[
        int, typer.Option(min=1, help="rows in one run, and in one request")
    ] = 256,
    max_delay_ms: Annotated[
        float,
        typer.Option(
            min=0, max=60_000, help="how long a lone request waits for others"
        ),
    ] = 0.0,
    max_request_mb: Annotated[
        float, typer.Option(min=0.001, help="MiB of the largest request")
    ] = 64.0,
    token_file: Annotated[
        Path | None,
        typer.Option(help="one token a line; requests must carry one"),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="certificate with its chain, PEM")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="its key, PEM")] = None,
    exit_with_stdin: Annotated[
        bool,
        typer.Option("--exit-with-stdin", help="stop when standard input ends"),
    ] = False,
    ready_file: Annotated[
        Path | None,
        typer.Option(help="write the teacher's URLs here once it answers"),
    ] = None,
):
    """Serve a bundle's teacher over HTTP and gRPC until SIGTERM or Ctrl-C.

    Example: keras-cascade serve bundle --port 8501 --grpc-port 8001
    --max-delay-ms 2 --token-file tokens.txt
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

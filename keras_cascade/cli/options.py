"""Arguments and options shared by several commands."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Option(
        help="digits, fashion_mnist, tfds:NAME, dir:PATH, npz:PATH, csv:PATH "
        "or parquet:PATH; options of reading: docs/data.md",
        metavar="SPEC",
    ),
]
Cascade = Annotated[Path, typer.Argument(hidden=True, metavar="CASCADE")]
Bundle = Annotated[Path, typer.Argument(hidden=True, metavar="BUNDLE")]
Json = Annotated[bool, typer.Option("--json", help="print JSON to stdout")]
Policy = Annotated[
    str,
    typer.Option(help="policy: standard or margin", metavar="NAME"),
]
Seed = Annotated[int, typer.Option(help="of splits and weights", metavar="N")]

#: Shown while a command imports TensorFlow.
STARTING = "Starting TensorFlow"

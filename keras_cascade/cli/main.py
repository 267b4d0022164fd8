"""Entry point: one app, one way for every error to reach the user."""

import os
import sys
import traceback

import typer

from keras_cascade.cli import commands
from keras_cascade.cli.native_output import NativeOutput

DEBUG = "KERAS_CASCADE_DEBUG"

app = typer.Typer(
    name="keras-cascade",
    help=(
        "A small model on the device, a large one in the cloud, and a gate "
        "that knows when to ask.\n\nStart with: keras-cascade demo"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
commands.register(app)


def main():
    """Runs the command line; the exit status is 0, 1 or 2.

    0: the work is done. 1: it failed, and one sentence says why. 2: the
    command was used wrongly.
    """
    native_output = NativeOutput()
    native_output.hide()
    try:
        app()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            native_output.replay()
            traceback.print_exc()
        else:
            print(f"Error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)


def _one_line(error):
    text = " ".join(str(error).split())
    known = type(error).__module__.startswith(("builtins", "keras_cascade"))
    if known and isinstance(
        error, (ValueError, OSError, RuntimeError, ImportError)
    ):
        return text
    return (
        f"{type(error).__name__}: {text[:500]} (set {DEBUG}=1 to see where it "
        "comes from)"
    )

"""Entry point `keras-cascade`: the Typer app and its error handling."""

import os
import re
import signal
import sys
import traceback
import warnings
from typing import Annotated

import typer

from keras_cascade.cli import bundle_commands, cascade_commands
from keras_cascade.utils import progress
from keras_cascade.utils.native_output import NativeOutput
from keras_cascade.version import __version__

DEBUG = "KERAS_CASCADE_DEBUG"
INTERRUPTED = 130
#: Arguments in messages, and the options that set them.
OPTIONS = {
    "color=": "--color",
    "float_layers": "--float-layer",
    "label_column=": "--label-column",
    "overwrite=True": "--overwrite",
    "scale=": "--scale",
    "skip_damaged=True": "--skip-damaged",
    "text_column=": "--text-column",
}
IN_PIPELINE = re.compile(r"ValueError: (.*?)\nTraceback", re.DOTALL)

app = typer.Typer(
    name="keras-cascade",
    help=(
        "A small model on the device, a large one in the cloud, a gate between."
        "\n\n\b\nExample:\n  keras-cascade demo"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Rich's boxes make help twice as long as a screen.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool):
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="print the version",
            is_eager=True,
            callback=_show_version,
        ),
    ] = False,
):
    """Options of the program itself."""


for command in (
    cascade_commands.demo,
    cascade_commands.train,
    cascade_commands.calibrate,
    cascade_commands.evaluate,
    cascade_commands.report,
    cascade_commands.export,
    bundle_commands.verify,
    bundle_commands.sign,
    bundle_commands.bench,
    bundle_commands.predict,
    bundle_commands.serve,
):
    app.command()(command)


def main():
    """Runs the command line and exits.

    Exit status 0: success; 1: an error, printed in one line; 2: wrong usage;
    130 or 143: interrupted by SIGINT or SIGTERM.
    """
    native_output = NativeOutput()
    native_output.hide()
    native_output.show_after_abort()
    progress.disable()  # the commands have spinners
    warnings.formatwarning = _warning_line
    # An exception, so that `with` blocks clean up: a server, part files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        status = run(sys.argv[1:])
        if status == INTERRUPTED:  # Typer catches Ctrl-C and prints nothing
            raise KeyboardInterrupt
        sys.exit(status)
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            sys.stderr.write(native_output.read())
            traceback.print_exc()
        else:
            print(f"Error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)
    finally:
        native_output.ended()


def run(arguments):
    """Runs one command in this process.

    Args:
        arguments: list of str, without the program's name.

    Returns:
        int, the exit status.

    Raises:
        Exception: any error but wrong usage.
    """
    command = typer.main.get_command(app)
    try:
        status = command.main(
            arguments, prog_name="keras-cascade", standalone_mode=False
        )
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        # Wrong usage, by its attributes, as Typer may bring its own Click.
        if not (hasattr(error, "show") and hasattr(error, "exit_code")):
            raise
        error.show()
        return error.exit_code
    return status if isinstance(status, int) else 0


def _one_line(error):
    text = _in_options(" ".join(str(error).split()))
    known = isinstance(error, (ValueError, OSError, RuntimeError, ImportError))
    ours = type(error).__module__.startswith(("builtins", "keras_cascade"))
    if known and ours and text:
        return text
    # An error of a reader inside a `tf.data` pipeline: its own message.
    inner = IN_PIPELINE.search(str(error))
    if inner is not None:
        return _in_options(" ".join(inner[1].split()))
    return (
        f"{type(error).__name__}: {text[:500]} (set {DEBUG}=1 to see where it "
        "comes from)"
    )


def _warning_line(message, category, filename, lineno, line=None):
    """A warning as one line, without file and line number."""
    return f"Warning: {_in_options(' '.join(str(message).split()))}\n"


def _in_options(text):
    """A message with the names of the command line's options."""
    for argument, option in OPTIONS.items():
        text = text.replace(f"`{argument}`", option)
    return text

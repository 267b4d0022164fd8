"""Runs every `keras-cascade` command that help and documents show."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.command_line import COMMANDS
from tests.helpers.documents import DOCUMENTS, ROOT, blocks, commands

SCREEN = (80, 24)


def keras_cascade(arguments, folder, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "keras_cascade.cli", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": str(SCREEN[0])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(arguments, folder):
    """Output of a command that must succeed."""
    process = keras_cascade(arguments, folder)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (arguments, out, err)
    return out


@pytest.fixture(scope="module")
def help_texts(tmp_path_factory):
    """Dict of command to its help; `""` is the program's own."""
    folder = tmp_path_factory.mktemp("help")
    return {
        command: finished([*command.split(), "--help"], folder)
        for command in ("", *COMMANDS)
    }


def test_help_fits_a_screen(help_texts):
    columns, lines = SCREEN
    for command, text in help_texts.items():
        shown = text.rstrip("\n").splitlines()
        assert len(shown) < lines, command  # one line is the prompt's
        assert max(map(len, shown)) <= columns, command


def test_every_help_shows_an_example(help_texts):
    for command, text in help_texts.items():
        examples = commands(text.split("Example:")[1])
        assert len(examples) == 1
        assert examples[0][0] == (command or "demo")


def test_every_command_that_is_shown_works(help_texts, tmp_path):
    """One after another, in one folder, as a reader types them."""
    for name in ("saved_models", "tutorials"):
        (tmp_path / name).symlink_to(ROOT / name)
    shown = [
        command
        for document in DOCUMENTS
        for block in blocks(document, "bash")
        for command in commands(block)
    ]
    shown += [one for text in help_texts.values() for one in commands(text)]
    written = set()
    for arguments in shown:
        if tuple(arguments) in written:
            continue
        written.add(tuple(arguments))
        if arguments[0] == "serve":
            check_serving(arguments, tmp_path)
        else:
            finished(arguments, tmp_path)
    assert {command for command, *_ in written} == set(COMMANDS)


def check_serving(arguments, folder):
    """Starts a server, on free ports, and stops it once it answers."""
    import httpx

    free = ["--port", "0", "--grpc-port", "0"]
    server = keras_cascade([*arguments, *free], folder)
    try:
        log = map(json.loads, iter(server.stderr.readline, ""))
        serving = next(line for line in log if line["event"] == "serving")
        assert httpx.get(serving["http"]).status_code == 200
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0

"""Processes of the package's own programs."""

import os
import subprocess
import sys
import textwrap

import pytest

from keras_cascade.errors import ExportError
from keras_cascade.utils.child_process import (
    end_child,
    how_it_ended,
    last_lines,
    start_child,
)


@pytest.fixture
def program(tmp_path):
    """A function that writes a program."""

    def write(code):
        file = tmp_path / "program.py"
        head = "from keras_cascade.utils import child_process\n"
        file.write_text(head + textwrap.dedent(code), "utf-8")
        return file

    return write


ECHO = """
    import os, sys
    lines = child_process.requests_of_parent()
    print(*sys.argv[1:], os.environ["KERAS_BACKEND"], flush=True)
    while True:
        os.write(1, lines.get() + b"\\n")
"""


def test_lines_to_and_fro(program):
    process = start_child(program(ECHO), ["a b", "ä"], stdout=subprocess.PIPE)
    assert process.stdout.readline().decode() == "a b ä tensorflow\n"
    process.stdin.write(b"one\ntwo\nth")
    assert process.stdout.readline() + process.stdout.readline() == (
        b"one\ntwo\n"
    )
    process.stdin.write(b"ree\n")
    assert process.stdout.readline() == b"three\n"
    assert end_child(process) < 0


def test_a_closed_pipe_ends_the_child(program):
    process = start_child(program(ECHO), stdout=subprocess.PIPE)
    process.stdin.close()
    assert process.wait() == 1
    end_child(process)


def test_modules_of_the_current_folder_are_not_in_the_way(
    program, tmp_path, monkeypatch
):
    for module in ("json", "runpy", "os"):
        (tmp_path / f"{module}.py").write_text("raise ValueError", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    process = start_child(program(ECHO), stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"tensorflow\n"
    end_child(process)


def test_imports_are_found_where_the_parent_finds_them(
    program, tmp_path, monkeypatch
):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "only_here.py").write_text("WORD = 'found'")
    monkeypatch.syspath_prepend(tmp_path / "modules")
    process = start_child(
        program("import only_here; print(only_here.WORD)"),
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"found\n"
    end_child(process)


def test_the_end_of_its_log(program, tmp_path):
    with (tmp_path / "log").open("w+b") as log:
        process = start_child(
            program("for n in range(99): print(n)"), stdout=log, stderr=log
        )
        assert process.wait() == 0
        assert last_lines(log).split() == [str(n) for n in range(84, 99)]
    end_child(process)


@pytest.mark.parametrize(
    "status, text",
    [
        (1, "ended with exit status 1"),
        (-6, "was ended by signal SIGABRT"),
        (-9, "was ended by signal SIGKILL, as the system does when memory "),
        (-63, "was ended by signal 63"),
    ],
)
def test_how_it_ended(status, text):
    assert how_it_ended(status).startswith(text)


def test_no_interpreter_and_no_process(program, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "")
        with pytest.raises(ExportError, match=r"in `sys\.executable`"):
            start_child(program(ECHO))
    monkeypatch.setattr(sys, "executable", os.fspath(program("")) + "none")
    with pytest.raises(ExportError, match="none can be started"):
        start_child(program(ECHO))

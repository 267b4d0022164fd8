"""Long waits say something, to people only; short ones say nothing."""

import itertools
import types

import pytest

from keras_cascade.utils import progress


@pytest.fixture
def people(monkeypatch):
    """Somebody looks at standard output."""
    monkeypatch.setattr(progress, "_state", {"enabled": True})
    terminal = types.SimpleNamespace(isatty=lambda: True)
    seen = types.SimpleNamespace(stdout=terminal, modules={})
    monkeypatch.setattr(progress, "sys", seen)


def through(monkeypatch, seconds_each):
    """Counts ten batches of 3 rows that take so long each."""
    clock = itertools.count(0, seconds_each)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    batches = [[0, 0, 0]] * 10
    assert list(progress.counted(batches, "Asking", len)) == batches


def test_a_long_wait_says_how_far_it_is(people, monkeypatch, capsys):
    through(monkeypatch, 2)
    # Ten batches end after 2, 4, ... 20 s: it speaks at the first that is 5 s
    # or more after the last word, that is at 6, 12 and 18 s.
    said = capsys.readouterr().out
    assert said == (
        "\rAsking: 9 examples in 6 s\rAsking: 18 examples in 12 s"
        "\rAsking: 27 examples in 18 s\n"
    )


def test_a_short_one_says_nothing(people, monkeypatch, capsys):
    through(monkeypatch, 0.4)
    assert capsys.readouterr().out == ""


def test_nobody_looks(monkeypatch, capsys):
    through(monkeypatch, 2)
    progress.tell("Training")
    assert capsys.readouterr().out == ""


def test_the_command_line_tells_of_progress_itself(people, monkeypatch, capsys):
    progress.disable()
    through(monkeypatch, 2)
    progress.tell("Training")
    assert capsys.readouterr().out == ""


def test_a_line_for_people(people, capsys):
    progress.tell("Training")
    assert capsys.readouterr().out == "Training\n"

"""The project's words, and the first lines of its docstrings."""

import pytest

from tests.helpers import words


def listed(findings):
    return "\n".join(map(str, findings))


def test_no_retired_word_is_left():
    findings = words.retired_words()
    assert not findings, f"\n{listed(findings)}"


def test_every_exception_is_needed():
    assert not words.unused_exceptions()


def test_first_lines_of_docstrings_are_sentences():
    findings = words.poor_first_lines()
    assert not findings, f"\n{listed(findings)}"


@pytest.mark.parametrize(
    "text, line",
    [
        ("a promise", 1),
        ("\nclass OutOfScope:", 2),
        ("self._settle(rows)", 1),
        ("of out of\nscope texts", 1),
        ("stand_ins = 3", 1),
        ("model.ship(folder)", 1),
        ("the kept_set", 1),
    ],
)
def test_a_retired_word_is_found(tmp_path, monkeypatch, text, line):
    (tmp_path / "page.md").write_text(text, "utf-8")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    (finding,) = words.retired_words(["*.md"])
    assert (finding.path, finding.line) == ("page.md", line)


@pytest.mark.parametrize(
    "text",
    [
        "A guarantee: files that ship, standing in a row, unpromised? No.",
        "cascade.judge(data)",
        "the task asked for it, and a cashier",
        "DeferralCurve.from_results(results)",
    ],
)
def test_other_words_are_not(tmp_path, monkeypatch, text):
    (tmp_path / "page.md").write_text(text, "utf-8")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    assert not words.retired_words(["*.md"])


@pytest.mark.parametrize(
    "docstring, count",
    [
        ("Returns the rows.", 0),
        ("Whichever row comes first.", 0),
        ("Returns the rows", 1),
        ("Whether a row is held.", 1),
        ("What it is", 2),
    ],
)
def test_first_lines(tmp_path, monkeypatch, docstring, count):
    code = f'class Rows:\n    def one(self):\n        """{docstring}"""\n'
    (tmp_path / "rows.py").write_text(code, "utf-8")
    monkeypatch.setattr(words, "ROOT", tmp_path)
    findings = words.poor_first_lines(["*.py"])
    assert len(findings) == count
    assert {finding.line for finding in findings} <= {3}

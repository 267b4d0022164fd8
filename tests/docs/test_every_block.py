"""No code block of the README or of `docs/` that no test runs."""

import re

import pytest

from tests.helpers.documents import DOCUMENTS, ROOT, blocks, commands, languages

#: Documents whose Python needs nothing from a test.
ALONE = (
    "docs/concepts.md",
    "docs/data.md",
    "docs/quantization.md",
    "docs/tasks.md",
    "docs/teachers.md",
    "docs/troubleshooting.md",
    "docs/tuning.md",
)
#: Which test runs the rest.
ELSEWHERE = {
    "README.md": "tests/test_readme.py",
    "docs/browser.md": "tests/browser/test_web_docs.py",
    "docs/bundle.md": "tests/docs/test_bundle.py",
    "docs/failures.md": "tests/docs/test_failures.py",
    "docs/queue.md": "tests/docs/test_queue.py",
    "docs/runtimes.md": "tests/docs/test_runtimes.py",
    "docs/signing.md": "tests/docs/test_signing.py",
    "docs/text.md": "tests/text/test_docs.py",
    "docs/wire.md": "tests/docs/test_wire.py",
}


@pytest.mark.parametrize("document", ALONE)
def test_python_that_stands_alone(document, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(document, "python"):
        exec(compile(block, document, "exec"), names)
    assert names
    # What the examples are there to show.
    printed = capsys.readouterr().out
    shown = {
        "docs/concepts.md": "Guaranteed",
        "docs/data.md": "'train': 899",
        "docs/quantization.md": "asked for",
        "docs/tasks.md": "share of answers that are 2 or more off True",
        "docs/teachers.md": "costs in teacher calls",
        "docs/troubleshooting.md": "linear",
        "docs/tuning.md": "distillation T=2",
    }
    assert shown[document] in printed


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_block_is_run_somewhere(document):
    code = [one for one in languages(document) if one != "bash"]
    if code and document not in ALONE:
        assert (ROOT / ELSEWHERE[document]).exists()
    # `tests/cli/test_shown_commands.py` runs what calls `keras-cascade`, and
    # `.ci/run` the two installations.
    for block in blocks(document, "bash"):
        installs = document == "README.md" and "venv" in block
        assert commands(block) or installs, block


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http", "#")):
            path = (ROOT / document).parent / target.split("#")[0]
            assert path.exists(), target

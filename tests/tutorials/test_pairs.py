"""The committed notebooks: what their scripts say, run, without a complaint.

`.ci/run` runs every notebook; here only what is committed is read.
"""

import re

import jupytext
import nbformat
import pytest

from tests.helpers.documents import ROOT

FOLDER = ROOT / "tutorials"
NAMES = sorted(file.stem for file in FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NAMES)
def notebook(request):
    """`(name, notebook)` of a committed notebook."""
    return request.param, nbformat.read(FOLDER / f"{request.param}.ipynb", 4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_script_has_its_notebook():
    scripts = sorted(file.stem for file in FOLDER.glob("[0-9]*.py"))
    assert scripts == NAMES
    assert [int(name[:2]) for name in NAMES] == list(range(1, 12))


def test_the_notebook_is_its_script(notebook):
    name, notebook = notebook
    script = jupytext.read(FOLDER / f"{name}.py")
    assert [(cell.cell_type, cell.source) for cell in script.cells] == [
        (cell.cell_type, cell.source) for cell in notebook.cells
    ], f"run `python tutorials/execute.py {name}`"


def test_it_was_run_from_a_clean_kernel_to_its_end(notebook):
    _, notebook = notebook
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    last = code(notebook)[-1].outputs
    assert any("image/png" in one.get("data", {}) for one in last)


def test_it_complains_of_nothing_and_names_no_machine(notebook):
    _, notebook = notebook
    for cell in code(notebook):
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            shown = output.get("text") or output.get("data", {}).get(
                "text/plain", ""
            )
            assert not re.search(r"(^|[\s'\"(])/\w+/", shown), shown


def test_its_links_lead_somewhere(notebook):
    name, notebook = notebook
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)]+)\)", cell.source):
                if not target.startswith("http"):
                    path = FOLDER / target.split("#")[0]
                    assert path.exists(), (name, target)


def test_the_index_lists_each():
    index = (FOLDER / "README.md").read_text("utf-8")
    listed = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", index)
    assert listed == NAMES

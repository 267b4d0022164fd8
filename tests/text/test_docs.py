"""The Python in `docs/text.md` and the README's lines on texts run."""

import re
from pathlib import Path

import numpy as np

from tests.text.conftest import make_texts

DOCS = Path(__file__).parents[2] / "docs" / "text.md"


def test_the_python_blocks(tmp_path, monkeypatch, vectorized):
    monkeypatch.chdir(tmp_path)
    names = {"teacher": vectorized()}
    names["texts"], names["labels"] = make_texts(240, 0)
    names["held_out"], names["held_out_labels"] = make_texts(120, 1)
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz ")
    names["foreign_texts"] = [
        "x" + "".join(rng.choice(letters, 30)) for _ in range(60)
    ]
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, DOCS.name, "exec"), names)
    assert len(names["prediction"]) == 2
    assert 0.5 < names["found"].auroc <= 1

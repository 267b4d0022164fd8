"""The Python in `docs/text.md` and the README's lines on texts run."""

import numpy as np

from tests.helpers.documents import blocks
from tests.helpers.texts import make_texts


def test_the_python_blocks(tmp_path, monkeypatch, vectorized):
    monkeypatch.chdir(tmp_path)
    names = {"teacher": vectorized()}
    names["texts"], names["labels"] = make_texts(240, 0)
    names["held_out"], names["held_out_labels"] = make_texts(120, 1)
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz ")
    names["ood_texts"] = [
        "x" + "".join(rng.choice(letters, 30)) for _ in range(60)
    ]
    shown = blocks("docs/text.md", "python")
    assert len(shown) == 3
    for block in shown:
        exec(compile(block, "text.md", "exec"), names)
    assert len(names["prediction"]) == 2
    assert 0.5 < names["detection"].auroc <= 1

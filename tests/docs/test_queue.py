"""Checks the code and the rules of `docs/queue.md`."""

import numpy as np
import pytest

from keras_cascade.runtime import EdgeCascade, TeacherError
from keras_cascade.runtime.queueing.queue_sender import TRIES
from tests.helpers.away_teacher import AwayTeacher
from tests.helpers.documents import ROOT, blocks, languages, stated_output

DOCUMENT = "docs/queue.md"
TEXT = (ROOT / DOCUMENT).read_text("utf-8")
BUNDLE = ROOT / "saved_models" / "fashion_mnist"
IMAGES = np.random.default_rng(0).random((50, 28, 28, 1), "float32")


def test_the_python_block(tmp_path, monkeypatch, capsys):
    assert set(languages(DOCUMENT)) == {"python"}
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(DOCUMENT, "python")
    exec(compile(code, DOCUMENT, "exec"), {})
    assert capsys.readouterr().out.splitlines() == stated_output(code)


def test_answers_that_fail_validation(tmp_path):
    """To every row: an outage. To one row alone: a dead letter."""
    away = AwayTeacher(TeacherError("away"))
    with EdgeCascade.load(
        BUNDLE,
        away,
        on_failure="queue",
        queue=tmp_path / "queue",
        failures_to_open=1_000,
    ) as edge:
        ids = [i for i in edge.predict(IMAGES).ids if i]
        away.answer = np.full(10, np.nan)
        for _ in range(2 * TRIES):
            with pytest.raises(TeacherError, match="NaN"):
                edge.send_queued()
        assert sorted(edge.queue.waiting()) == sorted(ids)
        assert edge.dead_letters() == []

        worst = edge.queue.read(ids[:1])[0].inputs["input"]

        def one_nan(inputs):
            same = (inputs["input"] == worst).all(axis=(1, 2, 3))
            return np.where(same[:, None], np.nan, np.zeros(10, "float32"))

        edge.teacher.logits = one_nan
        for number in range(1, TRIES + 1):
            assert edge.dead_letters() == []
            sent = edge.send_queued()
            assert sent == (len(ids) - 1 if number == 1 else 0)
        assert [one.reason for one in edge.dead_letters()] == ["failed"]
    assert f"after {TRIES} counted tries" in TEXT

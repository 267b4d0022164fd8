"""Checks the code, figures and tables of `docs/failures.md`."""

import inspect
import json
import re

import numpy as np
import pytest

from keras_cascade.runtime import (
    EdgeCascade,
    TeacherError,
    TeacherLog,
    TeacherQueue,
)
from keras_cascade.runtime.teachers import (
    grpc_teacher,
    http_teacher,
    teacher_caller,
)
from tests.helpers.away_teacher import AwayTeacher
from tests.helpers.documents import ROOT, blocks, languages, rows, stated_output

DOCUMENT = "docs/failures.md"
TEXT = (ROOT / DOCUMENT).read_text("utf-8")
BUNDLE = ROOT / "saved_models" / "fashion_mnist"
FIGURES = json.loads((ROOT / "docs/benchmarks/faults.json").read_text("utf-8"))
IMAGES = np.random.default_rng(0).random((50, 28, 28, 1), "float32")


def test_the_python_blocks(tmp_path, monkeypatch, capsys):
    assert set(languages(DOCUMENT)) == {"python"}
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    monkeypatch.chdir(tmp_path)
    code = blocks(DOCUMENT, "python")
    names = {}
    for block in code:
        exec(compile(block, DOCUMENT, "exec"), names)
    expected = [line for block in code for line in stated_output(block)]
    assert capsys.readouterr().out.splitlines() == expected


def test_the_table_of_policies(tmp_path):
    """Each policy of the table, on a teacher that is away."""
    with EdgeCascade.load(BUNDLE) as edge:
        alone = edge.predict_alone(IMAGES)
    listed = rows(
        DOCUMENT, ("`on_failure`", "`source` of such a row", "its label")
    )
    seen = []
    for policy, source, label in listed:
        seen.append(re.match(r'`"(\w+)"`', policy).group(1))
        with EdgeCascade.load(
            BUNDLE,
            AwayTeacher(TeacherError("away")),
            on_failure=seen[-1],
            queue=tmp_path / seen[-1],
        ) as edge:
            if seen[-1] == "raise":
                assert source.startswith("none")
                with pytest.raises(TeacherError, match="away"):
                    edge.predict(IMAGES)
                continue
            found = edge.predict(IMAGES)
        sent = found.source != "edge"
        assert 0 < sent.sum() < len(IMAGES)
        assert set(found.source[sent]) == {re.match(r'`"(\w+)"`', source)[1]}
        np.testing.assert_array_equal(
            found.labels[sent], -1 if "`-1`" in label else alone.labels[sent]
        )
        np.testing.assert_array_equal(found.labels[~sent], alone.labels[~sent])
        np.testing.assert_array_equal(found.probabilities, alone.probabilities)
    default = inspect.signature(EdgeCascade.load).parameters["on_failure"]
    assert default.default in listed[0][0]
    assert seen == ["answer", "abstain", "queue", "raise"]


def test_the_table_of_failures():
    """HTTP statuses and gRPC codes, against the clients' errors."""
    statuses, codes = {}, {}
    for what, again, counts in rows(
        DOCUMENT, ("what", "tried again", "counts for the circuit")
    ):
        stated = (again == "yes", counts == "yes")
        assert {again, counts} <= {"yes", "no"}
        http, _, grpc = what.partition("gRPC")
        for found, pattern, text in (
            (statuses, r"\b\d{3}\b", http),
            (codes, r"[A-Z_]{4,}", grpc),
        ):
            for one in re.findall(pattern, text):
                assert found.setdefault(one, stated) is stated  # said once
    for status, stated in statuses.items():
        error = http_teacher._status_error("u", int(status), {}, b"")
        assert (error.retryable, not error.refused) == stated
    assert {int(one) for one in statuses} >= {
        *http_teacher.RETRIED, *http_teacher.ABOUT_INPUT,
    }  # fmt: skip
    no = (*grpc_teacher.REFUSED, *grpc_teacher.ABOUT_INPUT)
    for code, stated in codes.items():
        assert stated == (code in grpc_teacher.RETRIED, code not in no)


@pytest.mark.parametrize("retryable", [True, False])
def test_an_open_circuit(retryable):
    """Five failed attempts in a row open the circuit."""
    away = AwayTeacher(TeacherError("away", retryable=retryable))
    with EdgeCascade.load(BUNDLE, away, retries=0) as edge:
        messages = [edge.predict(IMAGES).teacher_error for _ in range(6)]
    assert messages[:5] == ["away"] * 5
    assert "after 5 failures in a row" in messages[5]


def test_the_defaults_that_are_stated():
    load = inspect.signature(EdgeCascade.load).parameters
    stated = dict(re.findall(r"`(\w+)=([\w.]+)`", TEXT))
    assert stated.keys() == {
        "timeout", "retries", "failures_to_open", "seconds_open",
        "hedge_after",
    }  # fmt: skip
    for name, value in stated.items():
        assert str(load[name].default) == value
    assert teacher_caller.FIRST_WAIT == 0.1
    assert teacher_caller.LONGEST_WAIT == 5
    queue = inspect.signature(TeacherQueue).parameters
    (limits,) = re.findall(r"`queue=(\{.*?\})`", TEXT)
    for name in ("max_rows", "max_bytes"):
        assert f'"{name}": {queue[name].default:_}' in limits
    log = inspect.signature(TeacherLog).parameters
    assert f"`max_rows` ({log['max_rows'].default:,})" in TEXT
    assert f"`max_bytes` ({log['max_bytes'].default >> 20} MiB)" in TEXT


def queueing(teacher, folder, **options):
    """Loads a cascade that queues unanswered rows on disk."""
    return EdgeCascade.load(
        BUNDLE,
        teacher,
        on_failure="queue",
        queue=folder / "queue",
        **options,
    )


def test_late_answers_are_logged_too(tmp_path):
    away = AwayTeacher(TeacherError("away"))
    with queueing(away, tmp_path, log=tmp_path / "log") as edge:
        edge.predict(IMAGES)
        assert len(edge.log) == 0
        away.answer = np.zeros(10, "float32")
        assert edge.send_queued() == len(edge.log) > 0


def test_other_exceptions_come_through():
    away = AwayTeacher(ZeroDivisionError("a bug"))
    with (
        EdgeCascade.load(BUNDLE, away) as edge,
        pytest.raises(ZeroDivisionError, match="a bug"),
    ):
        edge.predict(IMAGES)


def test_the_figures():
    """The sentence on `benchmarks.faults`, number by number."""
    section = TEXT.partition("## Guarantees")[2].partition("##")[0]
    sentence = " ".join(section.partition("nonsense: ")[2].split())
    queued = FIGURES["queued_rows_answered_later"]
    assert queued == FIGURES["rows"]["queued"]
    assert sentence == (
        f"of {FIGURES['requests']:,} requests {FIGURES['lost']} were lost, "
        f"{FIGURES['mislabelled']} rows mislabelled and "
        f"{FIGURES['duplicated']} of {queued:,} queued rows answered twice; "
        f"{FIGURES['crashes']} crashes. The slowest recovery after a fault "
        f"took {FIGURES['recovery_over_interval']:.2f} of the time that the "
        "circuit stays open. Of "
        f"{FIGURES['fork_rows_acknowledged']:,} acknowledged rows "
        f"{FIGURES['fork_rows_lost']} were lost over forks, of "
        f"{FIGURES['cloud_rows']:,} rows {FIGURES['stranger_rows']} were "
        "another bundle's teacher's, and of "
        f"{FIGURES['answers']:,} answers out of step "
        f"{FIGURES['mislabelled_answers']} were taken for another row's."
    )


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150

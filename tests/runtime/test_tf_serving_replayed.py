"""Conversations with TensorFlow Serving, replayed byte for byte.

Each file of `recorded/tf_serving` says under `_about` where it comes from.
The server here answers only when what it is asked is what was recorded.
"""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.runtime import EdgeCascade, RestTeacher, TeacherError
from keras_cascade.runtime.teachers.probe_rows import probe_inputs
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from tests.helpers.socket_servers import raw_server, request_of

RECORDED = Path(__file__).with_name("recorded") / "tf_serving"
ROW = [0.5, -1.25, 2.0, 0.0, 3.5, -0.75]
LOGITS = [1.5, -0.5, 0.25, 3.0]
OTHERS = [[1.0] * 6, [-2.0, 0.25, 0.0, 4.0, -0.5, 8.0]]


def recording(name):
    return json.loads((RECORDED / f"{name}.json").read_text("utf-8"))


class Replay:
    """Answers requests in the recorded order; records differences."""

    def __init__(self, exchanges):
        self.left = exchanges
        self.differences = []

    def __call__(self, connection):
        while self.left:
            head, body = request_of(connection)
            exchange = self.left.pop(0)
            self.compare(exchange["request"], head.decode("ascii"), body)
            connection.sendall("\r\n".join(_raw(exchange["response"])).encode())

    def compare(self, wanted, head, body):
        line, *headers = head.split("\r\n")
        found = dict(header.split(": ", 1) for header in headers)
        found = {name.lower(): value for name, value in found.items()}
        asked = {
            "method": line.split(" ")[0],
            "path": line.split(" ")[1],
            "json": json.loads(body) if body else None,
        }
        if asked != wanted:
            self.differences.append((asked, wanted))
        if body and found.get("content-type") != "application/json":
            self.differences.append(found)


def _raw(lines):
    """Splits a response into the lines of its head, and its body."""
    end = lines.index("")
    return [*lines[: end + 1], "\n".join(lines[end + 1 :])]


@pytest.fixture
def replayed():
    """A context manager: the URL of replayed recordings or exchanges."""

    @contextlib.contextmanager
    def replay(*parts):
        exchanges = []
        for part in parts:
            recorded = isinstance(part, str)
            exchanges += recording(part)["exchanges"] if recorded else [part]
        talk = Replay(exchanges)
        with raw_server(talk) as url:
            yield f"{url}/v1/models/teacher"
        assert talk.differences == []
        assert talk.left == []

    return replay


@pytest.fixture
def asked(replayed):
    """A function that asks a teacher of a recording for logits."""

    def ask(name, *batches, classes=4):
        with (
            replayed(name) as url,
            contextlib.closing(
                RestTeacher(url, classes, timeout=30)
            ) as teacher,
        ):
            return [teacher.logits(inputs) for inputs in batches]

    return ask


def rows(*values):
    return {"input": np.array(values, "float32")}


def test_recordings_are_whole():
    """Each has its source, and lengths that fit its bodies."""
    files = sorted(RECORDED.glob("*.json"))
    assert len(files) == 12
    for file in files:
        content = recording(file.stem)
        assert "not taken from a running server" in content["_about"]
        for exchange in content["exchanges"]:
            *head, body = _raw(exchange["response"])
            assert f"Content-Length: {len(body.encode())}" in head


def test_the_models_status(replayed):
    with replayed("status") as url:
        teacher = RestTeacher(url, 4)
        teacher.check()
        teacher.close()
    with replayed("status_of_no_model") as url:
        teacher = RestTeacher(url, 4)
        with pytest.raises(TeacherError, match=r"404.*any versions of model"):
            teacher.check()
        teacher.close()


def test_one_row_then_several(asked):
    one, several = asked("rows", rows(ROW), rows(ROW, *OTHERS))
    np.testing.assert_array_equal(one, [LOGITS])
    np.testing.assert_array_equal(
        several,
        np.array(
            [LOGITS, [0, 1e-05, -12.75, 2], [7.0, 6.5, 6.0, 5.5]], "float32"
        ),
    )


def test_two_inputs(asked):
    (found,) = asked(
        "two_inputs",
        {
            "image": np.array(
                [[[0, 1], [0.5, 0.25]], [[1, 0], [0.75, 0.125]]], "float32"
            ),
            "age": np.array([[41], [7]], "int64"),
        },
        classes=3,
    )
    np.testing.assert_array_equal(found, [[0.5, 1.5, -1.0], [2.25, -3.0, 0.0]])


def test_of_several_outputs_the_named_one(asked):
    (found,) = asked("two_outputs", rows(ROW))
    np.testing.assert_array_equal(found, [LOGITS])


@pytest.mark.parametrize(
    ("name", "message", "flags"),
    [
        ("rows_refused", "400.*2-dimensional", {"refused", "about_input"}),
        ("no_model", r"404.*Latest\(teacher\).*name in the URL", {"refused"}),
        ("queue_full", "429.*queue", {"retryable"}),
        ("unavailable", "503.*not available", {"retryable"}),
        ("internal", "500.*Failed to run", set()),
        ("not_a_number", "NaN", {"invalid_answer"}),
    ],
)
def test_refusals_and_failures(asked, name, message, flags):
    with pytest.raises(TeacherError, match=message) as caught:
        asked(name, rows(ROW))
    kinds = ("refused", "about_input", "retryable", "invalid_answer")
    assert {kind for kind in kinds if getattr(caught.value, kind)} == flags


@pytest.fixture
def edge_at(with_points):
    """A function that loads a cascade which delegates every row to a URL.

    The recorded teacher is not the bundle's.
    """
    path = with_points(all=1e9)

    def load(url, **options):
        return EdgeCascade.load(
            path,
            teacher=url,
            operating_point="all",
            teacher_identity="off",
            **options,
        )

    return load


def test_a_delegated_row_through_the_cascade(replayed, edge_at):
    with replayed("rows") as url, edge_at(url) as edge:
        found = edge.predict(np.array(ROW, "float32"))
        assert found.source.tolist() == ["cloud"]
        assert found.labels.tolist() == [3]
        # softmax of the recorded logits.
        expected = np.exp(LOGITS) / np.exp(LOGITS).sum()
        np.testing.assert_allclose(found.probabilities[0], expected, 1e-6)
        assert len(edge.predict(np.array([ROW, *OTHERS], "float32"))) == 3


@pytest.mark.parametrize(
    ("policy", "source"),
    [("answer", "edge_fallback"), ("abstain", "abstained")],
)
def test_policies_with_an_absent_teacher(replayed, edge_at, policy, source):
    with (
        replayed("unavailable") as url,
        edge_at(url, on_failure=policy, retries=0) as edge,
    ):
        found = edge.predict(np.array(ROW, "float32"))
    assert found.source.tolist() == [source]
    assert "503" in found.teacher_error


def test_rows_that_are_refused_are_not_asked_again(replayed, edge_at):
    """One exchange was recorded: a second attempt would fail."""
    with (
        replayed("rows_refused") as url,
        edge_at(url, on_failure="raise", retries=5) as edge,
        pytest.raises(TeacherError, match="400"),
    ):
        edge.predict(np.array(ROW, "float32"))


def test_a_teacher_that_comes_back_is_asked_again(replayed, edge_at):
    with (
        replayed("unavailable_then_back") as url,
        edge_at(url, on_failure="raise", retries=1) as edge,
    ):
        assert edge.predict(np.array(ROW, "float32")).labels.tolist() == [3]


def test_a_row_waits_on_disk_until_the_teacher_is_back(
    replayed, edge_at, tmp_path
):
    with (
        replayed("unavailable_then_back") as url,
        edge_at(
            url, on_failure="queue", retries=0, queue=tmp_path / "queue"
        ) as edge,
    ):
        found = edge.predict(np.array(ROW, "float32"))
        assert found.source.tolist() == ["queued"]
        assert edge.send_queued() == 1
        with edge.queued_answers() as answers:
            assert answers.ids == found.ids
            assert answers.labels.tolist() == [3]


#: What the recorded teacher answers to two probe rows.
PROBE_LOGITS = [[2.5, -1.0, 0.125, 7.0], [-0.75, 1e-05, 3.0, 0.5]]


@pytest.fixture
def probed(with_points):
    """A bundle of the recorded teacher, and the exchange about its probes."""
    path = with_points(all=1e9)
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    probes = {
        "rows": 2, "seed": "recorded", "shapes": {"input": [6]},
        "logits": PROBE_LOGITS, "tolerance": 0.01,
    }  # fmt: skip
    manifest["teacher"]["probes"] = probes
    write_manifest(manifest, file)
    inputs = probe_inputs(manifest["input"], "recorded", 2, probes["shapes"])[
        "input"
    ]

    def exchange(logits):
        lines = "], [".join(", ".join(map(str, row)) for row in logits)
        body = f'{{\n    "predictions": [[{lines}]\n    ]\n}}'
        return {
            "request": {
                "method": "POST",
                "path": "/v1/models/teacher:predict",
                "json": {"instances": inputs.tolist()},
            },
            "response": [
                "HTTP/1.1 200 OK",
                "Content-Type: application/json",
                "Date: Wed, 06 Jun 2018 23:20:12 GMT",
                f"Content-Length: {len(body)}",
                "",
                *body.split("\n"),
            ],
        }

    return path, exchange


def test_probes_before_rows_and_the_status_after_them(replayed, probed):
    """The first answer makes known that the server does not say who it is."""
    path, probes = probed
    one, several = recording("rows")["exchanges"]
    with (
        replayed(
            one, "status", probes(PROBE_LOGITS), "status",
            one, "status", several, "status",
        ) as url,
        EdgeCascade.load(
            path, teacher=url, on_failure="raise", operating_point="all"
        ) as edge,
    ):  # fmt: skip
        found = edge.predict(np.array(ROW, "float32"))
        assert found.source.tolist() == ["cloud"]
        assert found.labels.tolist() == [3]
        found = edge.predict(np.array([ROW, *OTHERS], "float32"))
        assert set(found.source) == {"cloud"}


def test_a_check_asks_about_the_probes(replayed, probed):
    path, probes = probed
    with replayed("status", "status", probes(PROBE_LOGITS), "status") as url:
        teacher = open_teacher(url, Bundle.load(path))
        teacher.check()
        teacher.close()


@pytest.mark.parametrize(
    "logits",
    [
        [row[::-1] for row in PROBE_LOGITS],  # the classes in another order
        [[0.1 + one for one in row] for row in PROBE_LOGITS],
        [row[:3] for row in PROBE_LOGITS],
    ],
)
def test_another_recorded_teacher_is_a_stranger(replayed, probed, logits):
    path, probes = probed
    one, _ = recording("rows")["exchanges"]
    with (
        replayed(one, "status", probes(logits)) as url,
        EdgeCascade.load(
            path, teacher=url, on_failure="abstain", operating_point="all"
        ) as edge,
    ):
        found = edge.predict(np.array(ROW, "float32"))
    assert found.source.tolist() == ["abstained"]
    assert "probe rows differ" in found.teacher_error


def test_a_new_version_of_the_recorded_model_is_probed(replayed, probed):
    """Loaded by the server without a new connection."""
    path, probes = probed
    one, _ = recording("rows")["exchanges"]
    (status,) = recording("status")["exchanges"]
    changed = json.loads(json.dumps(status).replace('\\"1\\"', '\\"2\\"'))
    assert changed != status
    other = [row[::-1] for row in PROBE_LOGITS]
    with (
        replayed(
            one, "status", probes(PROBE_LOGITS), "status", one, "status",
            one, changed, changed, probes(other),
        ) as url,
        EdgeCascade.load(
            path, teacher=url, on_failure="abstain", operating_point="all"
        ) as edge,
    ):  # fmt: skip
        sources = [
            edge.predict(np.array(ROW, "float32")).source[0] for _ in range(2)
        ]
    assert sources == ["cloud", "abstained"]

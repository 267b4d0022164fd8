"""Vectors that the code in `deploy/` is tested with, against `EdgeCascade`."""

import contextlib
import http.server
import json
import math
import threading
from unittest import mock

import numpy as np
import pytest

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import parse_manifest
from keras_cascade.errors import TeacherError
from keras_cascade.runtime import EdgeCascade, edge_cascade
from keras_cascade.runtime.inputs import InputValidator
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity
from keras_cascade.runtime.teachers.v2_http_teacher import V2HttpTeacher
from tests.helpers import deploy_vectors

VECTORS = json.loads(deploy_vectors.FILE.read_text("utf-8"))
ROW = np.zeros((1, 2, 2, 1), "float32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle(tmp_path_factory.mktemp("bundle"), VECTORS["manifest"])


def test_the_file_is_what_the_script_writes():
    assert deploy_vectors.FILE.read_text("utf-8") == deploy_vectors.text()


def test_the_manifest_is_one():
    raw = json.dumps(VECTORS["manifest"]).encode()
    assert parse_manifest(raw, "manifest.json") == VECTORS["manifest"]


def test_the_identity_is_that_of_the_bundle(bundle):
    assert bundle.teacher_identity == VECTORS["identity"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda c: c["why"])
def test_python_refuses_what_the_others_refuse(case, tmp_path):
    raw = json.dumps(case["manifest"]).encode()
    (tmp_path / "manifest.json").write_bytes(raw)
    with pytest.raises(BundleError):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("case", VECTORS["decisions"], ids=lambda c: c["name"])
def test_a_decision_is_that_of_edge_cascade(case, bundle, tmp_path):
    student, teacher = case["student"], case["teacher"]
    score = math.nan if student["score"] is None else student["score"]

    class Teacher:
        def logits(self, inputs):
            if "error" in teacher:
                raise TeacherError(teacher["error"])
            return np.array([teacher["logits"]], "float32")

    class Student:
        def run(self, inputs):
            return {
                "probabilities": np.array(
                    [student["probabilities"]], "float32"
                ),
                "score": np.array([score], "float32"),
                "delegate": np.array([student["delegate"]], bool),
            }

        def close(self):
            pass

    policy = case["on_failure"]
    options = {"operating_point": case["operating_point"]}
    if policy == "queue":
        options["queue"] = tmp_path / "queue"
    expected = case["expected"]
    opened = mock.Mock(return_value=(Student(), "cpu"))
    with (
        mock.patch.object(edge_cascade, "open_runtime", opened),
        EdgeCascade(bundle, Teacher(), policy, **options) as edge,
    ):
        if "raises" in expected:
            with pytest.raises(TeacherError, match=expected["raises"]):
                edge.predict(ROW)
            return
        prediction = edge.predict(ROW)
    assert prediction.source[0] == expected["source"]
    assert prediction.labels[0] == expected["label"]
    assert prediction.names[0] == expected["name"]
    assert prediction.teacher_error == expected["error"]
    np.testing.assert_allclose(
        prediction.probabilities[0], expected["probabilities"], atol=1e-6
    )


def test_thresholds_are_those_of_edge_cascade(bundle):
    rules = edge_cascade.delegation_rules(bundle)
    for name, rule in rules.items():
        if rule.threshold is not None:
            assert rule.threshold.tolist() == VECTORS["thresholds"][name]


@pytest.mark.parametrize("case", VECTORS["teachers"], ids=lambda c: c["why"])
def test_identities_of_other_teachers(case, tmp_path):
    raw = json.dumps(case["manifest"]).encode()
    bundle = Bundle(tmp_path, parse_manifest(raw, "manifest.json"))
    assert bundle.teacher_identity == case["identity"]
    url = "http://127.0.0.1:1/v2/models/teacher"
    with contextlib.closing(open_teacher(url, bundle)) as teacher:
        assert teacher._output == case["output"]


@pytest.mark.parametrize("case", VECTORS["rows"], ids=lambda c: c["error"])
def test_a_row_is_refused_as_by_edge_cascade(case, bundle):
    row = np.array(case["row"], "float32")[None]
    if row.size == 4:
        row = row.reshape(ROW.shape)
    validate = InputValidator(bundle.inputs)
    if case["error"] is None:
        validate(row)
    elif case["error"] == "range":  # Python warns, the others refuse
        with pytest.warns(UserWarning, match="range"):
            validate(row)
    else:
        with pytest.raises(ValueError):
            validate(row)


@pytest.mark.parametrize("case", VECTORS["answers"], ids=lambda c: c["why"])
def test_an_answer_is_read_as_by_edge_cascade(case):
    identity = TeacherIdentity("required", VECTORS["identity"], [])
    with (
        answering(case) as url,
        contextlib.closing(
            V2HttpTeacher(url, 3, binary=False, identity=identity)
        ) as teacher,
    ):
        if case["error"] is None:
            logits = teacher.logits({"input": ROW})
            assert logits.tolist() == [case["logits"]]
            return
        # Each language says in its own words what an answer lacks.
        said = {"logits": "logits|numbers|JSON"}.get(
            case["error"], case["error"]
        )
        with pytest.raises(TeacherError, match=said):
            teacher.logits({"input": ROW})


@contextlib.contextmanager
def answering(case):
    """A server that gives one answer to every request; yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = case["body"].encode()
            self.send_response(case["status"])
            headers = {**case["headers"], "content-length": str(len(body))}
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v2/models/teacher"
        finally:
            server.shutdown()
            thread.join()

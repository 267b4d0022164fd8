"""Another teacher than the bundle's: found by its identity, or by probes."""

import contextlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.faults.served_teacher import (
    PROTOCOLS,
    ServedTeacher,
    strangers,
)
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import write_manifest
from keras_cascade.errors import TeacherError
from keras_cascade.runtime import EdgeCascade, SavedModelTeacher
from keras_cascade.runtime.async_edge_cascade import AsyncEdgeCascade
from keras_cascade.runtime.teachers import teacher_identity as module
from keras_cascade.runtime.teachers.teacher_at import open_teacher

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
every_stranger = pytest.mark.parametrize(
    "stranger", ["permuted_classes", "other_weights", "other_class_count"]
)


@pytest.fixture(scope="module")
def bundle(bundle_path):
    return Bundle.load(bundle_path)


@pytest.fixture(scope="module")
def own(bundle):
    """The bundle's own teacher, as a function."""
    return SavedModelTeacher(bundle.teacher_folder).logits


@pytest.fixture
def serve(own):
    """A function that starts a server of the bundle's teacher."""
    running = []

    def start(**options):
        server = ServedTeacher(own, **options)
        running.append(server.__enter__())
        return server

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def open_at(bundle):
    """A function that opens the teacher of a server."""
    opened = []

    def opening(server, protocol, mode="probe", of=bundle, **options):
        teacher = open_teacher(
            server.url(protocol), of, 30.0, teacher_identity=mode,
            **{**PROTOCOLS[protocol][1], **options},
        )  # fmt: skip
        opened.append(teacher)
        return teacher

    yield opening
    for teacher in opened:
        teacher.close()


@pytest.fixture
def x():
    return {"input": np.random.default_rng(1).normal(size=(3, 6)).astype("f4")}


def without_probes(bundle, folder):
    """A copy of a bundle as 0.1.0 wrote it."""
    shutil.copytree(bundle.path, folder / "old")
    manifest = {**bundle.manifest, "teacher": {**bundle.manifest["teacher"]}}
    del manifest["teacher"]["probes"]
    write_manifest(manifest, folder / "old" / "manifest.json")
    return Bundle.load(folder / "old")


@every_protocol
@pytest.mark.parametrize("mode", ["required", "probe"])
def test_the_own_teacher_states_its_identity(
    serve, open_at, bundle, own, x, protocol, mode
):
    server = serve(identity=bundle.teacher_identity)
    teacher = open_at(server, protocol, mode)
    teacher.check()
    for _ in range(3):
        np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    assert server.requests == [3, 3, 3]  # no probes


@every_protocol
@pytest.mark.parametrize("mode", ["required", "probe"])
@every_stranger
def test_a_stranger_states_another_identity(
    serve, open_at, bundle, own, x, protocol, mode, stranger
):
    server = serve(identity=bundle.teacher_identity)
    teacher = open_at(server, protocol, mode)
    teacher.logits(x)
    # Exchanged, the connection stays: classes in another order, and so on.
    server.logits = strangers(own, 4)[stranger]
    server.identity = "0" * 64
    for call in (lambda: teacher.logits(x), teacher.check):
        with pytest.raises(TeacherError, match="is not the bundle's") as caught:
            call()
        assert caught.value.stranger
        assert not caught.value.retryable
        assert not caught.value.identified
    server.logits, server.identity = own, bundle.teacher_identity
    teacher.logits(x)


@every_protocol
@every_stranger
def test_a_stranger_is_found_by_probes(
    serve, open_at, bundle, own, x, protocol, stranger
):
    server = serve()
    server.logits = strangers(own, 4)[stranger]
    teacher = open_at(server, protocol)
    for call in (lambda: teacher.logits(x), teacher.check):
        with pytest.raises(TeacherError, match="probe rows differ") as caught:
            call()
        assert caught.value.stranger
        assert not caught.value.retryable
    server.logits = own
    np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)


@every_protocol
def test_probes_are_sent_once_per_connection(
    serve, open_at, bundle, own, x, protocol
):
    server = serve()
    teacher = open_at(server, protocol)
    rows = bundle.manifest["teacher"]["probes"]["rows"]
    for _ in range(4):
        np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    # Without a version in its answers the first one is asked for again.
    first = [3, rows, 3] if protocol == "v1" else [3, rows]
    assert server.requests == [*first, 3, 3, 3]
    teacher.check()
    assert server.requests == [*first, 3, 3, 3, rows]


@pytest.mark.parametrize("protocol", ["v1", "v2", "v2_binary"])
@every_stranger
def test_a_stranger_after_a_reconnect(
    serve, open_at, own, x, protocol, stranger
):
    server = serve()
    teacher = open_at(server, protocol)
    teacher.logits(x)
    server.logits = strangers(own, 4)[stranger]
    server.drop_connections()
    with pytest.raises(TeacherError) as caught:
        while True:
            try:
                teacher.logits(x)
            except TeacherError as error:
                if not error.retryable:  # the end of the old connection
                    raise
    assert caught.value.stranger


@pytest.mark.parametrize("stranger", ["permuted_classes", "other_weights"])
def test_a_stranger_after_a_reconnect_of_grpc(
    bundle, own, x, open_at, stranger
):
    """Another server at the same port: gRPC connects again by itself."""
    with ServedTeacher(own) as first:
        teacher = open_at(first, "grpc")
        teacher.logits(x)
        second = ServedTeacher(strangers(own, 4)[stranger])
        port = first.grpc
        first._grpc.stop(None).wait()
    assert second._grpc.add_insecure_port(f"127.0.0.1:{port}") == port
    with second, pytest.raises(TeacherError) as caught:
        while True:
            try:
                teacher.logits(x)
            except TeacherError as error:
                if not error.retryable:
                    raise
    assert caught.value.stranger


@every_protocol
def test_another_version_without_a_reconnect(serve, open_at, own, x, protocol):
    """TensorFlow Serving and Triton load a new version as they run."""
    server = serve()
    teacher = open_at(server, protocol)
    teacher.logits(x)
    teacher.logits(x)
    server.logits = strangers(own, 4)["permuted_classes"]
    server.version = "2"
    with pytest.raises(TeacherError) as caught:
        teacher.logits(x)
    assert caught.value.stranger


def test_a_silent_server_without_ids_or_a_status(serve, open_at, own, x):
    """Each request has a connection of its own, and probes on it."""
    server = serve()
    server.has_status = False
    teacher = open_at(server, "v1")
    for _ in range(3):
        np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    assert server.requests == [3, 8, 3, 8, 3, 8, 3]
    assert server.connections == 4


class PostsOnly(http.server.BaseHTTPRequestHandler):
    """v1 of a hand-written server: any GET is an error that disconnects."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        rows = np.array(json.loads(body)["instances"], "float32")
        logits = self.server.logits({"input": rows}).tolist()
        body = json.dumps({"predictions": logits}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class DisconnectingPosts(PostsOnly):
    """One connection for each request."""

    protocol_version = "HTTP/1.0"


@pytest.fixture
def serve_by(own):
    """A function that starts a server with a handler; returns its URL."""
    with contextlib.ExitStack() as stack:

        def start(handler):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.logits, server.daemon_threads = own, True
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            for close in (thread.join, server.server_close, server.shutdown):
                stack.callback(close)
            port = server.server_address[1]
            return server, f"http://127.0.0.1:{port}/v1/models/teacher"

        yield start


def test_a_server_whose_errors_end_the_connection(serve_by, bundle, own, x):
    server, url = serve_by(PostsOnly)
    with contextlib.closing(open_teacher(url, bundle, 30.0)) as teacher:
        for _ in range(3):
            np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
        server.logits = strangers(own, 4)["permuted_classes"]
        with pytest.raises(TeacherError, match="probe rows differ") as caught:
            teacher.logits(x)
        assert caught.value.stranger


def test_a_server_that_ends_every_connection(serve_by, bundle, own, x):
    """Probe rows prove nothing about an answer on another connection."""
    _, url = serve_by(DisconnectingPosts)
    with contextlib.closing(open_teacher(url, bundle, 30.0)) as teacher:
        with pytest.raises(TeacherError, match="keep-alive") as caught:
            teacher.logits(x)
        assert not caught.value.retryable
    trusting = open_teacher(url, bundle, 30.0, teacher_identity="off")
    with contextlib.closing(trusting) as teacher:
        np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)


@every_protocol
def test_a_proof_does_not_last_for_ever(
    serve, open_at, own, x, protocol, monkeypatch
):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr(module, "time", clock)
    server = serve()
    teacher = open_at(server, protocol)
    for _ in range(2):
        teacher.logits(x)
    asked = len(server.requests)
    now[0] += module.PROOF_SECONDS
    server.logits = strangers(own, 4)["permuted_classes"]
    with pytest.raises(TeacherError) as caught:
        teacher.logits(x)
    assert caught.value.stranger
    assert len(server.requests) - asked == 2  # rows and probes


@every_protocol
def test_a_server_that_no_longer_states_its_identity(
    serve, open_at, bundle, own, x, protocol
):
    server = serve(identity=bundle.teacher_identity)
    required, probing = (
        open_at(server, protocol, mode) for mode in ("required", "probe")
    )
    for teacher in (required, probing):
        teacher.logits(x)
    server.identity = None
    with pytest.raises(TeacherError, match="to state its identity") as caught:
        required.logits(x)
    assert caught.value.stranger
    asked = len(server.requests)
    np.testing.assert_allclose(probing.logits(x), own(x), atol=1e-5)
    assert 8 in server.requests[asked:]  # probe rows
    server.logits = strangers(own, 4)["permuted_classes"]
    server.version = "2"
    with pytest.raises(TeacherError) as caught:
        probing.logits(x)
    assert caught.value.stranger


@every_protocol
def test_off_asks_any_teacher(serve, open_at, own, x, protocol):
    server = serve(identity="0" * 64)
    server.logits = strangers(own, 4)["permuted_classes"]
    teacher = open_at(server, protocol, "off")
    expected = own(x)[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(teacher.logits(x), expected, atol=1e-5)
    assert server.requests == [3]


@every_protocol
def test_a_bundle_without_probes_warns_once(
    serve, open_at, bundle, own, x, protocol, tmp_path
):
    server = serve()
    teacher = open_at(server, protocol, of=without_probes(bundle, tmp_path))
    with pytest.warns(UserWarning, match="cannot tell it from") as caught:
        for _ in range(3):
            np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    assert len(caught) == 1
    server.identity = bundle.teacher_identity
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher.logits(x)


@every_protocol
@pytest.mark.parametrize("states", [True, False])
def test_a_proven_teachers_word_on_its_inputs_is_identified(
    serve, open_at, bundle, own, x, protocol, states
):
    server = serve(identity=bundle.teacher_identity if states else None)
    server.refuse = lambda inputs: len(inputs["input"]) == 3
    teacher = open_at(server, protocol)
    for number in range(3):
        with pytest.raises(TeacherError) as caught:
            teacher.logits(x)
        assert caught.value.about_input
        # Over HTTP a silent server must have been proven before.
        http = not states and protocol != "grpc"
        assert caught.value.identified is (number > 0 or not http)
    off = open_at(server, protocol, "off")
    with pytest.raises(TeacherError) as caught:
        off.logits(x)
    assert not caught.value.identified


@every_protocol
@pytest.mark.parametrize("states", [True, False])
def test_a_strangers_word_is_a_strangers(
    serve, open_at, own, x, protocol, states
):
    server = serve(identity="0" * 64 if states else None)
    server.logits = strangers(own, 4)["other_weights"]
    server.refuse = lambda inputs: len(inputs["input"]) == 3
    teacher = open_at(server, protocol)
    errors = []
    for _ in range(2):
        with pytest.raises(TeacherError) as caught:
            teacher.logits(x)
        errors.append(caught.value)
        assert not caught.value.identified
    assert errors[-1].stranger
    assert not errors[-1].about_input


@pytest.mark.parametrize("protocol", ["v1", "grpc"])
def test_a_stranger_is_a_failed_teacher_under_the_policy(
    serve, bundle_path, own, blobs, protocol, bundle
):
    x, _ = blobs(40)
    server = serve(identity="0" * 64)
    server.logits = strangers(own, 4)["permuted_classes"]
    with EdgeCascade.load(
        bundle_path, server.url(protocol), "abstain", retries=5
    ) as edge:
        found = edge.predict(x)
        assert set(found.source) == {"edge", "abstained"}
        assert "is not the bundle's" in found.teacher_error
        assert len(server.requests) == 1  # not asked again
        server.logits, server.identity = own, bundle.teacher_identity
        assert set(edge.predict(x).source) == {"edge", "cloud"}


def test_the_option_of_the_event_loop_cascade(bundle_path):
    with pytest.raises(ValueError, match="`teacher_identity` out of"):
        AsyncEdgeCascade.load(
            bundle_path, "http://127.0.0.1:9", teacher_identity="sometimes"
        )


def test_detection_passes_the_identity_on(serve, bundle, own, x):
    server = serve()
    url = f"http://127.0.0.1:{server.http}"
    teacher = open_teacher(url, bundle, 30.0)
    teacher.check()
    np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    server.logits = strangers(own, 4)["permuted_classes"]
    server.version = "2"
    for call in (teacher.check, lambda: teacher.logits(x)):
        with pytest.raises(TeacherError) as caught:
            call()
        assert caught.value.stranger
    teacher.close()


def save(folder, function):
    module = tf.Module()
    module.f = tf.function(
        lambda input: {"logits": function(input)},
        input_signature=[tf.TensorSpec([None, 6], name="input")],
    )
    signatures = {"serving_default": module.f}
    tf.saved_model.save(module, folder, signatures=signatures)
    return str(folder)


def test_another_saved_model(bundle, own, x, tmp_path):
    """The same files, the same model written again, and a stranger."""
    copy = shutil.copytree(bundle.teacher_folder, tmp_path / "copy")
    for mode in ("required", "probe"):
        open_teacher(str(copy), bundle, teacher_identity=mode)
    loaded = tf.saved_model.load(str(bundle.teacher_folder))
    graph = loaded.signatures["serving_default"]
    again = tf.Module()
    again.loaded = loaded
    again.f = tf.function(
        lambda input: {"logits": graph(input=input)["logits"]},
        input_signature=[tf.TensorSpec([None, 6], name="input")],
    )
    tf.saved_model.save(
        again, tmp_path / "again", signatures={"serving_default": again.f}
    )
    teacher = open_teacher(str(tmp_path / "again"), bundle)
    np.testing.assert_allclose(teacher.logits(x), own(x), atol=1e-5)
    with pytest.raises(TeacherError) as caught:
        open_teacher(
            str(tmp_path / "again"), bundle, teacher_identity="required"
        )
    assert caught.value.stranger
    other = save(tmp_path / "other", lambda x: x[:, :4])
    with pytest.raises(TeacherError, match="probe rows differ") as caught:
        open_teacher(other, bundle)
    assert caught.value.stranger
    open_teacher(other, bundle, teacher_identity="off")


def test_probes_that_do_not_fit_the_bundle(bundle):
    teacher = bundle.manifest["teacher"]
    for changes in (
        {"rows": 3}, {"logits": [[1.0]] * 8}, {"shapes": {"other": [6]}},
    ):  # fmt: skip
        altered = Bundle(bundle.path, {**bundle.manifest})
        altered.manifest["teacher"] = {
            **teacher, "probes": {**teacher["probes"], **changes}
        }  # fmt: skip
        with pytest.raises(BundleError, match="do not fit"):
            open_teacher("http://127.0.0.1:9", altered)


def test_without_a_teacher_nothing_is_required(bundle):
    bare = Bundle(bundle.path, {**bundle.manifest, "teacher": None})
    with pytest.raises(ValueError, match="knows its teacher's identity"):
        open_teacher("http://h:1", bare, teacher_identity="required")
    open_teacher("http://h:1", bare).close()


def test_the_device_needs_scipy_for_none_of_it():
    """Probe rows are made without the packages of the export."""
    code = (
        "import sys\n"
        "from keras_cascade.runtime.teachers import teacher_identity\n"
        "assert not {'scipy', 'keras', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

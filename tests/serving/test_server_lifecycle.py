"""Servers with TLS and tokens, reloaded and stopped under load."""

import json
import shutil
import signal
import ssl
import threading

import grpc
import httpx
import numpy as np
import pytest
import trustme

from keras_cascade.runtime.teachers.grpc_messages import SERVICE
from keras_cascade.serving import ServerProcess
from tests.helpers.bundle_exchange import replace_bundle
from tests.helpers.grpc_requests import infer_request

TOKEN = "a-token-of-some-length"
X = np.ones((1, 6), "float32")
BODY = {"instances": X.tolist()}


def logged(server):
    """The events in a server's log."""
    lines = server.log_file.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="module")
def locked(bundle_path, tmp_path_factory):
    """A server with TLS, a token and small limits."""
    folder = tmp_path_factory.mktemp("locked")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    paths = {
        "--tls-cert": certificate.cert_chain_pems[0],
        "--tls-key": certificate.private_key_pem,
    }
    options = ["--max-request-mb", "0.01"]
    for option, blob in paths.items():
        blob.write_to_path(folder / option)
        options += [option, str(folder / option)]
    (folder / "tokens").write_text(TOKEN)
    options += ["--token-file", str(folder / "tokens")]
    with ServerProcess(
        bundle_path, folder / "log", host="localhost", options=options
    ) as server:
        yield server, authority


def test_tls_and_token_over_http(locked):
    server, authority = locked
    assert server.url.startswith("https://")
    context = ssl.create_default_context()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, verify=context)
    authority.configure_trust(context)
    with httpx.Client(verify=context, timeout=30) as client:
        url = f"{server.url}:predict"
        assert client.post(url, json=BODY).status_code == 401
        client.headers["authorization"] = f"Bearer {TOKEN}"
        assert client.post(url, json=BODY).status_code == 200
        long = client.post(url, content=b" " * 20_000)
        assert long.status_code == 413
        streamed = client.post(url, content=iter([b" " * 9_000] * 3))
        assert streamed.status_code == 413


def test_tls_and_token_over_grpc(locked):
    server, authority = locked
    assert server.grpc_url.startswith("grpcs://")
    root = authority.cert_pem.bytes()
    credentials = grpc.ssl_channel_credentials(root)
    address = server.grpc_url.split("/")[2]
    with grpc.secure_channel(address, credentials) as channel:
        ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
        request = infer_request().SerializeToString()

        def code(request, *metadata):
            with pytest.raises(grpc.RpcError) as raised:
                ask(request, metadata=metadata, timeout=30)
            return raised.value.code()

        token = ("authorization", f"Bearer {TOKEN}")
        assert code(request) == grpc.StatusCode.UNAUTHENTICATED
        wrong = ("authorization", "Bearer x")
        assert code(request, wrong) == grpc.StatusCode.UNAUTHENTICATED
        assert ask(request, metadata=[token], timeout=30)
        too_long = b"x" * 20_000
        assert code(too_long, token) == grpc.StatusCode.RESOURCE_EXHAUSTED
        live = channel.unary_unary(f"/{SERVICE}/ServerLive")
        assert live(b"", timeout=30) == b"\x08\x01"  # field 1, true
    text = server.log_file.read_text()
    assert TOKEN not in text and "Traceback" not in text


def test_a_new_version_under_load_then_a_stop_with_requests_open(
    bundle_path, tmp_path
):
    """A lone request waits a minute for others: until the server stops."""
    path = tmp_path / "bundle"
    shutil.copytree(bundle_path, path)
    options = ["--max-delay-ms", "60000", "--max-batch", "3"]
    with ServerProcess(path, tmp_path / "log", options=options) as server:
        statuses = ask_until_reloaded(server, path)
        assert set(statuses) == {200}
        base = server.url.rpartition("/v1/")[0]
        answered = []

        def over_http():
            answer = httpx.post(f"{server.url}:predict", json=BODY, timeout=50)
            answered.append(answer.status_code)

        def over_grpc():
            request = infer_request(shape=[1, 6], data=X.tobytes())
            address = server.grpc_url.split("/")[2]
            with grpc.insecure_channel(address) as channel:
                ask = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                ask(request.SerializeToString(), timeout=50)
            answered.append("OK")

        threads = [threading.Thread(target=t) for t in (over_http, over_grpc)]
        for thread in threads:
            thread.start()
        until(lambda: "queued_rows 2.0" in httpx.get(f"{base}/metrics").text)
        server._process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(50)
        assert server._process.wait(50) == 0
        assert set(answered) == {200, "OK"}
    events = [one["event"] for one in logged(server)]
    assert events[-1] == "stopped"
    assert {"reloaded", "draining"} <= set(events)
    assert "Traceback" not in server.log_file.read_text()


def ask_until_reloaded(server, path):
    """Pairs of requests, before, while and after a new bundle takes over."""
    statuses, versions = [], set()

    def ask():
        with httpx.Client(timeout=50) as client:
            while "2" not in versions:
                answer = client.post(f"{server.url}:predict", json=BODY)
                statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(statuses) > 20)
    replace_bundle(path)

    def new_version():
        status = httpx.get(server.url).json()["model_version_status"]
        versions.add(status[0]["version"])
        return "2" in versions

    until(new_version)
    # Those that still wait for others: three rows fill any batch.
    while any(thread.is_alive() for thread in threads):
        statuses.append(
            httpx.post(
                f"{server.url}:predict",
                timeout=50,
                json={"instances": [[1.0] * 6] * 3},
            ).status_code
        )
    return statuses


def until(condition):
    """Polls a condition; the server's own timeouts bound it."""
    while not condition():
        pass


@pytest.mark.parametrize(
    "options, words",
    [
        (["--tls-cert", "x"], "both a certificate and its key"),
        (["--tls-cert", "x", "--tls-key", "y"], "There is no 'x'"),
        (["--token-file", "x"], "x"),
        (["--workers", "2"], "Expected `workers` to be 1"),
    ],
)
def test_wrong_options_are_reported_before_anything_is_loaded(
    bundle_path, options, words
):
    from keras_cascade.cli.main import run

    with pytest.raises((ValueError, OSError), match=words):
        run(["serve", str(bundle_path), "--port", "0", *options])

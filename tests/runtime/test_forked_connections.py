"""A forked child has connections, threads and a circuit of its own.

Each test forks in a process of its own: this one has TensorFlow's threads.
"""

import os
import subprocess
import sys
import textwrap

import pytest

from keras_cascade.utils import forks
from tests.helpers.documents import ROOT

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork"), reason="there is no fork on this system"
)

HEAD = """
import os, signal, sys, threading, warnings
import numpy as np
from keras_cascade.errors import TeacherError
from keras_cascade.runtime import teacher_at
from keras_cascade.runtime.teachers.teacher_caller import TeacherCaller

# Python 3.12 warns of any fork in a process with threads: that is the point.
warnings.simplefilter("ignore", DeprecationWarning)


def in_child(function):
    "Runs a function in a forked child; returns what it prints."
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(60)  # a child that hangs is killed, and fails the test
        try:
            text = str(function())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(theirs, text.encode()[:4000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0, "the child was killed"
    return text
"""
HTTP = """
import collections, http.server, json


class Handler(http.server.BaseHTTPRequestHandler):
    "States the number of its connection in its answers."

    protocol_version = "HTTP/1.1"
    seen = collections.Counter()

    def setup(self):
        super().setup()
        self.seen["connections"] += 1
        self.number = self.seen["connections"]

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        rows = json.loads(body)["instances"]
        found = [[row[0], self.number] for row in rows]
        content = json.dumps({"predictions": found})
        self.send_response(200)
        self.send_header("x-request-id", self.headers["x-request-id"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
teacher = teacher_at(
    f"http://127.0.0.1:{server.server_address[1]}/v1/models/teacher", 2
)


def connection(number):
    "Asks about a row; returns the number of the connection that answered."
    found = teacher.logits({"input": np.full((1, 1), number, "float32")})
    assert found[0, 0] == number
    return int(found[0, 1])
"""
GRPC = """
import subprocess
code = '''
import sys
import numpy as np
from benchmarks.faults.served_teacher import ServedTeacher
server = ServedTeacher(lambda inputs: np.repeat(inputs["input"], 2, axis=1))
with server:
    print(server.grpc, flush=True)
    sys.stdin.read()
'''
process = subprocess.Popen(
    [sys.executable, "-c", code], stdin=subprocess.PIPE,
    stdout=subprocess.PIPE, text=True,
)
port = int(process.stdout.readline())
teacher = teacher_at(f"grpc://127.0.0.1:{port}/teacher", 2)


def ask():
    return teacher.logits({"input": np.ones((1, 1), "float32")}).tolist()
"""


def run(code, *heads, **environment):
    done = subprocess.run(
        [sys.executable, "-c", "".join([HEAD, *heads, textwrap.dedent(code)])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split("\n")[:-1]


def test_http_connections():
    """The parent's connection answers the parent alone."""
    assert run(
        """
        print(connection(1))
        children = [in_child(lambda: connection(2)) for _ in range(3)]
        print(*children)
        print(connection(3))
        in_child(teacher.close)
        print(connection(4))
        """,
        HTTP,
    ) == ["1", "2 3 4", "1", "1"]


def test_connections_that_are_in_use_when_the_process_forks():
    """Of another thread; it also holds a lock at that time."""
    assert run(
        """
        inside, go_on = threading.Event(), threading.Event()
        pool = teacher._client._connections

        def hold():
            with pool.lease(10):
                with pool._pool.lock:
                    inside.set()
                    go_on.wait()

        connection(1)
        thread = threading.Thread(target=hold)
        thread.start()
        inside.wait()
        print(in_child(lambda: connection(2)))
        go_on.set()
        thread.join()
        """,
        HTTP,
    ) == ["2"]


def test_hedging_threads_circuit_and_counts():
    assert run(
        """
        from keras_cascade.runtime.teachers.remote_teacher import RowCounter

        class Fails:
            fails = True

            def logits(self, inputs):
                if self.fails:
                    raise TeacherError("gone", retryable=True)
                return np.zeros((len(inputs["input"]), 2))

        slow, rows = Fails(), {"input": np.ones((1, 1))}
        caller = TeacherCaller(
            slow, 2, retries=0, failures_to_open=1, hedge_after=30.0
        )
        try:
            caller.logits(rows)
        except TeacherError as error:
            print(error)
        slow.fails = False
        print(in_child(lambda: caller.logits(rows).tolist()))
        try:
            caller.logits(rows)  # the parent's circuit stays open
        except TeacherError as error:
            print(str(error)[:25])
        counter = RowCounter()
        counter.add(5)

        def counted():
            with counter.reported(2) as count:
                return count

        print(in_child(counted), counted())
        caller.close()
        """
    ) == ["gone", "[[0.0, 0.0]]", "The teacher is not asked ", "2 7"]


def test_grpc_does_not_survive_and_says_so():
    first, child, again, new = run(
        """
        print(ask())
        print(in_child(ask))
        print(ask())

        def another():
            global teacher
            teacher = teacher_at(f"grpc://127.0.0.1:{port}/teacher", 2)
            return ask()

        print(in_child(another))
        process.kill()
        """,
        GRPC,
        GRPC_ENABLE_FORK_SUPPORT="0",
    )
    assert first == again == "[[1.0, 1.0]]"
    for text in (child, new):
        assert text.startswith("TeacherError: The connection to grpc://")
        assert "forked from one that had used gRPC" in text
        assert "GRPC_ENABLE_FORK_SUPPORT=1" in text


@pytest.mark.parametrize("support", ["0", "1"])
def test_grpc_that_was_not_used_before_the_fork(support):
    assert (
        run(
            """
        print(in_child(ask))
        print(in_child(ask))
        process.kill()
        """,
            GRPC,
            GRPC_ENABLE_FORK_SUPPORT=support,
        )
        == ["[[1.0, 1.0]]"] * 2
    )


def test_grpc_with_its_own_support_of_forks():
    assert (
        run(
            """
        print(ask())
        print(in_child(ask))
        print(ask())
        process.kill()
        """,
            GRPC,
            GRPC_ENABLE_FORK_SUPPORT="1",
        )
        == ["[[1.0, 1.0]]"] * 3
    )


def test_threads_of_the_event_loop_cascade(bundle_path):
    assert run(
        f"""
        import asyncio
        from keras_cascade.runtime import AsyncEdgeCascade, EdgeCascade

        edge = AsyncEdgeCascade(EdgeCascade.load({str(bundle_path)!r}))
        x = np.zeros((2, 6), "float32")
        predict = lambda: len(asyncio.run(edge.predict(x)))
        print(predict())
        print(in_child(predict))
        asyncio.run(edge.close())
        """
    ) == ["2", "2"]


def test_an_owner_is_not_kept_alive():
    class Owner:
        def reset_in_child(self):
            pass

    before = len(forks._owners)
    owner = Owner()
    forks.reset_in_child(owner)
    assert len(forks._owners) == before + 1
    del owner
    assert len(forks._owners) == before

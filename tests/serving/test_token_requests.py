"""Token ids, deadlines and cancellation, over every protocol."""

import asyncio
import contextlib
import json
import threading
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from keras_cascade.runtime.teachers.grpc_messages import SERVICE, messages
from keras_cascade.serving.descriptors import ConnectionBudget
from keras_cascade.serving.grpc_connections import GrpcConnections
from keras_cascade.serving.grpc_service import grpc_server
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.asgi_client import AsgiClient
from tests.helpers.text_teacher import text_bundle

PREDICT = "/v1/models/teacher:predict"
INFER = "/v2/models/teacher/infer"
VOCABULARY = 10
TABLE = np.arange(4 * VOCABULARY, dtype="float32").reshape(VOCABULARY, 4)
SPECS = [
    {"name": "ids", "shape": [None, None], "dtype": "int32", "range": [0, 9]}
]


@pytest.fixture(scope="module")
def token_teacher(tmp_path_factory):
    """A bundle whose teacher adds up rows of a table, by token id."""
    import tensorflow as tf

    table = tf.constant(TABLE)

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")])
    def logits(ids):
        return {"logits": tf.reduce_sum(tf.gather(table, ids), 1)}

    module, folder = tf.Module(), tmp_path_factory.mktemp("tokens")
    module.logits = logits
    tf.saved_model.save(module, str(folder), signatures=logits)
    bundle = text_bundle(SPECS)
    bundle.path = bundle.teacher_folder = folder
    bundle.teacher_copy = lambda: contextlib.nullcontext(folder)
    return bundle


def service_of(bundle):
    limits, metrics = Limits(), ServerMetrics()
    teacher = LoadedTeacher.load(bundle, limits, metrics)
    return TeacherService(teacher, limits, None, metrics)


def v1(ids):
    return {"path": PREDICT, "body": {"instances": ids}}


def v2_json(ids):
    return {"path": INFER, "body": {"inputs": [{**tensor(ids), "data": ids}]}}


def v2_binary(ids):
    raw = np.array(ids, "<i4").tobytes()
    part = {**tensor(ids), "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [part]}).encode()
    headers = [("inference-header-content-length", str(len(head)))]
    return {"path": INFER, "body": head + raw, "headers": headers}


def tensor(ids):
    return {"name": "ids", "datatype": "INT32", "shape": list(np.shape(ids))}


@pytest.mark.parametrize("ids", [[[1, VOCABULARY]], [[1, -1]], [[2**31 - 1]]])
@pytest.mark.parametrize("request_", [v1, v2_json, v2_binary])
def test_an_id_outside_of_the_vocabulary_is_the_clients_error(
    token_teacher, server_log, request_, ids
):
    """Requests beside it are answered."""
    client = AsgiClient(lambda: service_of(token_teacher))
    bad, good = client.together(
        [
            (("POST",), request_(ids)),
            (("POST",), v1([[1] * len(ids[0])])),
        ]
    )
    assert bad.status == 400
    assert "'ids'" in bad.json()["error"]
    assert good.json()["predictions"] == [(TABLE[1] * len(ids[0])).tolist()]
    assert "raceback" not in "".join(server_log)


@pytest.fixture
def grpc_scenario():
    """A function that runs a scenario with a service and a gRPC call to it."""

    def run(service, scenario):
        async def main():
            made = service()
            server, port = grpc_server(
                made,
                "127.0.0.1",
                0,
                GrpcConnections(8),
                ConnectionBudget(8, 8, 8),
            )
            await server.start()
            address = f"127.0.0.1:{port}"
            async with grpc.aio.insecure_channel(address) as channel:

                def ask(ids, **options):
                    kinds = messages()
                    message = kinds.ModelInferRequest(
                        model_name="teacher",
                        inputs=[kinds.Tensor(**tensor(ids))],
                        raw_input_contents=[np.array(ids, "<i4").tobytes()],
                    )
                    call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
                    options = {"timeout": 30, **options}
                    return call(message.SerializeToString(), **options)

                result = await scenario(made, ask)
            await server.stop(0)
            await made.teacher.close()
            return result

        return asyncio.run(main())

    return run


def test_an_id_outside_of_the_vocabulary_over_grpc(
    token_teacher, grpc_scenario
):
    async def scenario(service, ask):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask([[VOCABULARY]])
        await ask([[1]])
        return raised.value

    error = grpc_scenario(lambda: service_of(token_teacher), scenario)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "'ids'" in error.details()


class Held:
    """A teacher whose runs wait until they are let go."""

    def __init__(self):
        self.began, self.go, self.runs = threading.Event(), threading.Event(), 0

    def __call__(self, inputs):
        self.began.set()
        if not self.go.wait(30):
            raise RuntimeError("never let go")
        self.runs += 1
        return np.zeros((len(inputs["ids"]), 4), "float32")

    def service(self):
        limits, metrics = Limits(), ServerMetrics()
        bundle = text_bundle(SPECS)
        bundle.teacher_folder = SimpleNamespace(name="1")
        teacher = LoadedTeacher(bundle, self, limits, metrics)
        return TeacherService(teacher, limits, None, metrics)


def test_a_call_that_would_miss_its_deadline_is_refused(grpc_scenario):
    """By gRPC's own deadline; with the delay in both forms."""
    teacher = Held()

    async def scenario(service, ask):
        first = asyncio.ensure_future(ask([[1]]))
        await asyncio.to_thread(teacher.began.wait, 30)
        service.teacher._batcher._run_times.add(1, 60.0)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask([[1]], timeout=20)
        teacher.go.set()
        await first
        return raised.value

    error = grpc_scenario(teacher.service, scenario)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    metadata = dict(error.trailing_metadata())
    seconds = int(metadata["retry-after"])
    assert 40 <= seconds <= 60
    assert metadata["grpc-retry-pushback-ms"] == str(1000 * seconds)
    assert dict(error.initial_metadata())["x-cascade-teacher"] == "0" * 64


def test_a_cancelled_call_leaves_the_queue(grpc_scenario):
    teacher = Held()

    async def scenario(service, ask):
        first = asyncio.ensure_future(ask([[1]]))
        await asyncio.to_thread(teacher.began.wait, 30)
        batcher = service.teacher._batcher
        gone = ask([[1]])
        waiting = asyncio.ensure_future(gone)
        while not batcher._queued_rows:
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([waiting])
        while batcher._queued_rows:
            await asyncio.sleep(0)
        teacher.go.set()
        await first
        return teacher.runs

    assert grpc_scenario(teacher.service, scenario) == 1

"""A gRPC teacher whose every answer is wrong in one way."""

import threading
from concurrent import futures

import grpc
import kserve.protocol.grpc.grpc_predict_v2_pb2 as messages
import kserve.protocol.grpc.grpc_predict_v2_pb2_grpc as services
import numpy as np

#: Answers that must fail a client's validation.
FAULTS = (
    "INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "nan", "infinite",
    "fewer_rows", "more_classes", "no_output", "text", "truncated",
)  # fmt: skip

WORKERS = 8


class FaultyGrpcServer(services.GRPCInferenceServiceServicer):
    """Server of Open Inference Protocol v2; a context manager.

    Args:
        classes: int.

    Attributes:
        fault: str, out of `FAULTS`; may be set at any time.
        port: int.
    """

    def __init__(self, classes):
        self.fault = FAULTS[0]
        self._classes = classes
        pool = futures.ThreadPoolExecutor(WORKERS)
        # Starts all threads now: later ones would look like clients' leaks.
        all_started = threading.Barrier(WORKERS)
        list(pool.map(lambda _: all_started.wait(), range(WORKERS)))
        self._server = grpc.server(pool)
        services.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self):
        self._server.start()
        return self

    def __exit__(self, *_):
        self._server.stop(0).wait()

    def ModelInfer(self, request, context):  # noqa: N802
        """Answers with the current fault."""
        fault = self.fault
        if fault.isupper():
            context.abort(getattr(grpc.StatusCode, fault), "a fault")
        rows = request.inputs[0].shape[0]
        logits = np.zeros((rows, self._classes), "<f4")
        if fault == "fewer_rows":
            logits = np.zeros((rows + 1, self._classes), "<f4")[:-2]
        elif fault == "more_classes":
            logits = np.zeros((rows, self._classes + 1), "<f4")
        elif fault == "nan":
            logits[-1, 0] = np.nan
        elif fault == "infinite":
            logits[-1, 0] = np.inf
        answer = messages.ModelInferResponse(model_name="teacher")
        if fault != "no_output":
            answer.outputs.add(
                name="logits",
                datatype="BYTES" if fault == "text" else "FP32",
                shape=list(logits.shape),
            )
        raw = logits.tobytes()
        answer.raw_output_contents.append(
            raw[:-3] if fault == "truncated" else raw
        )
        return answer

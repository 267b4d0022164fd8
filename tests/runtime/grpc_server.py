"""gRPC server of Open Inference Protocol v2, on Triton's own messages.

A process of its own: KServe and Triton's client cannot be imported into one.
What it answers is said by the model's name. Prints its port and stops when
standard input ends.
"""

import struct
import sys
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

TYPES = {"FP32": "<f4", "INT64": "<i8", "UINT8": "|u1"}


class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelReady(self, request, context):  # noqa: N802
        return pb.ModelReadyResponse(ready=request.name != "unready")

    def ModelInfer(self, request, context):  # noqa: N802
        code, _, detail = request.model_name.partition("-")
        if hasattr(grpc.StatusCode, code):
            context.abort(getattr(grpc.StatusCode, code), detail)
        total = 0.0
        for tensor, raw in zip(
            request.inputs, request.raw_input_contents, strict=True
        ):
            values = np.frombuffer(raw, TYPES[tensor.datatype])
            values = values.reshape(tensor.shape)
            total = total + values.reshape(len(values), -1).sum(axis=1)
        rows = len(total)
        logits = np.zeros((rows, 2), "<f4")
        logits[:, 0] = total
        answer = pb.ModelInferResponse(id=request.id)
        (wanted,) = request.outputs
        output = answer.outputs.add(
            name=wanted.name, datatype="FP32", shape=[rows, 2]
        )
        mode = request.model_name
        if mode == "numbers":
            output.contents.fp32_contents.extend(logits.ravel().tolist())
            return answer
        if mode == "token":
            given = dict(context.invocation_metadata()).get("authorization")
            logits[:] = given == "Bearer secret"
        elif mode == "nan":
            logits[0, 0] = np.nan
        elif mode == "shape":
            output.shape[:] = [rows, 3]
        elif mode == "name":
            output.name = "other"
        elif mode == "type":
            output.datatype = "BYTES"
        elif mode == "empty":
            return pb.ModelInferResponse()
        elif mode == "short":
            answer.raw_output_contents.append(struct.pack("<f", 1.0))
            return answer
        elif mode == "long":
            logits = np.zeros(10**6, "<f4")
        elif mode == "hang":
            context.add_callback(lambda: None)
            futures.Future().result()
        answer.raw_output_contents.append(logits.tobytes())
        return answer


def main():
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        Service(), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    key, chain = (Path(name).read_bytes() for name in sys.argv[1:3])
    tls_port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)])
    )
    server.start()
    print(port, tls_port, flush=True)
    sys.stdin.read()
    server.stop(0)


if __name__ == "__main__":
    main()

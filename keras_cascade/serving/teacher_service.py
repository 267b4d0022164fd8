"""Protocol-independent part of the server, shared by HTTP and gRPC."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from keras_cascade.runtime.teachers.remote_teacher import (
    IDENTITY_PARAMETER,
    TOP_K_HEADER,
)
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES
from keras_cascade.serving.json_tensors import SMALL
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_log import EDGE_ROWS
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits, Tokens
from keras_cascade.utils.numpy_top_k import top_k_arrays

#: Bytes from which on a request is parsed in the thread for the largest.
LARGE = 2**20


class TeacherService:
    """Authorizes requests, bounds their memory and answers their rows.

    Args:
        teacher: `LoadedTeacher`; a reload replaces the attribute.
        limits: `Limits`. Defaults to `None`, `Limits()`.
        tokens: `Tokens`. Defaults to `None`: no authorization.
        metrics: `ServerMetrics`. Defaults to `None`, new ones.
        name: str, the model's name on the wire. Defaults to `"teacher"`.

    Attributes:
        draining: bool. If `True`, new requests are rejected.
    """

    def __init__(
        self, teacher, limits=None, tokens=None, metrics=None, name="teacher"
    ):
        self.teacher = teacher
        self.limits = limits or Limits()
        self.tokens = tokens or Tokens()
        self.metrics = metrics or ServerMetrics()
        self.name = name
        self.draining = False
        self._bytes_held = 0
        self._parsers = [ThreadPoolExecutor(1, "parser") for _ in range(2)]

    @property
    def ready(self):
        """`True` if a load balancer should send requests here."""
        return not self.draining

    @property
    def max_request_bytes(self):
        """Size of the largest request: by the manifest and the limits."""
        return self.teacher.max_request_bytes

    def admit(self, authorization, even_draining=False):
        """Raises for requests without a token, and for all while draining.

        Args:
            authorization: str or `None`, the header.
            even_draining: bool. Admits the request while draining, too.
                Defaults to `False`.

        Raises:
            RequestError: 401 or 503.
        """
        self.tokens.check(authorization)
        if self.draining and not even_draining:
            raise RequestError(
                503, "The server is stopping. Send the request to another.", 1
            )

    def drain(self):
        """Rejects requests from now on and flushes the queue."""
        self.draining = True
        self.teacher.flush()

    def hold(self, size, record):
        """Counts bytes of a body that are held in memory.

        Args:
            size: int.
            record: `RequestRecord` of the request.

        Raises:
            RequestError: the request is too large, or all of them are.
        """
        record.bytes += size
        self._bytes_held += size
        if record.bytes > self.max_request_bytes:
            raise RequestError(
                413,
                f"Expected a body of at most {self.max_request_bytes} bytes. "
                "Received more. Send fewer rows.",
            )
        if self._bytes_held > self.limits.max_bytes_in_flight:
            raise RequestError(
                429, "Too many requests are being read. Try again later.", 1
            )

    def release(self, record):
        """Subtracts the bytes of a request that was answered."""
        self._bytes_held -= record.bytes
        record.bytes = 0

    def find(self, name, record, version=None):
        """Returns the teacher of a name and version.

        A request uses the returned object to its end: a reload may replace
        `teacher` in between. Its answer or error then states the identity of
        this object, not that of the newer one.

        Args:
            name: str, the model's name.
            record: `RequestRecord` of the request.
            version: str or `None` for the served one.

        Raises:
            RequestError: 404, another name or version.
        """
        record.teacher = self.teacher.identity
        if name != self.name:
            raise RequestError(
                404,
                f"Expected the model '{self.name}'. Received: {name[:100]!r}.",
            )
        if version and version != self.teacher.version:
            raise RequestError(
                404,
                f"Expected version '{self.teacher.version}' of the model. "
                f"Received: {version[:100]!r}.",
            )
        return self.teacher

    async def parsed(self, size, parse):
        """Parses a request; a large one in another thread.

        Two threads: one for the largest requests, which take seconds, so
        that others do not wait for them. One each, which bounds the memory.

        Args:
            size: int, bytes of the JSON, or of the message.
            parse: function without arguments.

        Returns:
            The function's result.
        """
        if size <= SMALL:
            return parse()
        thread = self._parsers[size > LARGE]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(thread, parse)

    def check_room(self, record):
        """Raises for a request that would wait too long, before it is read.

        Args:
            record: `RequestRecord` of the request.

        Raises:
            RequestError: 429.
        """
        self.teacher.check_room(record.deadline)

    async def answer(self, teacher, inputs, record, gone=None):
        """Computes the logits of a request's rows, and counts the rows.

        Args:
            teacher: `LoadedTeacher`, as `find` returned it.
            inputs: dict of input name to array, as its `check` returned it.
            record: `RequestRecord` of the request.
            gone: `asyncio.Future` or `None`, done once the client has gone.
                Defaults to `None`.

        Returns:
            float32 array `(rows, classes)`; or, where the request asks for
            fewer, dict of `logits`, float32 `(rows, k)`, `classes`, int32
            `(rows, k)`, and `rest`, float32 `(rows,)`: the k largest, from
            the largest down, and the logsumexp of the others.

        Raises:
            RequestError: a full queue, a wrong number of edge rows, or the
                largest logits alone of a teacher that needs all.
        """
        rows = len(next(iter(inputs.values())))
        edge_rows = record.edge_rows
        if edge_rows is not None and edge_rows < rows:
            raise RequestError(
                400,
                f"Expected '{EDGE_ROWS}' to count the request's {rows} rows "
                f"among those the edge has seen. Received: {edge_rows}.",
            )
        if record.top_k is not None and not teacher.form.one_class:
            raise RequestError(
                400,
                f"Expected no '{TOP_K_HEADER}': the answers of this teacher "
                "are not one class per row, and need every logit. Leave it "
                "out.",
            )
        logits = await teacher.logits(
            inputs, record.deadline, gone, record.client
        )
        record.rows = rows
        if record.top_k is None or record.top_k >= logits.shape[1]:
            return logits
        if logits.size <= SMALL:
            return top_k_arrays(logits, record.top_k)
        return await asyncio.to_thread(top_k_arrays, logits, record.top_k)

    def metadata(self, teacher):
        """Returns the model's metadata, as dict of Open Inference v2.

        Args:
            teacher: `LoadedTeacher`, as `find` returned it.
        """
        return {
            "name": self.name,
            "versions": [teacher.version],
            "platform": teacher.platform,
            "inputs": [
                {
                    "name": spec["name"],
                    "datatype": V2_TYPES[spec["dtype"]],
                    "shape": [size or -1 for size in spec["shape"]],
                }
                for spec in teacher.inputs
            ],
            "outputs": [
                {
                    "name": teacher.output,
                    "datatype": "FP32",
                    "shape": [-1, *(size or -1 for size in teacher.form.sizes)],
                }
            ],
            "properties": {IDENTITY_PARAMETER: teacher.identity},
        }


def named_outputs(logits, output):
    """Outputs of an answer by name, in their order.

    Args:
        logits: as `TeacherService.answer` returns them.
        output: str, the name of the model's one output.
    """
    return logits if isinstance(logits, dict) else {output: logits}

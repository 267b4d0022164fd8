"""What both protocols share: the teacher, who may ask, what is recorded."""

from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES
from keras_cascade.serving.limits import Limits
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.request_record import EDGE_ROWS
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.tokens import Tokens


class TeacherService:
    """Answers requests that a protocol has read, and keeps the books.

    Args:
        teacher: `ServedTeacher`, replaced as a whole by a reload.
        limits: `Limits`. Defaults to `None`, `Limits()`.
        tokens: `Tokens`. Defaults to `None`: everyone is accepted.
        metrics: `ServerMetrics`. Defaults to `None`, new ones.
        name: str, the model's name on the wire. Defaults to `"teacher"`.

    Attributes:
        draining: bool. Once `True`, new requests are refused.
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

    @property
    def ready(self):
        """Whether a load balancer should send requests here."""
        return not self.draining

    def admit(self, authorization, even_draining=False):
        """Refuses requests without a token, and all while draining.

        Args:
            authorization: str or `None`, the header.
            even_draining: bool. Defaults to `False`.
        """
        self.tokens.check(authorization)
        if self.draining and not even_draining:
            raise RequestError(
                503, "The server is stopping. Send the request to another.", 1
            )

    def drain(self):
        """From now on requests are refused; those that wait are hurried."""
        self.draining = True
        self.teacher.hurry()

    def hold(self, size, record):
        """Counts bytes of a body that are being kept.

        Args:
            size: int.
            record: `RequestRecord` of the request.

        Raises:
            RequestError: the request is too large, or all of them are.
        """
        record.bytes += size
        self._bytes_held += size
        if record.bytes > self.limits.max_request_bytes:
            raise RequestError(
                413,
                f"Expected a body of at most {self.limits.max_request_bytes} "
                "bytes. Received more. Send fewer rows.",
            )
        if self._bytes_held > self.limits.max_bytes_in_flight:
            raise RequestError(
                429, "Too many requests are being read. Try again later.", 1
            )

    def release(self, record):
        """Forgets the bytes of a request that was answered."""
        self._bytes_held -= record.bytes
        record.bytes = 0

    def find(self, name, version=None):
        """The teacher that a client means.

        Args:
            name: str, the model's name.
            version: str or `None` for whichever is served.
        """
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

    async def answer(self, teacher, x, record):
        """Answers rows, and counts them.

        Args:
            teacher: `ServedTeacher`, as `find` returned it.
            x: array-like, or dict of input name to array-like.
            record: `RequestRecord` of the request.

        Returns:
            float32 array `(rows, classes)`.
        """
        inputs = teacher.check(x)
        rows = len(next(iter(inputs.values())))
        seen = record.edge_rows
        if seen is not None and seen < rows:
            raise RequestError(
                400,
                f"Expected '{EDGE_ROWS}' to count the request's {rows} rows "
                f"among those the edge has seen. Received: {seen}.",
            )
        logits = await teacher.logits(inputs)
        record.rows = rows
        return logits

    def metadata(self):
        """The model's metadata, as Open Inference Protocol v2 names it."""
        teacher = self.teacher
        return {
            "name": self.name,
            "versions": [teacher.version],
            "platform": "tensorflow_savedmodel",
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
                    "shape": [-1, len(teacher.classes)],
                }
            ],
        }

"""Teacher of one bundle version, loaded, with its own batching queue."""

import math

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.inputs import TEXT, RangeCheck, prepare_inputs
from keras_cascade.runtime.teachers.local_teacher import (
    is_onnx,
    local_teacher,
)
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES
from keras_cascade.serving.attached_teacher import AttachedTeacher
from keras_cascade.serving.batcher import Batcher
from keras_cascade.serving.request_error import RequestError, too_many_rows
from keras_cascade.serving.server_log import log
from keras_cascade.utils.answer_form import fits

#: What runs a teacher, in the words of Triton.
SAVED_MODEL, ONNX_PLATFORM = "tensorflow_savedmodel", "onnxruntime_onnx"
BYTES_PER_REQUEST = 64 * 1024
BYTES_PER_ROW = 256
BYTES_PER_VALUE = 64


class LoadedTeacher:
    """Checks inputs and computes their logits, in batches.

    Use `LoadedTeacher.load(bundle, limits, metrics)`.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        run: function from dict of input name to array, to logits.
        limits: `Limits`.
        metrics: `ServerMetrics`.
        identity: str. Defaults to `None`: the bundle's `teacher_identity`.
        platform: str, what runs the teacher, in words of Open Inference v2.
            Defaults to `"tensorflow_savedmodel"`.

    Attributes:
        identity: str, that answers state.
        platform: str.
        inputs: list of the teacher's inputs, as in the manifest.
        classes: list of str.
        form: `AnswerForm` of the answers.
        output: str, the output's name.
        max_rows: int, of one request.
        max_request_bytes: int, of one request, as JSON or in binary.
        version: str, such as `"1"`: the last part of the SavedModel's path.
        manifest_sha256: str, of the manifest that lists its files.
        device_files: dict of path to bytes of the bundle's files for devices,
            where the web page is served.
    """

    def __init__(
        self, bundle, run, limits, metrics, identity=None, platform=SAVED_MODEL
    ):
        teacher = bundle.manifest.get("teacher") or {}
        described = teacher or bundle.remote_teacher
        self.identity = identity or bundle.teacher_identity
        self.platform = platform
        self.inputs = bundle.teacher_inputs
        self.classes, self.form = bundle.classes, bundle.answer_form
        self.output = described.get("output", "logits")
        self.version = bundle.teacher_folder.name if teacher else "1"
        self.manifest_sha256 = bundle.manifest_sha256
        self.device_files = {}
        self.max_rows = limits.max_batch
        self.max_request_bytes = _max_bytes(self.inputs, limits)
        self._tokenizer = teacher.get("text", {}).get("sha256")
        self._ranges = RangeCheck(self.inputs)
        self._batcher = Batcher(run, limits, metrics)

    @classmethod
    def load(
        cls,
        bundle,
        limits,
        metrics,
        allow_file_operations=False,
        teacher=None,
    ):
        """Loads a bundle's teacher and runs it once per batch size 1 and 2.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.
            limits: `Limits`.
            metrics: `ServerMetrics`.
            allow_file_operations: bool, as in `SavedModelTeacher.of`.
                Defaults to `False`.
            teacher: `keras_cascade.teachers.Teacher`, for a bundle that was
                exported with it and cannot hold it. Defaults to `None`.

        Raises:
            BundleError: the bundle cannot be served, or `teacher` is not the
                one that it was exported with.
            TeacherError: its SavedModel cannot be loaded.
        """
        if teacher is None and bundle.teacher_folder is None:
            raise BundleError(bundle.lacks_teacher())
        for spec in bundle.teacher_inputs:
            if spec["dtype"] not in V2_TYPES:
                raise BundleError(
                    f"Expected inputs of a type out of {list(V2_TYPES)}. "
                    f"Received: '{spec['name']}' of {spec['dtype']} in the "
                    f"bundle '{bundle.path}', which cannot be served."
                )
        if teacher is not None:
            attached = AttachedTeacher(teacher, bundle)
            return cls(
                bundle,
                attached.logits,
                limits,
                metrics,
                attached.identity,
                attached.platform,
            )
        teacher = local_teacher(bundle, allow_file_operations)
        # Traces and warms the graph, and shows that it takes any batch size.
        for rows in (1, 2):
            _check_logits(bundle, teacher, rows)
        onnx = is_onnx(bundle)
        run = _blaming_inputs(teacher, onnx)
        platform = ONNX_PLATFORM if onnx else SAVED_MODEL
        return cls(bundle, run, limits, metrics, platform=platform)

    def same_task(self, other):
        """Returns `True` if classes, inputs and tokenizer are the same.

        The tokenizer, because the token ids that a client sends come from
        the client's own copy of it.

        Args:
            other: `LoadedTeacher`.
        """
        return self._task() == other._task()

    def _task(self):
        inputs = [
            (one["name"], one["shape"], one["dtype"]) for one in self.inputs
        ]
        return self.classes, self.form, inputs, self._tokenizer

    def check(self, x):
        """Checks a request's inputs and converts them to arrays.

        Args:
            x: array-like, or dict of input name to array-like, rows first.

        Returns:
            Dict of input name to array.

        Raises:
            RequestError: they do not fit the manifest, or are too many.
        """
        # Before the conversion, which takes time for each row.
        rows = _max_length(x)
        if rows > self.max_rows:
            raise too_many_rows(rows, self.max_rows)
        try:
            inputs = prepare_inputs(x, self.inputs, allow_single=False)
        except (ValueError, OverflowError, RecursionError) as error:
            raise RequestError(400, str(error)) from None
        if self._ranges(inputs) is not None:
            # Without the values: the log holds no content of requests.
            log(
                "warning",
                "input_range",
                problem="a request's inputs are far outside of the manifest's "
                "ranges; this is said once",
            )
        return inputs

    def check_room(self, deadline):
        """Raises for a request that would wait too long; see `Batcher`."""
        self._batcher.check_room(deadline)

    async def logits(self, inputs, deadline=None, gone=None, client=None):
        """Computes the logits of checked inputs.

        Args:
            inputs: dict, as `check` returned it.
            deadline: see `Batcher`. Defaults to `None`.
            gone: see `Batcher`. Defaults to `None`.
            client: see `Batcher`. Defaults to `None`.

        Returns:
            float32 array `(rows, classes)`, finite; of another task in its
            shape.

        Raises:
            RequestError: the queue is full, or the teacher's logits of
                these values are not finite.
        """
        logits = await self._batcher(inputs, deadline, gone, client)
        logits = np.ascontiguousarray(logits, "float32")
        finite = np.isfinite(logits).reshape(len(logits), -1).all(axis=1)
        rows = np.flatnonzero(~finite)
        if rows.size and self.platform == AttachedTeacher.platform:
            raise RequestError(
                400,
                f"The teacher has no answer to row {rows[0]} of {list(inputs)}."
                " Expected: values in the range of those that it was trained "
                "on; an LLM may decline a text.",
            )
        if rows.size:
            raise RequestError(
                400,
                "Expected values in the range of those the teacher was "
                f"trained on. Received a row, number {rows[0]}, whose "
                f"inputs {list(inputs)} lead to NaN or infinity.",
            )
        return logits

    def flush(self):
        """Runs queued requests at once, and later ones without delay."""
        self._batcher.flush()

    async def close(self):
        """Runs all queued requests, then ends the worker thread."""
        await self._batcher.close()


def _blaming_inputs(teacher, onnx):
    """Returns `teacher.logits`; inputs that are invalid are the client's error.

    The graph has run on examples, so inputs that it calls invalid are the
    client's: a token id outside of the vocabulary, most of all. The manifest
    has the range of the calibration data, within the vocabulary's own. An
    ONNX file says so by a `TeacherError`, without TensorFlow.
    """
    invalid: tuple = (TeacherError,)
    if not onnx:
        import tensorflow as tf

        invalid = tf.errors.InvalidArgumentError, tf.errors.OutOfRangeError

    def logits(inputs):
        try:
            return teacher.logits(inputs)
        except invalid as error:
            message = getattr(error, "message", error)
            reason = " ".join(str(message).split())[:200]
            raise RequestError(
                400,
                f"Expected values of {list(inputs)} that the teacher can "
                "take, such as ids within its vocabulary. Received others: "
                f"{reason}.",
            ) from error

    return logits


def _max_bytes(specs, limits):
    """Returns the size of the largest request, from the manifest.

    Per value 64 bytes: 24 digits of a float64, a comma, brackets, and the
    white space of indented JSON. Inputs of a free size, and texts, have no
    bound but `Limits.max_request_bytes`, which bounds the others too.
    """
    if any(
        spec["dtype"] == TEXT or None in spec["shape"][1:] for spec in specs
    ):
        return limits.max_request_bytes
    row = sum(
        BYTES_PER_ROW + BYTES_PER_VALUE * math.prod(spec["shape"][1:])
        for spec in specs
    )
    size = BYTES_PER_REQUEST + limits.max_batch * row
    return min(size, limits.max_request_bytes)


def _max_length(x):
    columns = x.values() if isinstance(x, dict) else [x]
    return max(
        (
            len(one)
            for one in columns
            if isinstance(one, list)
            or (isinstance(one, np.ndarray) and one.ndim)
        ),
        default=0,
    )


def _check_logits(bundle, teacher, rows):
    examples = {
        spec["name"]: _example(spec, rows) for spec in bundle.teacher_inputs
    }
    shape = np.shape(teacher.logits(examples))
    expected = rows, *bundle.answer_form.sizes
    if not fits(shape, expected):
        raise BundleError(
            f"Expected logits of shape {expected} from the teacher of "
            f"'{bundle.path}'. Received: {shape}."
        )


def _example(spec, rows):
    shape = [rows, *(size or 1 for size in spec["shape"][1:])]
    if spec["dtype"] == TEXT:
        return np.full(shape, "text", object)
    return np.zeros(shape, spec["dtype"])

"""One bundle's teacher at work: loaded, warm, with a queue of its own."""

import numpy as np

from keras_cascade.bundle import BundleError
from keras_cascade.runtime.inputs import TEXT, prepare_inputs
from keras_cascade.runtime.teachers.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.teachers.v2_tensors import V2_TYPES
from keras_cascade.serving.batcher import Batcher
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.tensors import too_many_rows


class ServedTeacher:
    """Answers checked rows with logits.

    Use `ServedTeacher.load(bundle, limits, metrics)`.

    Args:
        bundle: `keras_cascade.bundle.Bundle` with a teacher.
        run: function from dict of input name to array to logits.
        limits: `Limits`.
        metrics: `ServerMetrics`.

    Attributes:
        inputs: list of what the SavedModel takes, as in the manifest.
        classes: list of str.
        output: str, the output's name.
        max_rows: int, of one request.
        version: str, such as `"1"`: the last part of the SavedModel's path.
    """

    def __init__(self, bundle, run, limits, metrics):
        self.inputs = bundle.teacher_inputs
        self.classes = bundle.classes
        self.output = bundle.manifest["teacher"]["output"]
        self.version = bundle.teacher_folder.name
        self.max_rows = limits.max_batch
        text = bundle.manifest["teacher"].get("text", {})
        self._tokenizer = text.get("sha256")
        self._batcher = Batcher(run, limits, metrics)

    @classmethod
    def load(cls, bundle, limits, metrics):
        """Loads a bundle's teacher and runs it.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.
            limits: `Limits`.
            metrics: `ServerMetrics`.

        Raises:
            BundleError: the bundle cannot be served.
            TeacherError: its SavedModel cannot be loaded.
        """
        if bundle.teacher_folder is None:
            raise BundleError(
                f"The bundle '{bundle.path}' holds no teacher to serve."
            )
        for spec in bundle.teacher_inputs:
            if spec["dtype"] not in V2_TYPES:
                raise BundleError(
                    f"Expected inputs of a type out of {list(V2_TYPES)}. "
                    f"Received: '{spec['name']}' of {spec['dtype']} in the "
                    f"bundle '{bundle.path}', which cannot be served."
                )
        teacher = SavedModelTeacher(
            bundle.teacher_folder, bundle.manifest["teacher"]["output"]
        )
        for rows in (1, 2):  # warm, and taking any number of rows
            _check_answer(bundle, teacher, rows)
        return cls(bundle, teacher.logits, limits, metrics)

    def same_task(self, other):
        """Whether another teacher's answers mean the same to a client.

        The token ids that a client sends come from its own copy of the
        teacher's tokenizer, so that must be the same too.
        """
        return self._task() == other._task()

    def _task(self):
        inputs = [
            (one["name"], one["shape"], one["dtype"]) for one in self.inputs
        ]
        return self.classes, inputs, self._tokenizer

    def check(self, x):
        """Brings a request's inputs into the form the teacher takes.

        Args:
            x: array-like, or dict of input name to array-like, rows first.

        Returns:
            Dict of input name to array.

        Raises:
            RequestError: they do not fit the manifest, or are too many.
        """
        # Before each of them is looked at.
        rows = _most_rows(x)
        if rows > self.max_rows:
            raise too_many_rows(rows, self.max_rows)
        try:
            return prepare_inputs(x, self.inputs, allow_single=False)
        except (ValueError, OverflowError, RecursionError) as error:
            raise RequestError(400, str(error)) from None

    async def logits(self, inputs):
        """Answers checked inputs.

        Args:
            inputs: dict, as `check` returned it.

        Returns:
            float32 array `(rows, classes)`, finite.

        Raises:
            RequestError: the queue is full, or the values lie where the
                teacher computes no finite answer.
        """
        logits = await self._batcher(inputs)
        logits = np.ascontiguousarray(logits, "float32")
        wrong = np.flatnonzero(~np.isfinite(logits).all(axis=-1))
        if wrong.size:
            raise RequestError(
                400,
                "Expected values in the range of those the teacher was "
                f"trained on. Received a row, number {wrong[0]}, whose "
                f"inputs {list(inputs)} lead to NaN or infinity.",
            )
        return logits

    def hurry(self):
        """From now on no request waits for others."""
        self._batcher.hurry()

    async def close(self):
        """Answers what is waiting, then takes no more."""
        await self._batcher.close()


def _most_rows(x):
    columns = x.values() if isinstance(x, dict) else [x]
    many = [one for one in columns if isinstance(one, (list, np.ndarray))]
    return max(map(len, many), default=0)


def _check_answer(bundle, teacher, rows):
    examples = {
        spec["name"]: _example(spec, rows) for spec in bundle.teacher_inputs
    }
    found = np.shape(teacher.logits(examples))
    if found != (rows, len(bundle.classes)):
        raise BundleError(
            f"Expected logits of shape {(rows, len(bundle.classes))} from the "
            f"teacher of '{bundle.path}'. Received: {found}."
        )


def _example(spec, rows):
    shape = [rows, *(size or 1 for size in spec["shape"][1:])]
    if spec["dtype"] == TEXT:
        return np.full(shape, "text", object)
    return np.zeros(shape, spec["dtype"])

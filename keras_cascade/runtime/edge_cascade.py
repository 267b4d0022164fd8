"""The cascade on the device."""

import os

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.numpy_softmax import numpy_softmax
from keras_cascade.runtime.believed import believed_logits
from keras_cascade.runtime.edge_prediction import EdgePrediction
from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.rest_teacher import RestTeacher
from keras_cascade.runtime.saved_model_teacher import SavedModelTeacher
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.teacher_error import TeacherError

ON_FAILURE = ("answer", "abstain", "raise")


class EdgeCascade:
    """A bundle at work: the student here, the teacher where it lives.

    Use `EdgeCascade.load(path, teacher=...)`. Safe to call from several
    threads.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        teacher: object with `logits(inputs)`, or `None`.
        on_failure: what becomes of delegated rows when the teacher cannot
            answer: `"answer"` (the student's answer, marked
            `"edge_fallback"`), `"abstain"` (label -1) or `"raise"`.
        num_threads: int, threads inside one interpreter. Defaults to `1`.
    """

    def __init__(self, bundle, teacher, on_failure="answer", num_threads=1):
        if on_failure not in ON_FAILURE:
            raise ValueError(
                f"Expected `on_failure` out of {list(ON_FAILURE)}. "
                f"Received: {on_failure!r}."
            )
        self.bundle = bundle
        self.teacher = teacher
        if teacher is not None and not hasattr(teacher, "logits"):
            raise ValueError(
                "Expected `teacher` to be a URL, 'local', a path, an object "
                f"with `logits(inputs)` or None. Received: {teacher!r}."
            )
        self.on_failure = on_failure
        self._student = StudentInterpreter(bundle.student_file, num_threads)
        self._student.check(bundle.inputs, len(bundle.classes))

    @classmethod
    def load(
        cls, path, teacher=None, on_failure="answer", timeout=10.0,
        num_threads=1,
    ):  # fmt: skip
        """Opens a bundle, after checking every file against its manifest.

        Args:
            path: folder of the bundle.
            teacher: URL of a served teacher (TensorFlow Serving's REST
                form); `"local"` for the bundle's own SavedModel in this
                process; the path of another SavedModel; an object with
                `logits(inputs)`; or `None`. Defaults to `None`.
            on_failure: `"answer"`, `"abstain"` or `"raise"`. Defaults to
                `"answer"`.
            timeout: float, seconds without progress before a request to a
                URL fails. Defaults to `10.0`.
            num_threads: int, threads inside one interpreter. Defaults to
                `1`.

        Raises:
            BundleError: a file is missing or altered.
            TeacherError: a local teacher cannot be loaded.
        """
        bundle = Bundle.load(path)
        if isinstance(teacher, (str, os.PathLike)):
            teacher = _teacher_from(os.fspath(teacher), bundle, timeout)
        return cls(bundle, teacher, on_failure, num_threads)

    def predict(self, x):
        """Answers one example or a batch.

        Args:
            x: array, or dict of input name to array, with the shapes of the
                manifest; the batch axis may be left out for one example.

        Returns:
            `EdgePrediction`.

        Raises:
            ValueError: the inputs do not fit the manifest.
            TeacherError: with `on_failure="raise"`.
        """
        inputs = prepare_inputs(x, self.bundle.inputs)
        outputs = self._student.run(inputs)
        probabilities = outputs["probabilities"].astype("float32", copy=True)
        labels = probabilities.argmax(axis=-1)
        delegated = np.flatnonzero(outputs["delegate"])
        source = np.full(len(labels), "edge", dtype="<U13")
        error = None
        if delegated.size:
            try:
                answer = self._ask({k: v[delegated] for k, v in inputs.items()})
            except TeacherError as caught:
                if self.on_failure == "raise":
                    raise
                error = str(caught)
                if self.on_failure == "abstain":
                    source[delegated] = "abstained"
                    labels[delegated] = -1
                else:
                    source[delegated] = "edge_fallback"
            else:
                source[delegated] = "cloud"
                probabilities[delegated] = answer
                labels[delegated] = answer.argmax(axis=-1)
        return EdgePrediction(
            labels=labels,
            probabilities=probabilities,
            score=outputs["score"],
            source=source,
            classes=self.bundle.classes,
            teacher_error=error,
        )

    def predict_alone(self, x):
        """The student's answers on every row, whatever the gate says.

        Args:
            x: as in `predict`.

        Returns:
            `EdgePrediction` with every `source` `"edge"`.
        """
        outputs = self._student.run(prepare_inputs(x, self.bundle.inputs))
        labels = outputs["probabilities"].argmax(axis=-1)
        return EdgePrediction(
            labels=labels,
            probabilities=outputs["probabilities"],
            score=outputs["score"],
            source=np.full(len(labels), "edge", dtype="<U13"),
            classes=self.bundle.classes,
        )

    def close(self):
        """Closes the teacher's connections."""
        if hasattr(self.teacher, "close"):
            self.teacher.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _ask(self, inputs):
        if self.teacher is None:
            raise TeacherError("This cascade was loaded without a teacher.")
        rows = len(next(iter(inputs.values())))
        logits = believed_logits(
            self.teacher.logits(inputs), rows, len(self.bundle.classes)
        )
        return numpy_softmax(logits).astype("float32")


def _teacher_from(where, bundle, timeout):
    if "://" in where:
        output = (bundle.manifest.get("teacher") or {}).get("output", "logits")
        return RestTeacher(where, len(bundle.classes), output, timeout)
    if where != "local":
        return SavedModelTeacher(where)
    if bundle.teacher_folder is None:
        raise TeacherError(f"The bundle '{bundle.path}' holds no teacher.")
    return SavedModelTeacher(bundle.teacher_folder)

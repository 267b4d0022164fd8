"""A teacher object, served for a bundle that does not hold its teacher."""

from keras_cascade.bundle import BundleError
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity
from keras_cascade.serving.request_error import RequestError
from keras_cascade.serving.server_log import log


class AttachedTeacher:
    """The teacher that a bundle was exported with, proven to be it.

    It is the one whose identity the manifest states; or one that answers the
    manifest's probe rows alike, as the same pipeline does under another
    version of scikit-learn.

    Args:
        teacher: `keras_cascade.teachers.Teacher`.
        bundle: `keras_cascade.bundle.Bundle` without a teacher of its own.

    Attributes:
        identity: str, that answers state.

    Raises:
        BundleError: the bundle holds a teacher, or was exported with another
            one.
    """

    platform = "python"

    def __init__(self, teacher, bundle):
        if bundle.manifest.get("teacher") is not None:
            raise BundleError(
                "Expected a bundle that was exported with a teacher which it "
                f"cannot hold, to go with `teacher`. Received: '{bundle.path}',"
                " which has its own. Serve it without `teacher`."
            )
        self.identity = _proven_identity(teacher, bundle)
        self._teacher = teacher
        self._classes = len(bundle.classes)

    def logits(self, inputs):
        """Computes the logits of a batch.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            float32 array `(rows, classes)`; rows without an answer are NaN.

        Raises:
            RequestError: 400 where the teacher refuses these inputs; 503
                where it does not answer, as an endpoint may.
        """
        try:
            logits = self._teacher.logits(inputs)
        except TeacherError as error:
            if error.about_input:
                raise RequestError(
                    400,
                    f"Expected values of {list(inputs)} that the teacher can "
                    "take. Received others.",
                ) from error
            log("error", "teacher_failed", why=str(error))
            raise RequestError(
                503, "The teacher of this server does not answer.", 1
            ) from error
        if logits.shape[1] != self._classes:
            raise ValueError(
                f"Expected logits over {self._classes} classes from "
                f"{self._teacher.describe()}. Received: {logits.shape[1]}."
            )
        return logits


def _proven_identity(teacher, bundle):
    """Identity of the bundle's teacher, where `teacher` is that."""
    expected = bundle.teacher_identity
    own = teacher.served_identity(bundle.classes)
    if expected is not None and own == expected:
        return expected
    proof = TeacherIdentity.of_bundle(bundle, "probe")
    if not proof.probes:
        stated = "none" if expected is None else f"{expected[:12]}..."
        raise BundleError(
            f"Expected the teacher that '{bundle.path}' was exported with, "
            f"{bundle.remote_teacher.get('kind')}, of the identity {stated}. "
            f"Received: {teacher.describe()}, of another one. Pass it as at "
            "the export, with the same arguments, or export the bundle with "
            "this teacher."
        )
    try:
        logits = teacher.logits(proof.probe_inputs())
        proof.check_probes([logits], teacher.describe())
    except TeacherError as error:
        raise BundleError(str(error)) from error
    identity = expected or own
    if identity is None:
        raise BundleError(
            f"Expected a teacher with an identity to serve for '{bundle.path}'."
            f" Received: {teacher.describe()}, whose own server states none."
        )
    return identity

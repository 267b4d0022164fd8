"""Checks that a teacher is the one that a bundle was exported with."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
import warnings

import numpy as np

from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.probe_rows import probe_inputs
from keras_cascade.runtime.teachers.remote_teacher import (
    numbers_of,
    validate_logits,
)
from keras_cascade.utils.answer_form import fits

MODES = ("required", "probe", "off")
#: Seconds for which a connection that answered the probe rows is trusted. The
#: model behind a proxy, or in a server that reloads it, can change without a
#: new connection.
PROOF_SECONDS = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Proof:
    """A connection's answers to the probe rows were the teacher's.

    Attributes:
        version: str or `None`, of the model that the server stated.
        status: bytes or `None`, the model's status at that time.
        exchanges: int, of the connection until then.
        time: float, `time.monotonic()` at that time.
    """

    version: object
    status: bytes | None = None
    exchanges: int = 0
    time: float = dataclasses.field(default_factory=lambda: time.monotonic())

    def holds(self, version: str | None) -> bool:
        """Returns `True` where it is recent and of the same version."""
        age = time.monotonic() - self.time
        return version == self.version and age < PROOF_SECONDS


class TeacherIdentity:
    """Identity that a teacher must have, stated by it or shown by its answers.

    `keras-cascade serve` states its teacher's identity in each answer. Other
    servers are asked about probe rows, whose logits are in the manifest.

    Args:
        mode: `"required"` (the server must state it), `"probe"` (a server
            that does not is checked by probe rows) or `"off"`.
        expected: str or `None`, `Bundle.teacher_identity`.
        inputs: list of the teacher's inputs, as in the manifest.
        probes: dict, the `probes` of the manifest's `teacher` or
            `remote_teacher`, or `None`. Defaults to `None`.

    Raises:
        ValueError: another mode, or a bundle without a teacher where the
            identity is required.
    """

    def __init__(
        self,
        mode: str,
        expected: str | None,
        inputs: list[dict],
        probes: dict | None = None,
    ):
        if mode not in MODES:
            raise ValueError(
                f"Expected `teacher_identity` out of {list(MODES)}. Received: "
                f"{mode!r}."
            )
        if expected is None and mode == "required":
            raise ValueError(
                "Expected a bundle whose manifest knows its teacher's identity"
                " for `teacher_identity='required'`. Received one without."
            )
        self.off = mode == "off" or (expected is None and not probes)
        self._required = mode == "required"
        self._expected = expected or ""
        self._inputs = inputs
        self._all_probes = probes or {}
        self._warned = False
        self._lock = threading.Lock()

    @classmethod
    def of_bundle(cls, bundle: Bundle, mode: str) -> TeacherIdentity:
        """Identity of a bundle's teacher.

        Raises:
            BundleError: its probe rows do not fit its inputs and classes.
        """
        teacher = bundle.manifest.get("teacher") or bundle.remote_teacher
        identity = cls(
            mode,
            bundle.teacher_identity,
            bundle.teacher_inputs,
            teacher.get("probes"),
        )
        if identity.probes:
            identity._check_form(bundle)
        return identity

    @property
    def probes(self) -> bool:
        """`True` where answers without a stated identity need a proof."""
        if self.off or self._required:
            return False
        return bool(self._all_probes)

    def matches(self, stated: str | None, where: str) -> bool:
        """Compares the identity that an answer states.

        Args:
            stated: str, or `None` of an answer that states none.
            where: str, the teacher's URL or folder, for errors.

        Returns:
            `True` where it is the expected one, and where none is expected;
            `False` of an answer that states none.

        Raises:
            TeacherError: another one, or none where it is required.
        """
        if self.off:
            return True
        if not self._expected:  # none was stated at export: probe rows tell
            return False
        if stated is None:
            if self._required:
                raise TeacherError(
                    f"Expected the teacher at {where} to state its identity, "
                    f"{self._expected[:12]}..., since "
                    "`teacher_identity='required'`. Received an answer "
                    "without. Serve the bundle's teacher with `keras-cascade "
                    "serve`, or pass `teacher_identity='probe'`.",
                    stranger=True,
                )
            if not self._all_probes:
                self._warn(where)
            return False
        if stated != self._expected:
            raise TeacherError(
                f"The teacher at {where} is not the bundle's. Expected: the "
                f"identity {self._expected[:12]}... of the manifest. Received: "
                f"{stated[:12]}.... Serve this bundle's teacher there, or load "
                "the bundle of the teacher that is served.",
                stranger=True,
            )
        return True

    def probe_inputs(self) -> dict[str, np.ndarray]:
        """Returns the probe rows, as inputs of the teacher."""
        probes = self._all_probes
        return probe_inputs(
            self._inputs, probes["seed"], probes["rows"], probes["shapes"]
        )

    def check_probes(self, answers: list, where: str) -> None:
        """Compares answers to the probe rows with the manifest's.

        Args:
            answers: list of array-likes, which together are the logits of all
                probe rows.
            where: str, the teacher's URL or folder, for the error.

        Raises:
            TeacherError: they differ by more than the tolerance.
        """
        expected = self._probe_logits
        tolerance = self._all_probes["tolerance"]
        try:
            logits = np.concatenate(
                [np.asarray(numbers_of(one, expected.ndim)) for one in answers]
            )
            logits = validate_logits(logits, len(expected), expected.shape[1:])
            gap = float(np.abs(logits - expected).max())
            received = f"by {gap:.3g}"
        except (TeacherError, TypeError, ValueError) as error:
            gap, received = np.inf, str(error)
        if not gap <= tolerance:
            raise TeacherError(
                f"The teacher at {where} is not the bundle's: its logits of "
                "the manifest's probe rows differ. Expected: by at most "
                f"{tolerance:.3g}. Received: {received}. Serve this bundle's "
                "teacher there, or load the bundle of the teacher that is "
                "served.",
                stranger=True,
            )

    def _check_form(self, bundle):
        probes = self._all_probes
        names = {spec["name"] for spec in self._inputs}
        sizes = bundle.answer_form.sizes
        try:
            shape = self._probe_logits.shape
        except (TypeError, ValueError):  # rows of different lengths
            shape = ()
        if (
            not fits(shape, (probes["rows"], *sizes))
            or set(probes["shapes"]) != names
        ):
            raise BundleError(
                f"The probe rows of '{bundle.path}' do not fit its teacher's "
                "inputs and classes. Export the bundle again."
            )

    @functools.cached_property
    def _probe_logits(self):
        return np.array(self._all_probes["logits"], "float64")

    def _warn(self, where):
        with self._lock:
            warned, self._warned = self._warned, True
        if not warned:
            warnings.warn(
                f"The teacher at {where} does not state its identity, and the "
                "bundle, exported without probe rows, cannot tell it from "
                "another teacher. Export the bundle again, or serve its "
                "teacher with `keras-cascade serve`.",
                stacklevel=2,
            )

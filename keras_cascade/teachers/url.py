"""A teacher behind a URL."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from keras_cascade.errors import TeacherError
from keras_cascade.runtime.teachers.answers import CLIP, logits_of_answers
from keras_cascade.runtime.teachers.teacher_at import teacher_at
from keras_cascade.runtime.teachers.teacher_caller import TeacherCaller
from keras_cascade.runtime.teachers.teacher_identity import TeacherIdentity
from keras_cascade.teachers.teacher import SINGLE_INPUT, Teacher


class Url(Teacher):
    """Served model, by the runtime's own clients.

    TensorFlow Serving's REST form, Open Inference Protocol v2 over HTTP and
    gRPC; with retries and a circuit breaker, as on a device. A saved cascade
    holds the URL. A bundle names it, and the identity that its answers
    state; it holds no token.

    Args:
        url: str, as `EdgeCascade.load(teacher=...)` takes it.
        classes: int, how many classes it answers over.
        identity: str, the identity that its answers must state, as
            `Bundle.teacher_identity` has it. Defaults to `None`: any, but
            always the same one.
        output: str, the model's output name. Defaults to `"logits"`.
        outputs: of `Teacher`. Defaults to `"logits"`.
        clip: of `Teacher`. Defaults to `1e-7`.
        timeout: float, seconds for one request. Defaults to `10.0`.
        token: str, sent as `Authorization: Bearer`; never saved. Defaults to
            `None`.
        ca_file: path of PEM certificates to trust. Defaults to `None`.
        retries: int, attempts after the first. Defaults to `2`.

    Example:

    ```python
    teacher = kc.teachers.Url("http://10.0.0.1:8501/v1/models/teacher", 10)
    cascade = kc.Cascade(teacher, student)
    ```
    """

    def __init__(
        self,
        url: str,
        classes: int,
        identity: str | None = None,
        output: str = "logits",
        outputs: str = "logits",
        clip: float = CLIP,
        timeout: float = 10.0,
        token: str | None = None,
        ca_file: str | os.PathLike | None = None,
        retries: int = 2,
    ) -> None:
        super().__init__(outputs, clip)
        self.url = url
        self.classes = classes
        self.output = output
        self.timeout = timeout
        self._stated = StatedIdentity(identity)
        self._teacher = teacher_at(
            url,
            classes,
            output,
            timeout,
            token=token,
            ca_file=ca_file,
            identity=self._stated,
        )
        self._caller = TeacherCaller(self._teacher, classes, retries)

    @property
    def stated_identity(self) -> str | None:
        """Identity that its answers stated; `None` before the first."""
        return self._stated.seen

    def answers(self, inputs: Any) -> np.ndarray:
        named = inputs if isinstance(inputs, dict) else {SINGLE_INPUT: inputs}
        return self._caller.logits(
            {name: np.asarray(one) for name, one in named.items()}
        )

    def logits(self, inputs: Any) -> np.ndarray:
        logits = logits_of_answers(
            self.answers(inputs), self.outputs, self.clip
        )
        self._check(logits)
        return logits

    def describe(self) -> str:
        return f"the teacher at {self.url}"

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "url": self.url,
            "classes": self.classes,
            "identity": self._stated.seen,
            "output": self.output,
            "timeout": self.timeout,
        }

    def identity(self) -> str:
        if self._stated.seen is None:
            try:
                self._teacher.check()  # its answer may state the identity
            except TeacherError as error:
                if not error.refused:
                    raise
        # The same model on another machine has the same answers.
        what = self._stated.seen or self.url
        return hashlib.sha256(
            f"{what} {self.output} {self.outputs} {self.clip}".encode()
        ).hexdigest()

    @classmethod
    def restored(cls, config: dict[str, Any]) -> Teacher:
        return cls(**config)

    def elsewhere(self) -> dict[str, Any]:
        # A device reads logits: `serve` with this object hands them out.
        url = self.url if self.outputs == "logits" else None
        return {"kind": "Url", "url": url, "output": self._served_output()}

    def served_identity(self, classes: list[str]) -> str | None:
        """Returns the identity that its server states; `None` of none.

        Of a server of probabilities that of the one that makes logits of
        them.

        Args:
            classes: list of str; the server's identity has them already.
        """
        if self.outputs == "logits":
            return self._stated.seen
        return super().served_identity(classes)

    @property
    def takes_probes(self) -> bool:  # type: ignore[override]
        """`True` where its server states no identity."""
        return self._stated.seen is None

    def _served_output(self):
        return self.output if self.outputs == "logits" else "logits"

    def close(self) -> None:
        """Closes the connections."""
        self._teacher.close()


class StatedIdentity(TeacherIdentity):
    """Identity of a teacher by its own statement, the same in every answer.

    Args:
        expected: str, or `None`: the first that is stated.

    Attributes:
        seen: str or `None`, the identity that was stated or is expected.
    """

    def __init__(self, expected: str | None) -> None:
        super().__init__("probe", expected, [])
        self.off = False
        self.required = expected is not None
        self.seen = expected

    def matches(self, stated: str | None, where: str) -> bool:
        """Compares a stated identity with the expected, or the first."""
        if stated is None and not self.required:
            return True
        if self.seen is None:
            self.seen = stated
        if stated != self.seen:
            raise TeacherError(
                f"Expected the teacher at {where} to state the identity "
                f"{str(self.seen)[:12]}.... Received: "
                f"{'none' if stated is None else stated[:12] + '...'}. "
                "Another teacher answers there: make a new `Url` for it, and "
                "new caches of its logits.",
                stranger=True,
            )
        return True

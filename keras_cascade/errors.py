"""Every error class of the public API.

All of them derive from `KerasCascadeError`, and from the built-in exception
that a caller without keras_cascade's names would catch:

    KerasCascadeError
    ├── BundleError (ValueError)            a bundle that cannot be used
    ├── ExportError (RuntimeError)          a model that cannot be exported
    ├── TeacherError (RuntimeError)         no validated answer of a teacher
    │   └── QueueError                      rows cannot be queued or sent
    └── UndefinedMetricError (ValueError)   a metric without a value

Wrong arguments raise Python's own `ValueError` and `TypeError`.
"""

__all__ = [
    "BundleError",
    "ExportError",
    "KerasCascadeError",
    "QueueError",
    "TeacherError",
    "UndefinedMetricError",
]


def __dir__() -> list[str]:
    return list(__all__)


class KerasCascadeError(Exception):
    """Base class of the errors that only keras_cascade raises."""


class BundleError(KerasCascadeError, ValueError):
    """A bundle is missing, damaged, altered or of a newer version."""


class ExportError(KerasCascadeError, RuntimeError):
    """A model cannot be converted, or its file answers otherwise."""


class TeacherError(KerasCascadeError, RuntimeError):
    """A teacher's answer is missing or failed validation.

    Args:
        message: str, what happened, where, and what to do.
        retryable: bool. The same request may succeed a moment later (no
            connection, timeout, overload). Defaults to `False`.
        retry_after: float or `None`, seconds that the teacher asks to be left
            alone for. Defaults to `None`.
        refused: bool. The teacher works and refuses the request, so this is
            no sign of an outage. Defaults to `False`.
        about_input: bool. It refuses these very inputs. Defaults to `False`.
        invalid_answer: bool. It answered, but the answer failed validation.
            Defaults to `False`.
        identified: bool. The answer was the bundle's own teacher's, as far as
            its identity was checked: its word on a row may be final. Defaults
            to `False`.
        stranger: bool. What answered is another teacher than the bundle's.
            Defaults to `False`.
        not_asked: bool. No request was sent: the circuit is open, or there
            is no teacher. Defaults to `False`.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        refused: bool = False,
        about_input: bool = False,
        invalid_answer: bool = False,
        identified: bool = False,
        stranger: bool = False,
        not_asked: bool = False,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.refused = refused or about_input
        self.about_input = about_input
        self.invalid_answer = invalid_answer
        self.identified = identified
        self.stranger = stranger
        self.not_asked = not_asked


class QueueError(TeacherError):
    """The queue is full, in use by another process, or not readable."""


class UndefinedMetricError(KerasCascadeError, ValueError):
    """A metric has no value on these examples; the message says why.

    The input is not wrong: there is, say, no example that the student gets
    wrong. `summarize` turns it into `None` and keeps the reason.
    """

"""The teacher has no answer that can be used, and why."""


class TeacherError(RuntimeError):
    """Why a teacher's answer is missing or not believed.

    Args:
        message: str, what happened, where, and what to do.
        retryable: bool. The same request may succeed a moment later (no
            connection, time out, overload). Defaults to `False`.
        retry_after: float or `None`, seconds that the teacher asks to be left
            alone for. Defaults to `None`.
        refused: bool. The teacher works and says no, so this is no sign of an
            outage. Defaults to `False`.
        about_input: bool. It says no to these very inputs. Defaults to
            `False`.
        unbelievable: bool. It answered, but not with what was asked for.
            Defaults to `False`.
    """

    def __init__(
        self,
        message,
        *,
        retryable=False,
        retry_after=None,
        refused=False,
        about_input=False,
        unbelievable=False,
    ):
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.refused = refused or about_input
        self.about_input = about_input
        self.unbelievable = unbelievable

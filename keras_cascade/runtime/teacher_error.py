"""The one error of every kind of teacher."""


class TeacherError(RuntimeError):
    """The teacher could not be reached, or its answer cannot be believed."""

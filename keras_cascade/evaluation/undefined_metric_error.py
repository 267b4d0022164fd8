"""The error of a number that these examples do not determine."""


class UndefinedMetricError(ValueError):
    """A metric has no value on these examples; the message says why.

    The input is not wrong: there is, say, no example that the student gets
    wrong. `summarize` turns it into `None` and keeps the reason.
    """

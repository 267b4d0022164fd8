"""Evaluation report: one self-contained HTML page and its numbers."""

from keras_cascade.evaluation.report.page import (
    FILES,
    sampled,
    write_report,
)

__all__ = ["FILES", "sampled", "write_report"]


def __dir__():
    return list(__all__)

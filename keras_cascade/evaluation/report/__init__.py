"""One self-contained page on what a cascade is worth, and its numbers."""

from keras_cascade.evaluation.report.writing import (
    FILES,
    sampled,
    write_report,
)

__all__ = ["FILES", "sampled", "write_report"]

"""One student's file, run over labelled examples."""

import numpy as np

from keras_cascade.evaluation.delegated_at import delegated_at
from keras_cascade.evaluation.example_results import ExampleResultsBuilder
from keras_cascade.export.same_answers import BATCH_SIZES, TOLERANCE

COMPARED = ("probabilities", "score")


class FileRun:
    """Collects what one file of a student answers.

    Args:
        name: str, the file's name.
        student: object with `run(inputs)`.
        point: dict, the manifest's operating point of the file.
        verification: dict, the manifest's entry for the file.

    Attributes:
        gap: float, how far the answers at other batch sizes are from those
            in a large batch, in units of what is accepted.
        wrong: int, decisions that are not those of `score < threshold`.
    """

    def __init__(self, name, student, point, verification):
        self.name = name
        self.point = point
        self.gap = None
        self.wrong = 0
        self._student = student
        # Rounding to few bits may turn the last bit of a sum into a step.
        self._accepted = {
            "probabilities": verification["max_probability_difference"],
            "score": verification["max_score_difference"],
        }
        self._columns = ExampleResultsBuilder()

    def add(self, inputs, y, teacher_probabilities, weight):
        """Runs one batch.

        Args:
            inputs: dict of input name to array, batch first.
            y: int array `(rows,)`.
            teacher_probabilities: array `(rows, classes)`.
            weight: array `(rows,)`, or `None`.
        """
        outputs = self._student.run(inputs)
        if self.gap is None:
            self.gap = self._batch_gap(inputs, outputs)
        delegated = delegated_at(outputs["score"], self.point["threshold"])
        self.wrong += int((outputs["delegate"] != delegated).sum())
        self._columns.add(
            y, outputs["score"], outputs["probabilities"],
            teacher_probabilities, weight,
        )  # fmt: skip

    def build(self, examples):
        """`ExampleResults` of every example so far."""
        return self._columns.build(examples)

    def _batch_gap(self, inputs, expected):
        rows = min(len(expected["score"]), max(BATCH_SIZES))
        gap = 0.0
        for size in BATCH_SIZES:
            for start in range(0, rows, size):
                cut = slice(start, min(start + size, rows))
                part = self._student.run({k: v[cut] for k, v in inputs.items()})
                for name in COMPARED:
                    difference = np.abs(part[name] - expected[name][cut]).max()
                    accepted = max(TOLERANCE, self._accepted[name])
                    gap = max(gap, float(difference) / accepted)
        return gap

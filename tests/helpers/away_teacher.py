"""A teacher that answers every row alike, or not at all."""

import numpy as np


class AwayTeacher:
    """Raises its answer, or returns it for every row."""

    def __init__(self, answer):
        self.answer = answer

    def logits(self, inputs):
        if isinstance(self.answer, Exception):
            raise self.answer
        return np.tile(self.answer, (len(inputs["input"]), 1))

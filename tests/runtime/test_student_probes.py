"""Probe rows of a student: stated answers, and how close to them."""

import numpy as np
import pytest

from keras_cascade.bundle import Bundle
from keras_cascade.runtime.student_interpreter import StudentInterpreter
from keras_cascade.runtime.student_probes import (
    MOST_NUMBERS,
    difference_from_probes,
    student_probes,
)


class LinearStudent:
    """Answers with a softmax of the inputs; no file."""

    def __init__(self, classes, scale=1.0):
        self.classes = classes
        self.scale = scale

    def row_shapes(self):
        return {"input": [self.classes]}

    def run(self, inputs):
        logits = np.exp(self.scale * inputs["input"].astype("float64"))
        probabilities = logits / logits.sum(axis=1, keepdims=True)
        top = np.sort(probabilities, axis=1)
        return {
            "probabilities": probabilities.astype("float32"),
            "score": (top[:, -1] - top[:, -2]).astype("float32"),
            "delegate": np.zeros(len(top), "int32"),
        }


def specs(classes):
    return [
        {
            "name": "input",
            "shape": [None, classes],
            "dtype": "float32",
            "range": [0.0, 5.0],
        }
    ]


def test_the_manifest_states_what_the_file_answers(bundle_path):
    bundle = Bundle.load(bundle_path)
    probes = bundle.manifest["student"]["probes"]
    assert probes["rows"] == len(probes["score"]) == 8
    assert np.shape(probes["probabilities"]) == (8, 4)
    assert len(str(probes)) < 1500
    student = StudentInterpreter(bundle.student_file)
    assert difference_from_probes(student, bundle, probes) is None
    # As a reader in another language has it: only the manifest and the rows.
    again = student_probes(student, bundle.inputs, probes["seed"])
    assert again == probes


@pytest.mark.parametrize(("classes", "rows"), [(4, 8), (1000, 4), (9000, 2)])
def test_many_classes_have_few_rows(classes, rows):
    probes = student_probes(LinearStudent(classes), specs(classes), "seed")
    assert probes["rows"] == rows
    assert rows * classes <= max(MOST_NUMBERS, 2 * classes)


def test_zeros_and_constants_are_further_off_than_the_tolerance():
    """Whatever the student: sure, unsure, or of many classes."""
    for classes in (2, 10, 1000):
        for scale in (0.001, 1.0, 10.0):
            probes = student_probes(
                LinearStudent(classes, scale), specs(classes), "seed"
            )
            stated = np.array(probes["probabilities"])
            tolerance = probes["probabilities_tolerance"]
            assert 0 < tolerance < np.abs(stated).max()
            # Halfway between least and most is as close as a constant gets.
            spread = np.ptp(stated, axis=0).max()
            assert tolerance < spread / 2 or spread < 1e-2 * stated.max()


def test_answers_that_are_not_finite_are_not_stated():
    class NaNStudent(LinearStudent):
        def run(self, inputs):
            answer = super().run(inputs)
            return {**answer, "score": answer["score"] * np.nan}

    assert student_probes(NaNStudent(3), specs(3), "seed") is None

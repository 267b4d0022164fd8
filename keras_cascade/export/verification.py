"""Runs the exported files and compares them with Keras."""

import dataclasses

import numpy as np

from keras_cascade.datasets.batches import rows_of, take_rows
from keras_cascade.datasets.fingerprint import Fingerprint
from keras_cascade.evaluation.judged import Judged, JudgedColumns
from keras_cascade.export.errors import ExportError
from keras_cascade.numpy_softmax import numpy_softmax

SMALL_BATCHES = (1, 7)
SMALL_BATCH_ROWS = 64
#: Float32 arithmetic in another order moves a probability by about 1e-6.
TOLERANCE = 1e-4


@dataclasses.dataclass
class Comparison:
    """The exported student against Keras, on the same examples.

    Attributes:
        judged: `keras_cascade.evaluation.Judged`: the student's columns are
            of the exported file, the teacher's of the Keras teacher.
        flips: int, examples that one keeps and the other delegates.
        max_probability_difference: float.
        max_score_difference: float.
        batch_sizes: list of int that were run.
    """

    judged: Judged
    flips: int
    max_probability_difference: float
    max_score_difference: float
    batch_sizes: list

    def describe(self):
        """The manifest's `verification` entry."""
        return {
            "examples": len(self.judged),
            "batch_sizes": self.batch_sizes,
            "decision_flips": self.flips,
            "max_probability_difference": self.max_probability_difference,
            "max_score_difference": self.max_score_difference,
        }


def compare(
    student, run_student, ask_teacher, batches, signature, traffic=None
):
    """Runs both students and the teacher over labelled batches.

    Args:
        student: `StudentInterpreter` of the exported file.
        run_student: function from inputs to what Keras answers.
        ask_teacher: function from inputs to the teacher's probabilities.
        batches: iterable of `(x, y, sample_weight)`.
        signature: `Signature`; learns the inputs' value ranges.
        traffic: `TrafficMix` to weigh the examples by. Defaults to `None`.

    Returns:
        `Comparison`.

    Raises:
        ExportError: the file's outputs are not those of Keras.
    """
    columns = JudgedColumns()
    flips, probability_gap, score_gap = 0, 0.0, 0.0
    examples, sizes = Fingerprint(), set()
    for number, (x, y, weight) in enumerate(batches):
        signature.widen(x)
        examples.update(x)
        named = signature.named(x)
        shipped = student.run(named)
        keras_outputs = run_student(x)
        sizes.add(rows_of(x))
        if number == 0:
            sizes |= _run_small_batches(student, named, shipped)
        flips += int((shipped["delegate"] != keras_outputs["delegate"]).sum())
        probability_gap = max(
            probability_gap, _gap(shipped, keras_outputs, "probabilities")
        )
        score_gap = max(score_gap, _gap(shipped, keras_outputs, "score"))
        columns.add(
            y, shipped["score"], shipped["probabilities"], ask_teacher(x),
            weight,
        )  # fmt: skip
    judged = columns.judged(examples)
    if probability_gap > TOLERANCE:
        raise ExportError(
            "The exported student does not answer as Keras does: its "
            f"probabilities differ by up to {probability_gap:.2g}, where "
            f"{TOLERANCE:.0e} is expected. The file was not kept."
        )
    return Comparison(
        judged=judged if traffic is None else traffic.applied_to(judged),
        flips=flips,
        max_probability_difference=probability_gap,
        max_score_difference=score_gap,
        batch_sizes=sorted(sizes),
    )


def check_teacher(teacher, ask_teacher, x, signature):
    """Compares an exported teacher with Keras at two batch sizes."""
    for rows in (1, 7):
        part = take_rows(x, slice(0, rows))
        shipped = numpy_softmax(teacher.logits(signature.named(part)))
        gap = float(np.abs(shipped - ask_teacher(part)).max())
        if not gap <= TOLERANCE:
            raise ExportError(
                "The exported teacher does not answer as Keras does: its "
                f"probabilities differ by up to {gap:.2g}, where "
                f"{TOLERANCE:.0e} is expected."
            )


def _run_small_batches(student, named, expected):
    """A dynamic batch can collapse to one size: runs others too."""
    rows = min(SMALL_BATCH_ROWS, len(expected["score"]))
    for size in SMALL_BATCHES:
        for start in range(0, rows, size):
            cut = slice(start, min(start + size, rows))
            part = student.run({k: v[cut] for k, v in named.items()})
            for name, whole in expected.items():
                same_shape = part[name].shape == whole[cut].shape
                if not same_shape or not np.allclose(
                    part[name], whole[cut], rtol=1e-3, atol=TOLERANCE
                ):
                    raise ExportError(
                        f"The exported student's '{name}' depends on the "
                        f"batch size: {size} rows answer otherwise than "
                        f"{len(whole)}."
                    )
    return set(SMALL_BATCHES)


def _gap(shipped, expected, name):
    difference = np.abs(shipped[name] - expected[name])
    if not np.isfinite(difference).all():
        raise ExportError(f"The exported student's '{name}' holds NaN.")
    return float(difference.max())

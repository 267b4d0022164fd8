"""What a learned gate is fitted on, in whichever form it comes."""

import dataclasses

import numpy as np

from keras_cascade.gates.fitting_checks import (
    check_correct,
    check_outputs,
    check_weight,
)
from keras_cascade.gates.head_inputs import in_order

COLUMNS = ("student_outputs", "student_correct", "teacher_correct")


@dataclasses.dataclass
class GateExamples:
    """Checked examples to fit a gate on.

    Attributes:
        outputs: float array `(examples, outputs)`, the student's logits.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        weight: float array `(examples,)` or `None`.
        features: dict of layer name to float32 array, batch first.
    """

    outputs: np.ndarray
    student_correct: np.ndarray
    teacher_correct: np.ndarray
    weight: np.ndarray | None
    features: dict

    @classmethod
    def checked(cls, data, layers):
        """Reads `ExampleResults` or a tuple of three arrays.

        Args:
            data: of `LearnedGate.fit`.
            layers: names of the student layers whose features are needed.
        """
        columns = _columns(data)
        outputs = check_outputs(columns["student_outputs"])
        rows = len(outputs)
        weight = columns["sample_weight"]
        return cls(
            outputs,
            *(check_correct(name, columns[name], rows) for name in COLUMNS[1:]),
            None if weight is None else check_weight(weight, rows),
            _checked_features(in_order(columns["features"], layers), rows),
        )

    def shapes(self):
        """`(outputs' shape, dict of the features' shapes)`."""
        return self.outputs.shape, {
            name: values.shape for name, values in self.features.items()
        }

    def chunks(self, size):
        """Yields `(outputs, features)`, in float32, `size` rows at a time."""
        for start in range(0, len(self.outputs), size):
            rows = slice(start, start + size)
            yield (
                self.outputs[rows].astype("float32"),
                {name: v[rows] for name, v in self.features.items()},
            )


def _columns(data):
    if isinstance(data, (tuple, list)):
        if len(data) != len(COLUMNS):
            raise ValueError(
                f"Expected `{COLUMNS}`, three arrays. Received: {len(data)}."
            )
        found = dict(zip(COLUMNS, data, strict=True))
        return {**found, "features": None, "sample_weight": None}
    if getattr(data, "student_outputs", None) is None:
        without = " without outputs" if hasattr(data, "student_outputs") else ""
        raise ValueError(
            "Expected `ExampleResults` with the student's outputs, as "
            "`cascade.fit_gate(data)` makes it, or a tuple of arrays "
            f"{COLUMNS}. Received: {type(data).__name__}{without}."
        )
    names = (*COLUMNS, "features", "sample_weight")
    return {name: getattr(data, name) for name in names}


def _checked_features(features, rows):
    features = {n: np.asarray(v, "float32") for n, v in features.items()}
    for name, values in features.items():
        bad = int((~np.isfinite(values)).sum())
        if len(values) != rows or bad:
            raise ValueError(
                f"Expected finite features of {rows} examples. Received from "
                f"layer '{name}': shape {values.shape}, {bad} values NaN or "
                "infinite."
            )
    return features

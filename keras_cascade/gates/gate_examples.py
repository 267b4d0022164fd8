"""Held-out examples to fit a gate to."""

import dataclasses

import numpy as np

from keras_cascade.model_checks import check_logits
from keras_cascade.utils import validation

COLUMNS = ("student_outputs", "student_correct", "teacher_correct")
#: With fewer examples, what is fitted is noise.
MIN_EXAMPLES = 20


@dataclasses.dataclass
class GateExamples:
    """Checked examples to fit a learned gate to.

    Attributes:
        outputs: float array `(examples, outputs)`, the student's logits.
        student_correct: bool array `(examples,)`.
        teacher_correct: bool array `(examples,)`.
        weight: float array `(examples,)` or `None`.
        features: dict of layer name to float32 array, batch first.
        gate_inputs: float32 array `(examples, inputs)`, which were computed
            from outputs and features that were not kept; or `None`.
    """

    outputs: np.ndarray
    student_correct: np.ndarray
    teacher_correct: np.ndarray
    weight: np.ndarray | None
    features: dict
    gate_inputs: np.ndarray | None = None

    @classmethod
    def from_data(cls, data, layers):
        """Makes checked examples from `ExampleResults` or three arrays.

        Args:
            data: of `LearnedGate.fit`.
            layers: names of the student layers whose features are needed.
        """
        columns = _columns(data)
        inputs = columns["gate_inputs"]
        if inputs is None:
            outputs = check_logits_to_fit(columns["student_outputs"])
        else:
            outputs = inputs = _checked_inputs(inputs)
        rows = len(outputs)
        weight = columns["sample_weight"]
        return cls(
            outputs,
            *(
                validation.check_booleans(name, flattened(columns[name]), rows)
                for name in COLUMNS[1:]
            ),
            None if weight is None else check_weight_to_fit(weight, rows),
            _checked_features(
                select_features(columns["features"], layers), rows
            )
            if inputs is None
            else {},
            inputs,
        )

    def shapes(self):
        """Returns the outputs' shape and a dict of the features' shapes."""
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


def select_features(features, layers):
    """Features of the named layers, in the order of `layers`.

    Args:
        features: dict of layer name to tensor, or `None`.
        layers: names of layers.
    """
    features = features or {}
    missing = [name for name in layers if name not in features]
    if missing:
        raise ValueError(
            f"The gate looks at the student's layers {list(layers)}. Received "
            f"no features of {missing}. Pass `features`, a dict of layer name "
            "to output."
        )
    return {name: features[name] for name in layers}


def check_logits_to_fit(outputs):
    """Returns logits `(examples, outputs)` to fit a gate to, or raises.

    Args:
        outputs: array of the student's logits.
    """
    outputs = np.asarray(outputs)
    if outputs.dtype.kind not in "iuf":
        outputs = outputs.astype("float32")
    if len(outputs.shape) == 2:
        check_enough(outputs)
    check_logits("student", outputs)
    return outputs


def _checked_inputs(inputs):
    """Returns inputs `(examples, inputs)` of a gate's head, or raises."""
    inputs = np.asarray(inputs, "float32")
    check_enough(inputs)
    bad = int((~np.isfinite(inputs)).sum())
    if bad:
        raise ValueError(
            "Expected finite outputs of the student. Received: outputs from "
            f"which {bad} of the gate's inputs are NaN or infinite."
        )
    return inputs


def check_enough(rows):
    """Raises where there are too few examples to fit a gate to.

    Args:
        rows: sized object, with one element per example.
    """
    if len(rows) < MIN_EXAMPLES:
        raise ValueError(
            f"Fitting a gate needs at least {MIN_EXAMPLES} held-out examples. "
            f"Received: {len(rows)}. A few hundred give a steadier gate."
        )


def check_weight_to_fit(sample_weight, rows):
    """Returns a float64 array `(rows,)` of enough positive weights, or raises.

    Args:
        sample_weight: array `(rows,)` or `(rows, 1)`, or `None`: ones.
        rows: int, number of examples.
    """
    if sample_weight is not None:
        sample_weight = flattened(sample_weight)
    weight = validation.check_weight(sample_weight, rows)
    counted = int((weight > 0).sum())
    if counted < MIN_EXAMPLES:
        raise ValueError(
            f"Fitting a gate needs at least {MIN_EXAMPLES} held-out examples "
            f"with a weight above 0. Received: {counted}."
        )
    return weight


def flattened(values):
    """Returns `(rows, 1)` arrays as `(rows,)`, others unchanged."""
    values = np.asarray(values)
    column = values.ndim == 2 and values.shape[1] == 1
    return values.reshape(-1) if column else values


def _columns(data):
    if isinstance(data, (tuple, list)):
        if len(data) != len(COLUMNS):
            raise ValueError(
                f"Expected `{COLUMNS}`, three arrays. Received: {len(data)}."
            )
        columns = dict(zip(COLUMNS, data, strict=True))
        rest = ("features", "sample_weight", "gate_inputs")
        return {**columns, **dict.fromkeys(rest)}
    inputs = getattr(data, "gate_inputs", None)
    if inputs is None and getattr(data, "student_outputs", None) is None:
        without = " without outputs" if hasattr(data, "student_outputs") else ""
        raise ValueError(
            "Expected `ExampleResults` with the student's outputs, as "
            "`cascade.fit_gate(data)` makes it, or a tuple of arrays "
            f"{COLUMNS}. Received: {type(data).__name__}{without}."
        )
    names = (*COLUMNS, "features", "sample_weight")
    columns = {name: getattr(data, name) for name in names}
    return {**columns, "gate_inputs": inputs}


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

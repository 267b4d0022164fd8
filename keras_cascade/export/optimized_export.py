"""A student that trains on while it is made smaller."""

import keras
import numpy as np

from keras_cascade.datasets.batches import arrays_or_batches, concatenate_rows
from keras_cascade.datasets.input_checks import checked_batches
from keras_cascade.export.signature import Signature
from keras_cascade.prediction import inference


def optimized_student(
    cascade, example_inputs, mode, training_data, optimization=None
):
    """Fine-tunes a cascade's student from its teacher's logits.

    Args:
        cascade: prepared `Cascade`; stays as it is.
        example_inputs: a batch of inputs.
        mode: str, of `optimize_student`.
        training_data: labelled examples, as `Cascade.fit` takes. They are
            read into memory.
        optimization: dict of further options for `optimize_student`.
            Defaults to `None`.

    Returns:
        `OptimizedStudent`.
    """
    if training_data is None:
        raise ValueError(
            f"Expected `training_data` for quantization='{mode}', which "
            "trains the student on. Received none. Pass the examples that it "
            "was trained on, or choose 'float16', 'dynamic' or 'int8'."
        )
    from keras_cascade.export.optimization import optimize_student

    inputs, labels, weight, logits = [], [], [], []
    ask_teacher = inference(cascade.teacher)
    for x, y, w in checked_batches(
        *arrays_or_batches(training_data), classes=cascade.classes
    ):
        answer = ask_teacher(x)
        logits.append(answer["logits"] if isinstance(answer, dict) else answer)
        inputs.append(keras.tree.map_structure(np.asarray, x))
        labels.append(np.reshape(y, -1))
        weight.append(w)
    return optimize_student(
        cascade,
        mode,
        concatenate_rows(inputs),
        np.concatenate(labels),
        np.concatenate(logits),
        Signature(example_inputs),
        sample_weight=None if weight[0] is None else np.concatenate(weight),
        **(optimization or {}),
    )

"""A way of training a student, one of several that are compared."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_cascade import distillation as policies
from keras_cascade.distillation import (
    ClassSpecificDistillation,
    Gatekeeper,
    LabelSmoothing,
    StandardDistillation,
)

WEIGHT_DECAY = 0.1
#: Labels are skewed where the most frequent fifth of the classes has more.
_SKEWED_SHARE = 0.5


@dataclasses.dataclass(frozen=True)
class Training:
    """A way of training a student: what it learns from, and how.

    Attributes:
        name: str, in tables.
        distillation: name, dict or `DistillationPolicy`. Defaults to
            `"standard"`.
        learning_rate: float > 0, of AdamW. Defaults to `1e-3`.
        weight_decay: float >= 0, of AdamW. Defaults to `0.1`.
        gatekeeper_epochs: int, of a second stage with `Gatekeeper` after the
            last epoch. Defaults to `0`.
        gatekeeper_alpha: float in [0, 1], of it. Defaults to `0.5`.

    Example:

    >>> import keras_cascade as kc
    >>> training = kc.tuning.Training("T=2", {
    ...     "class_name": "standard", "config": {"temperature": 2.0}
    ... })
    >>> training.policy()
    StandardDistillation(temperature=2.0)
    """

    name: str
    distillation: Any = "standard"
    learning_rate: float = 1e-3
    weight_decay: float = WEIGHT_DECAY
    gatekeeper_epochs: int = 0
    gatekeeper_alpha: float = 0.5

    def policy(self) -> policies.DistillationPolicy:
        """Returns the distillation policy."""
        return policies.get(self.distillation)

    def optimizer(self) -> keras.optimizers.Optimizer:
        """Returns a new optimizer."""
        return keras.optimizers.AdamW(
            self.learning_rate, weight_decay=self.weight_decay
        )

    def second_stage(self) -> Gatekeeper:
        """Returns the policy of the second stage."""
        return Gatekeeper(self.gatekeeper_alpha)

    def describe(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict that tells trainings apart."""
        policy = self.policy()
        return {
            **dataclasses.asdict(dataclasses.replace(self, distillation=None)),
            "distillation": {
                "class_name": type(policy).__name__,
                "config": keras.saving.serialize_keras_object(policy)["config"],
            },
        }


def default_trainings(
    labels: np.ndarray, classes: int, weights: np.ndarray | None = None
) -> list[Training]:
    """Four trainings that differ in what the student learns from.

    Cross-entropy; label smoothing 0.6; and, where the most frequent fifth of
    the classes has more than half of the examples, class-specific
    distillation of those from the labels with α = 0.4 and 1.0, otherwise
    distillation at T = 1 and T = 2. All with AdamW and a weight decay of 0.1.

    Args:
        labels: int array `(examples,)`, of the training data.
        classes: int, number of classes.
        weights: float array `(examples,)`, how often each comes. Defaults to
            `None`: alike.

    Returns:
        List of `Training`.
    """
    shares = np.bincount(
        np.asarray(labels).reshape(-1), weights, minlength=classes
    )
    count = max(1, classes // 5)
    frequent = np.sort(np.argsort(-shares, kind="stable")[:count])
    first = [
        Training("cross-entropy", LabelSmoothing(0.0)),
        Training("label smoothing 0.6", LabelSmoothing(0.6)),
    ]
    if shares[frequent].sum() > _SKEWED_SHARE * shares.sum():
        return first + [
            Training(
                f"class-specific {alpha:g}",
                ClassSpecificDistillation(
                    frequent.tolist(), label_smoothing=alpha, oracle=True
                ),
            )
            for alpha in (0.4, 1.0)
        ]
    return first + [
        Training(f"distillation T={t:g}", StandardDistillation(temperature=t))
        for t in (1.0, 2.0)
    ]

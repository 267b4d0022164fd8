"""Base class of distillation policies."""

import numbers
from typing import TYPE_CHECKING, Any

from keras import ops

from keras_cascade.distillation.target_mixture import TargetMixture
from keras_cascade.utils.constructor_repr import constructor_repr
from keras_cascade.utils.tensor_ops import Tensor, as_float
from keras_cascade.utils.top_k_logits import TopKLogits, dense


class DistillationPolicy:
    """Base class of policies that set each example's training target.

    A policy is a small serializable object. A subclass implements `targets`
    and `selected`; the loss of every policy is then the cross-entropy

    `H = -sum_k target_k * log_softmax(student_logits)_k`, per example.

    The student's softmax is always taken at temperature 1, and every target
    row sums to 1.

    From a cache of the k largest teacher logits the policies of this package
    compute their loss without a dense target, from `target_mixture`. A
    policy of your own gets dense logits, `(batch, classes)`, of every batch,
    unless it sets `takes_top_k = True` and its methods take
    `keras_cascade.utils.top_k_logits.TopKLogits`.
    """

    #: The class's own methods take `TopKLogits` as teacher logits. It does
    #: not hold for a subclass that overrides one of `TEACHER_METHODS`.
    takes_top_k = True

    #: False where no method looks at the teacher's logits: `fit` then does not
    #: run the teacher. As with `takes_top_k`, it does not hold for a subclass
    #: that overrides one of `TEACHER_METHODS` and does not set it.
    if TYPE_CHECKING:  # a subclass may have an attribute or a property

        @property
        def needs_teacher(self) -> bool: ...
    else:
        needs_teacher = True

    #: Policies that select every example by design set this to `False`, so
    #: that nobody is warned about a selected fraction of 1.
    selective = True

    #: Names of inner layers whose outputs `batch_loss` compares.
    if TYPE_CHECKING:  # a subclass may have attributes or properties

        @property
        def teacher_layers(self) -> tuple[str, ...]: ...

        @property
        def student_layers(self) -> tuple[str, ...]: ...
    else:
        teacher_layers = ()
        student_layers = ()

    def targets(self, labels: Tensor, teacher_logits: Tensor) -> Tensor:
        """Target distribution of each example.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.

        Returns:
            Float tensor of shape `(batch, classes)`; every row sums to 1.
        """
        raise NotImplementedError(f"{type(self).__name__}.targets")

    def selected(
        self,
        labels: Tensor,
        teacher_logits: Tensor,
        student_logits: Tensor | None = None,
    ) -> Tensor:
        """Mask of the examples that learn from the teacher.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.
            student_logits: float tensor of shape `(batch, student outputs)`;
                only policies that look at the student need it. Defaults to
                `None`.

        Returns:
            Boolean tensor of shape `(batch,)`.
        """
        raise NotImplementedError(f"{type(self).__name__}.selected")

    def example_loss(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor:
        """Loss of each example.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.
            student_logits: float tensor of shape `(batch, student outputs)`.

        Returns:
            Float tensor of shape `(batch,)`.
        """
        if isinstance(teacher_logits, TopKLogits):
            mixture = self.target_mixture(labels, teacher_logits)
            return mixture.cross_entropy(labels, teacher_logits, student_logits)
        targets = self.targets(labels, as_float(teacher_logits))
        return cross_entropy(targets, student_logits)

    def target_mixture(
        self, labels: Tensor, teacher_logits: Tensor
    ) -> TargetMixture:
        """Weights of label, uniform distribution and teacher in `targets`.

        Only a policy with `takes_top_k` needs it.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: `TopKLogits`.
        """
        raise NotImplementedError(f"{type(self).__name__}.target_mixture")

    def example_weight(
        self, labels: Tensor, teacher_logits: Tensor, student_logits: Tensor
    ) -> Tensor | None:
        """Weight of each example, on top of its sample weight.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.
            student_logits: float tensor of shape `(batch, student outputs)`.

        Returns:
            Float tensor of shape `(batch,)`, or `None`: all count the same.
        """
        return None

    def batch_loss(
        self,
        teacher_features: dict[str, Tensor] | None,
        student_features: dict[str, Tensor] | None,
    ) -> Tensor:
        """Loss of the whole batch, added to the examples' mean loss.

        Args:
            teacher_features: dict of layer name to tensor, or `None` where
                `teacher_layers` is empty.
            student_features: dict of layer name to tensor, or `None`.

        Returns:
            Scalar, here 0.
        """
        return 0.0

    def student_outputs(self, classes: int) -> int:
        """Number of outputs that the student needs for `classes` classes."""
        return classes

    def gate_defaults(self) -> dict[str, Any]:
        """Constructor arguments of a gate that is made by name.

        Returns:
            Dict with any of `"in_domain_classes"` and `"margin"`.
        """
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON-compatible values."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DistillationPolicy":
        """Makes a policy from its config."""
        return cls(**config)

    def __repr__(self):
        return constructor_repr(self)


#: Methods that are given the teacher's logits.
TEACHER_METHODS = ("targets", "selected", "example_loss", "example_weight")


def teacher_is_needed(policy):
    """Returns whether a policy's training needs the teacher's logits.

    Args:
        policy: `DistillationPolicy`.
    """
    for one in type(policy).__mro__:
        if "needs_teacher" in vars(one):
            return policy.needs_teacher or bool(policy.teacher_layers)
        if any(name in vars(one) for name in (*TEACHER_METHODS, "batch_loss")):
            break
    return True


def logits_for(policy, teacher_logits):
    """Teacher logits in the form that a policy takes.

    The most derived class that overrides one of `TEACHER_METHODS` decides:
    a policy of the user's own, which knows of no `TopKLogits`, gets dense
    logits.

    Args:
        policy: `DistillationPolicy`.
        teacher_logits: float tensor `(batch, classes)` or `TopKLogits`.
    """
    for one in type(policy).__mro__:
        if "takes_top_k" in vars(one):
            return teacher_logits if one.takes_top_k else dense(teacher_logits)
        if any(name in vars(one) for name in TEACHER_METHODS):
            break
    return dense(teacher_logits)


def cross_entropy(targets, student_logits):
    """Cross-entropy `-sum_k target_k * log_softmax(logits)_k` per example."""
    log_probabilities = ops.log_softmax(as_float(student_logits), axis=-1)
    targets = ops.cast(targets, log_probabilities.dtype)
    return -ops.sum(targets * log_probabilities, axis=-1)


def label_smoothing_targets(labels, teacher_logits, alpha):
    """Smoothed labels (1−α)·one-hot + α/L, shaped like `teacher_logits`."""
    classes = teacher_logits.shape[-1]
    one_hot = ops.one_hot(labels, classes, dtype=teacher_logits.dtype)
    return (1.0 - alpha) * one_hot + alpha / classes


def teacher_targets(labels, teacher_logits, temperature, oracle):
    """Teacher targets softmax(logits / τ); one-hot labels of an oracle."""
    if oracle:
        return label_smoothing_targets(labels, teacher_logits, 0.0)
    return ops.softmax(teacher_logits / temperature, axis=-1)


def check_temperature(temperature):
    """Returns a float > 0, or raises."""
    if not (isinstance(temperature, numbers.Real) and temperature > 0):
        raise ValueError(
            "`temperature` divides the teacher's logits. Expected: a number "
            f"> 0. Received: {temperature!r}."
        )
    return float(temperature)

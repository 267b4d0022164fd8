"""The base class of distillation policies."""

import numbers

from keras import ops

from keras_cascade.utils.tensor_ops import as_float


class DistillationPolicy:
    """Decides, for each example, which target the student learns from.

    A policy is a small serializable object. A subclass implements `targets`
    and `selected`; the loss of every policy is then the cross-entropy

    `H = -sum_k target_k * log_softmax(student_logits)_k`, per example.

    The student's softmax is always taken at temperature 1, and every target
    row sums to 1.
    """

    #: Policies that select every example by design set this to `False`, so
    #: that nobody is warned about a selected fraction of 1.
    selective = True

    #: Names of inner layers whose outputs `batch_loss` compares.
    teacher_layers = ()
    student_layers = ()

    def targets(self, labels, teacher_logits):
        """Target distributions.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.

        Returns:
            Float tensor of shape `(batch, classes)`; every row sums to 1.
        """
        raise NotImplementedError(f"{type(self).__name__}.targets")

    def selected(self, labels, teacher_logits, student_logits=None):
        """Which examples learn from the teacher.

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

    def example_loss(self, labels, teacher_logits, student_logits):
        """Loss of each example.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.
            student_logits: float tensor of shape `(batch, student outputs)`.

        Returns:
            Float tensor of shape `(batch,)`.
        """
        targets = self.targets(labels, as_float(teacher_logits))
        return cross_entropy(targets, student_logits)

    def example_weight(self, labels, teacher_logits, student_logits):
        """How much each example counts, on top of its sample weight.

        Args:
            labels: integer tensor of shape `(batch,)`.
            teacher_logits: float tensor of shape `(batch, classes)`.
            student_logits: float tensor of shape `(batch, student outputs)`.

        Returns:
            Float tensor of shape `(batch,)`, or `None`: all count the same.
        """
        return None

    def batch_loss(self, teacher_features, student_features):
        """A loss of the whole batch, on top of the examples' own.

        Args:
            teacher_features: dict of layer name to tensor, or `None` where
                `teacher_layers` is empty.
            student_features: dict of layer name to tensor, or `None`.

        Returns:
            Scalar, here 0.
        """
        return 0.0

    def student_outputs(self, classes):
        """Number of outputs that the student needs for `classes` classes."""
        return classes

    def gate_defaults(self):
        """What a gate made by name takes over from training.

        Returns:
            Dict with any of `"in_domain_classes"` and `"margin"`.
        """
        return {}

    def get_config(self):
        """The constructor's arguments, as JSON-compatible values."""
        return {}

    @classmethod
    def from_config(cls, config):
        """Makes a policy from `get_config()`'s dict."""
        return cls(**config)


def cross_entropy(targets, student_logits):
    """`-sum_k target_k * log_softmax(student_logits)_k`, per example."""
    log_probabilities = ops.log_softmax(as_float(student_logits), axis=-1)
    targets = ops.cast(targets, log_probabilities.dtype)
    return -ops.sum(targets * log_probabilities, axis=-1)


def label_smoothing_targets(labels, teacher_logits, alpha):
    """LS(α) = (1−α)·one-hot + α/L, shaped like `teacher_logits`."""
    classes = teacher_logits.shape[-1]
    one_hot = ops.one_hot(labels, classes, dtype=teacher_logits.dtype)
    return (1.0 - alpha) * one_hot + alpha / classes


def taught(labels, teacher_logits, temperature, oracle):
    """p_T(τ) = softmax(teacher logits / τ); of an oracle, one-hot labels."""
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


def check_share(name, value):
    """Returns a float in [0, 1], or raises."""
    if not (isinstance(value, numbers.Real) and 0 <= value <= 1):
        raise ValueError(
            f"Expected `{name}` to be a number in [0, 1]. Received: {value!r}."
        )
    return float(value)

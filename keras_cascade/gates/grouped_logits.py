"""Sorted logits of many classes in groups, for fitting a temperature."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_cascade.model_checks import check_logits

#: Largest logits of a row that are kept one by one.
TOP = 32
#: Groups of the others.
GROUPS = 96
#: Share of all classes that the last group has, those of the lowest logits.
LAST = 1e-3
#: Distance to the largest logit, as a multiple of the preceding class's, from
#: which on classes are masked.
MASKED = 4.0
#: Logits that are sorted at a time.
PART_VALUES = 2**21


class GroupedLogits:
    """Logits of many classes, sorted and averaged in groups.

    The 32 largest logits of a row are kept, and the means of 96 groups of the
    others, which are neighbours in the order of the logits: 528 bytes per row,
    however many classes there are. The groups grow from both ends of that
    order to its middle, so that the logits of a group are close together.
    Where they are spread evenly over a width w, a group's sum of
    `exp(z / T)` is too low by the factor `(w / 2T) / sinh(w / 2T) ≈
    1 − (w / T)² / 24`; it is never too high (Jensen's inequality). A row's
    masked classes, such as those of -1e9, are not averaged with others.

    Attributes:
        values: float32 array `(rows, 129)`, logits less the row's largest.
        split: int32 array `(rows,)`, number of classes before the masked
            ones; all where none is masked.
        label_logits: float32 array `(rows,)`, that of the right class.
        gaps: float32 array `(rows,)`, the largest one below 0; `-inf` where
            there is none.
        shape: `(rows, classes)`.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.gates.grouped_logits import GroupedLogits
    >>> logits = np.random.default_rng(0).normal(size=(5, 1000))
    >>> grouped = GroupedLogits.of(logits, labels=[3, 1, 4, 1, 5])
    >>> grouped.shape, grouped.values.shape
    ((5, 1000), (5, 129))
    """

    ndim = 2

    def __init__(
        self,
        classes: int,
        values: np.ndarray,
        split: np.ndarray,
        label_logits: np.ndarray,
        gaps: np.ndarray,
    ):
        self.values = values
        self.split = split
        self.label_logits = label_logits
        self.gaps = gaps
        self.shape = (len(values), classes)

    @classmethod
    def of(cls, logits: Any, labels: Any) -> "GroupedLogits":
        """Groups the logits of a batch.

        Args:
            logits: float array `(rows, classes)`, with more classes than
                groups.
            labels: int array `(rows,)`, the right classes.

        Raises:
            ValueError: NaN, or probabilities in place of logits.
        """
        classes = check_logits("student", logits)
        labels = np.asarray(labels).reshape(-1, 1)
        size = max(1, PART_VALUES // classes)
        starts = range(0, len(logits), size)
        parts = [slice(start, start + size) for start in starts]
        return cls.joined(
            [cls(classes, *_grouped(logits[p], labels[p])) for p in parts]
        )

    @classmethod
    def joined(cls, parts: Sequence["GroupedLogits"]) -> "GroupedLogits":
        """Joins the rows of several batches."""
        return cls(
            parts[0].shape[1],
            *map(np.concatenate, zip(*(p._arrays for p in parts), strict=True)),
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> "GroupedLogits":
        return GroupedLogits(
            self.shape[1], *(array[rows] for array in self._arrays)
        )

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise ValueError(
            f"Expected all logits of {self.shape[1]:,} classes. Received those "
            "that fitting a temperature needs, which `judge` keeps for this "
            "gate. Ask the student for logits, a batch at a time."
        )

    @property
    def _arrays(self):
        return self.values, self.split, self.label_logits, self.gaps

    def mean_logits(self, inverse: float) -> np.ndarray:
        """Mean logit of each row under the softmax at a temperature.

        Args:
            inverse: float > 0, the inverse of the temperature.

        Returns:
            float64 array `(rows,)`: `Σ p·z` with `p = softmax(inverse·z)`.
        """
        means = np.empty(len(self))
        size = max(1, PART_VALUES // self.values.shape[1])
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            values = self.values[rows].astype("float64")
            mass = self._counts(self.split[rows]) * np.exp(inverse * values)
            means[rows] = (mass * values).sum(axis=1) / mass.sum(axis=1)
        return means

    def _counts(self, split):
        """Number of classes that each value stands for, `(rows, 129)`."""
        starts = _starts(self.shape[1])
        sizes = np.diff(starts, append=self.shape[1])
        counts = np.zeros((len(split), TOP + GROUPS + 1))
        counts[:, :TOP] = 1
        counts[:, TOP:-1] = sizes
        rows, group = _split_groups(split, starts, self.shape[1])
        before = split[rows] - starts[group]
        counts[rows, TOP + group] = before
        counts[rows, -1] = sizes[group] - before
        return counts


def _starts(classes):
    """First rank of each group, int array `(GROUPS,)`.

    `ln(rank / (classes − rank))` takes equal steps, and a group has at least
    one class.
    """
    others = classes - TOP
    if others < GROUPS:
        raise ValueError(
            f"Expected at least {TOP + GROUPS} classes. Received: {classes}."
        )
    last = max(1.0, LAST * classes)
    first, end = np.log(TOP / (classes - TOP)), np.log(classes / last - 1.0)
    steps = np.linspace(first, end, GROUPS + 1)[:-1]
    ranks = np.rint(classes / (1.0 + np.exp(-steps))).astype("int64")
    number = np.arange(GROUPS)
    ranks = np.maximum.accumulate(ranks - number) + number  # strictly rising
    return np.clip(ranks, TOP + number, classes - GROUPS + number)


def _split_groups(split, starts, classes):
    """Rows with masked classes, and the group that those begin in."""
    rows = np.flatnonzero((split >= TOP) & (split < classes))
    return rows, np.searchsorted(starts, split[rows], side="right") - 1


def _grouped(logits, labels):
    """The arrays of a `GroupedLogits` of a few rows."""
    low = np.finfo("float32").min
    block = np.asarray(logits, "float32")
    with np.errstate(over="ignore"):
        block = np.maximum(block - block.max(axis=1, keepdims=True), low)
    right = np.take_along_axis(block, labels, axis=1)[:, 0]
    gaps = np.where(block < 0, block, -np.inf).max(axis=1).astype("float32")
    block = -np.sort(-block, axis=1)
    classes = block.shape[1]
    starts = _starts(classes)
    values = np.zeros((len(block), TOP + GROUPS + 1), "float32")
    values[:, :TOP] = block[:, :TOP]
    sizes = np.diff(starts, append=classes)
    values[:, TOP:-1] = (
        np.add.reduceat(block, starts, axis=1, dtype="float64") / sizes
    )
    split = _masked_from(block)
    rows, group = _split_groups(split, starts, classes)
    for row, number in zip(rows, group, strict=True):
        start, end = starts[number], starts[number] + sizes[number]
        before, masked = np.split(
            block[row, start:end].astype("float64"), [split[row] - start]
        )
        values[row, TOP + number] = before.mean() if before.size else 0.0
        values[row, -1] = masked.mean()
    return values, split, right, gaps


def _masked_from(block):
    """Rank from which on a row's classes are masked, int32 `(rows,)`."""
    distance = -block[:, TOP - 1 :]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = distance[:, 1:] / distance[:, :-1]
    ratio = np.where(distance[:, :-1] > 0, ratio, 0.0)
    index = ratio.argmax(axis=1)
    found = np.take_along_axis(ratio, index[:, None], axis=1)[:, 0] > MASKED
    return np.where(found, TOP + index, block.shape[1]).astype("int32")

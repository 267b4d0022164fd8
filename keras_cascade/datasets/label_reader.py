"""Class labels in the forms that people have them, as indices."""

import numpy as np

from keras_cascade.datasets.batches import to_numpy, unpack
from keras_cascade.datasets.class_names import class_name
from keras_cascade.datasets.input_checks import check_class_labels

#: From so many examples a class on that class 0 is missing by intent.
_EXAMPLES_PER_CLASS = 20
_TEXTS = "OSUT"


class LabelReader:
    """Reads labels of one classifier as indices from 0.

    Read are whole numbers from 0, one-hot rows, class names where these are
    known, and numbers from 1 to the number of classes. Labels that could mean
    two things are an error, and labels of other tasks are left as they are:
    `check_class_labels` refuses them.

    Args:
        classes: int, number of classes.
        class_names: list of str in label order. Defaults to `None`: not
            known, and names are refused.
        first: int, 0 or 1: the first label, as known of earlier data.
            Defaults to `None`: all labels at hand tell, if they are arrays;
            of batches it is 0.

    Attributes:
        first: int or `None`, the first label.
        error: the `ValueError` of a batch that could not be read, or `None`.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.datasets.label_reader import LabelReader
    >>> LabelReader(3).indices(np.array([[0, 1, 0], [0, 0, 1]])).tolist()
    [1, 2]
    >>> LabelReader(2, ["cat", "dog"]).indices(np.array(["dog"])).tolist()
    [1]
    """

    def __init__(self, classes, class_names=None, first=None):
        self.classes = classes
        self.first = first
        self.error = None
        self._names = None if class_names is None else list(class_names)

    def decide_first(self, y, strict=False):
        """Decides of all labels at hand whether they begin with 0 or 1.

        Args:
            y: array of labels, or `None`.
            strict: bool. Refuses many labels that all but the first class
                have, where the class names are not known. Defaults to `False`.

        Raises:
            ValueError: the labels could begin with either.
        """
        if not _are_numbers(y) or self.first is not None:
            return
        low, high = y.min(), y.max()
        counted = low >= 1 and high == self.classes
        self.first = 1 if counted else 0
        many = self.classes > 2 and len(y) >= _EXAMPLES_PER_CLASS * self.classes
        if not (strict and many and self._names is None):
            return
        if low == 1 and high == self.classes - 1:
            present = len(np.unique(y)) == high
            if present:
                raise ValueError(
                    f"Labels from 1 to {int(high)} are ambiguous where the "
                    f"models have {self.classes} classes: either they begin "
                    "with 1 and the models have one output too many, or no "
                    "example is of class 0. Build the models with "
                    f"{int(high)} outputs, or pass `class_names=`, a list of "
                    f"{self.classes} names, to say that labels are their "
                    "indices."
                )

    def are_indices(self, y):
        """Returns whether labels need no reading.

        Args:
            y: array of labels, or `None`.
        """
        if y is None:
            return True
        plain = y.dtype.kind not in _TEXTS
        column = y.ndim < 2 or y.shape[1] == 1
        return bool(plain and column and self.first != 1)

    def indices(self, y):
        """Labels as integers from 0.

        Args:
            y: array of labels, or `None`.

        Returns:
            int32 array `(examples,)`; labels of other tasks as they are.

        Raises:
            ValueError: names that are not known, or labels below the first.
        """
        if self.are_indices(y):
            return y
        if y.dtype.kind in _TEXTS:
            return self._of_names(y)
        if y.ndim == 2 and y.shape[1] > 1:
            return self._of_one_hot(y)
        if _are_numbers(y) and y.min() < 1:
            raise ValueError(
                f"Expected labels from 1 to {self.classes}, as in the data so "
                f"far. Received labels from {y.min()} to {y.max()}. Give all "
                "data the same labels."
            )
        return y - 1 if y.dtype.kind in "iuf" else y

    def pass_on(self, batch):
        """Returns a batch `(x, y)` or `(x, y, sample_weight)` with indices."""
        x, y, weight = unpack(batch)
        y = self.noted(to_numpy(y))
        return (x, y) if weight is None else (x, y, weight)

    def noted(self, y):
        """`indices` of one batch, checked; remembers the error of one."""
        try:
            y = self.indices(y)
            check_class_labels(y, self.classes)
            return y
        except ValueError as error:
            self.error = error
            raise

    def _of_names(self, y):
        if self._names is None:
            names = sorted({class_name(_decoded(one)) for one in y.ravel()})
            shown = names if len(names) <= 10 else [*names[:10], "..."]
            raise ValueError(
                "Expected integer class labels, or names of known classes. "
                f"Received the names {shown}, and the order of the models' "
                "outputs is not known. Pass it once, as `class_names=[...]`."
            )
        index = {class_name(name): i for i, name in enumerate(self._names)}
        found = [class_name(_decoded(one)) for one in y.ravel()]
        unknown = sorted(set(found) - set(index))
        if unknown:
            raise ValueError(
                f"Expected labels out of {self._names[:10]}. Received: "
                f"{unknown[:10]}. Leave these examples out, or train models "
                "that have the class."
            )
        return np.array([index[one] for one in found], dtype="int32")

    def _of_one_hot(self, y):
        if y.dtype.kind not in "biuf" or y.shape[1] != self.classes:
            return y
        is_one_hot = np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()
        return y.argmax(axis=1).astype("int32") if is_one_hot else y


def _are_numbers(y):
    """Returns whether labels are a column of whole numbers."""
    if y is None or not y.size or y.dtype.kind not in "iuf":
        return False
    column = y.ndim == 1 or (y.ndim == 2 and y.shape[1] == 1)
    return bool(column and np.isfinite(y).all() and (y == np.floor(y)).all())


def _decoded(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value

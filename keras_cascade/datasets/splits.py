"""Training, calibration and test split of a data set."""

import dataclasses
from typing import Any

import numpy as np

from keras_cascade.datasets.class_names import matching_labels

NAMES = ("train", "calibration", "test")


@dataclasses.dataclass(frozen=True)
class Splits:
    """Training, calibration and test examples of one data set.

    Calibration examples are used neither to train nor to report.

    Attributes:
        name: str, the data spec.
        train: `tf.data.Dataset` of single examples `(x, y)`, `y` an integer.
        calibration: the same, held out for thresholds.
        test: the same, held out for reporting.
        class_names: list of str, in label order.
        sizes: dict of split name to number of examples.
        how: one sentence on where the splits come from.
        scale: str, the scale of the images that were read as bytes (see
            `ReadingOptions`), or `None` for inputs that are used as they are.
        shuffled: the training examples, in another order at each pass.
    """

    name: str
    train: Any
    calibration: Any
    test: Any
    class_names: list
    sizes: dict
    how: str
    scale: str | None = None
    shuffled: Any = None

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple:
        """Shape of one input, without the batch."""
        return tuple(self.train.element_spec[0].shape)

    def matched(self, class_names: list[str]) -> "Splits":
        """Returns the splits with the labels of a model's classes.

        Args:
            class_names: list of str, the model's, in label order.

        Returns:
            `Splits` with these class names.

        Raises:
            ValueError: there are classes that the model does not have.
        """
        labels = matching_labels(self.class_names, class_names, self.name)
        if list(self.class_names) == list(class_names):
            return self

        def relabelled(examples):
            import tensorflow as tf

            return examples.map(lambda x, y: (x, tf.gather(labels, y)))

        return dataclasses.replace(
            self,
            class_names=list(class_names),
            train=relabelled(self.train),
            calibration=relabelled(self.calibration),
            test=relabelled(self.test),
            shuffled=relabelled(self.shuffled),
        )

    def arrays(
        self, split: str, examples: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Loads one split into memory.

        Args:
            split: str, `"train"`, `"calibration"` or `"test"`.
            examples: int >= 1, at most so many, from the first. Defaults to
                `None`: all.

        Returns:
            NumPy arrays `(x, y)`. Texts are an array of str.

        Example:

        >>> import keras_cascade as kc
        >>> x, y = kc.datasets.load("digits").arrays("train", 100)
        >>> x.shape, y.shape
        ((100, 8, 8, 1), (100,))
        """
        if split not in NAMES:
            raise ValueError(
                f"Expected split to be one of {NAMES}. Received: {split!r}."
            )
        if examples is not None and examples < 1:
            raise ValueError(
                f"Expected examples >= 1 or None. Received: {examples}."
            )
        count = self.sizes[split]
        count = count if examples is None else min(examples, count)
        x, y = next(getattr(self, split).batch(count).as_numpy_iterator())
        if x.dtype == object:
            x = np.array([text.decode() for text in x], dtype=object)
        return x, y

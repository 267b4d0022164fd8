"""The three splits that a cascade needs."""

import dataclasses
from typing import Any


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
    """

    name: str
    train: Any
    calibration: Any
    test: Any
    class_names: list
    sizes: dict
    how: str

    @property
    def classes(self):
        """Number of classes."""
        return len(self.class_names)

    @property
    def input_shape(self):
        """Shape of one input, without the batch."""
        return tuple(self.train.element_spec[0].shape)

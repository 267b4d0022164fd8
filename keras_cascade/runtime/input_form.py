"""The form of a bundle's inputs, with a short way for what fits already."""

import numpy as np

from keras_cascade.runtime.inputs import prepare_inputs
from keras_cascade.runtime.text_inputs import TEXT


class InputForm:
    """Checks inputs against a manifest; quick where there is nothing to do.

    An array that already has the type and shape of the model's only input is
    passed on as it is. Everything else goes through `prepare_inputs`, which
    converts it or says what is wrong.

    Args:
        specs: list of `{"name", "shape", "dtype"}` with the batch first, as
            in the manifest.
    """

    def __init__(self, specs):
        self._specs = specs
        self._row = None
        if _is_of_one_size(specs):
            self._name = specs[0]["name"]
            self._dtype = np.dtype(specs[0]["dtype"])
            self._row = tuple(specs[0]["shape"][1:])
            self._is_float = self._dtype.kind == "f"

    def __call__(self, x):
        """Inputs as the models take them.

        Args:
            x: array, string, list of strings, or dict of input name to one of
                these; one example or a batch.

        Returns:
            Dict of input name to array, each with a batch axis.

        Raises:
            ValueError: names, shapes, types or values do not fit.
        """
        if (
            self._row is not None
            and type(x) is np.ndarray
            and x.dtype == self._dtype
            and x.flags.c_contiguous
        ):
            batch = x[None] if x.shape == self._row else x
            if (
                batch.shape[1:] == self._row
                and batch.shape[0]
                and (not self._is_float or _all_finite(batch))
            ):
                return {self._name: batch}
        return prepare_inputs(x, self._specs)


def _is_of_one_size(specs):
    """Whether rows are one array of numbers, and all of one shape."""
    first, *others = specs
    numbers = first["dtype"] != TEXT
    return not others and numbers and None not in first["shape"][1:]


def _all_finite(array):
    # Looking for a zero byte: a third of the price of `.all()` on one example.
    return 0 not in np.isfinite(array).tobytes()

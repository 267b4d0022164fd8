"""Validation and conversion of inputs, by a bundle's manifest."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_cascade.utils.image_format import SCALES, scale_of_range

if TYPE_CHECKING:
    import numpy.typing as npt

    from keras_cascade.runtime.integer_inputs import IntegerInputs

    #: One example or a batch: an array, texts, or a dict of these by input.
    Inputs = npt.ArrayLike | dict[str, Any]

#: A manifest's name for inputs that hold text.
TEXT = "string"
#: Longer texts are refused as a mistake: a model reads far less.
MAX_CHARACTERS = 1_000_000
#: Value ranges are checked in the first calls, and in every so many later.
FIRST_CALLS = 16
CALLS_BETWEEN = 64
#: Rows of a call whose value range is checked.
CHECKED_ROWS = 32


class InputValidator:
    """Validates inputs against a manifest and converts them to arrays.

    An array that already has the type and shape of the model's only input is
    passed on as it is. Everything else goes through `prepare_inputs`, which
    converts it or raises an error that says what is wrong.

    Floats far outside of the range of the calibration data, as pixels from 0
    to 255 are for a model that takes 0 to 1, are warned of once. The check
    reads the first 32 rows of each of the first 16 calls, and of every 64th
    call after them: a scale is wrong in all rows.

    Args:
        specs: list of `{"name", "shape", "dtype", "range"}` with the batch
            first, as in the manifest.
        integers: `IntegerInputs` of the student's file. Arrays of its own
            integers are taken for what they stand for. Defaults to `None`.
    """

    def __init__(
        self, specs: list[dict], integers: IntegerInputs | None = None
    ):
        self._specs = specs
        self._integers = integers
        self._row = None
        self._calls = 0
        self._ranges = RangeCheck(specs)
        if _is_of_one_size(specs):
            self._name = specs[0]["name"]
            self._dtype = np.dtype(specs[0]["dtype"])
            self._row = tuple(specs[0]["shape"][1:])
            self._is_float = self._dtype.kind == "f"

    def __call__(self, x: Inputs) -> dict[str, np.ndarray]:
        """Converts inputs to what the models take.

        Args:
            x: array, string, list of strings, or dict of input name to one of
                these; one example or a batch.

        Returns:
            Dict of input name to array, each with a batch axis.

        Raises:
            ValueError: names, shapes, types or values do not fit.
        """
        # The path of every kept example of images or numbers: no loop, no
        # copy, and one pass over the values.
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
                inputs = {self._name: batch}
                if self._is_float:
                    self._calls += 1
                    if self._calls <= FIRST_CALLS or not (
                        self._calls % CALLS_BETWEEN
                    ):
                        self._check_ranges(inputs)
                return inputs
        if self._integers is not None:
            x = self._integers.dequantized(x)
        inputs = prepare_inputs(x, self._specs)
        self._check_ranges(inputs)
        return inputs

    def _check_ranges(self, inputs):
        problem = self._ranges(inputs)
        if problem is not None:
            warnings.warn(f"{problem} This is said once.", stacklevel=5)


class RangeCheck:
    """Finds inputs far outside of a manifest's ranges, once.

    Args:
        specs: list of a bundle's inputs, as in the manifest.
    """

    def __init__(self, specs: list[dict]):
        self._ranged = [
            spec
            for spec in specs
            if spec["dtype"].startswith("float") and spec.get("range")
        ]

    def __call__(self, inputs: dict[str, np.ndarray]) -> str | None:
        """Checks the first rows of prepared inputs.

        Args:
            inputs: dict of input name to array, batch first.

        Returns:
            Str, what is wrong and what to do; `None` where nothing is, and
            after the first time.
        """
        for spec in self._ranged:
            rows = inputs[spec["name"]][:CHECKED_ROWS]
            problem = range_problem(rows, spec["range"])
            if problem is not None:
                self._ranged = []
                return (
                    f"Input '{spec['name']}' holds {problem}, the range of "
                    "the data that the bundle was calibrated on. Expected: "
                    "inputs scaled as in training; the answers are wrong "
                    "otherwise."
                )
        return None


def prepare_inputs(
    x: Inputs, specs: list[dict], allow_single: bool = True
) -> dict[str, np.ndarray]:
    """Converts inputs to the arrays that the models take.

    Args:
        x: array, or dict of input name to array; one example or a batch.
            Inputs of text take a string, or a list or array of strings.
        specs: list of `{"name", "shape", "dtype"}` with the batch first, as
            in the manifest.
        allow_single: bool. Takes one example without a batch axis as a batch
            of one. Defaults to `True`.

    Returns:
        Dict of input name to array, each with a batch axis. Text is an array
        of dtype `object` that holds `str`.

    Raises:
        ValueError: names, shapes, types or values do not fit.
    """
    names = [spec["name"] for spec in specs]
    if not isinstance(x, dict):
        if len(names) > 1:
            raise ValueError(
                f"Expected a dict with the inputs {names}. Received: "
                f"{type(x).__name__}."
            )
        x = {names[0]: x}
    if set(x) != set(names):
        raise ValueError(
            f"Expected the inputs {names}. Received: {list(x)[:10]}."
        )
    inputs = {
        s["name"]: _prepare_one(x[s["name"]], s, allow_single) for s in specs
    }
    rows = {name: len(array) for name, array in inputs.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(
            "Expected every input to have the same number of rows. "
            f"Received: {rows}."
        )
    if not rows[names[0]]:
        raise ValueError("Expected at least one row. Received none.")
    return inputs


def value_range(array: np.ndarray) -> list[float] | None:
    """Returns the lowest and highest value of numbers, `None` for others."""
    if array.dtype.kind not in "biuf" or not array.size:
        return None
    return [float(array.min()), float(array.max())]


def range_problem(
    array: np.ndarray, expected: tuple[float, float] | list[float]
) -> str | None:
    """Returns what of an array contradicts a value range.

    Values may lie outside of the range by four times its width, as new data
    of a long tail do; wrong scales lie further out. Of images the range is
    that of the scale that the known data are in, half its width is allowed,
    and values up to 1 contradict a scale of 0 to 255.

    Args:
        array: array of numbers, batch first.
        expected: the lowest and the highest value of known data.

    Returns:
        Str, or `None` where nothing does.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.runtime.inputs import range_problem
    >>> range_problem(np.array([[0.0, 255.0]]), (0.0, 1.0))
    'values from 0 to 255, far outside of 0 to 1'
    """
    found = value_range(array)
    if found is None:
        return None
    low, high = expected
    images = array.ndim == 4
    if images and (scale := scale_of_range(expected)) is not None:
        low, high = SCALES[scale]
    slack = (high - low) * (0.5 if images else 4.0)
    outside = slack > 0 and (found[0] < low - slack or found[1] > high + slack)
    too_small = images and low >= 0 and high > 64 and 0 < found[1] <= 1
    if not outside and not too_small:
        return None
    where = "far outside of" if outside else "all at the low end of"
    return (
        f"values from {found[0]:g} to {found[1]:g}, {where} {low:g} to {high:g}"
    )


def text_array(
    values: npt.ArrayLike, name: str, allow_single_of: int | None = None
) -> np.ndarray:
    """Converts texts to an array of `str`, and rejects anything else.

    Args:
        values: `str`, or a list or array of them, nested or not; `bytes` in
            their place are read as UTF-8.
        name: str, their name in error messages, such as `"input 'text'"`.
        allow_single_of: int or `None`. Values with one axis fewer than this
            are one example and get a batch axis. Defaults to `None`: the
            first axis is the batch's.

    Returns:
        Array of dtype `object` that holds `str`, each valid Unicode and more
        than white space.

    Raises:
        ValueError: it names the first row that holds something else.

    Example:

    >>> from keras_cascade.runtime.inputs import text_array
    >>> text_array(["one", b"two"], "x").tolist()
    ['one', 'two']
    >>> text_array(["one", ""], "x")
    Traceback (most recent call last):
    ...
    ValueError: Expected text in x. Received an empty string in row 1.
    """
    try:
        # As objects: NumPy's own strings would drop NULs at their end.
        array = np.asarray(values, dtype=object)
    except ValueError:
        raise ValueError(
            f"Expected text in {name}. Received rows of different lengths."
        ) from None
    if array.ndim + 1 == allow_single_of:
        array = array[None]
    row_size = max(1, math.prod(array.shape[1:]))
    texts = np.empty(array.size, object)
    texts[:] = [
        _text(value, name, number // row_size)
        for number, value in enumerate(array.ravel().tolist())
    ]
    return texts.reshape(array.shape)


def _is_of_one_size(specs):
    """Returns `True` where a row is one array of numbers of a fixed shape."""
    first, *others = specs
    numbers = first["dtype"] != TEXT
    return not others and numbers and None not in first["shape"][1:]


def _all_finite(array):
    # A search for a zero byte takes a third of the time of `.all()` on one
    # example.
    return 0 not in np.isfinite(array).tobytes()


def _prepare_one(values, spec, allow_single):
    if spec["dtype"] == TEXT:
        return _prepare_text(values, spec, allow_single)
    name, dtype = spec["name"], np.dtype(spec["dtype"])
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(
            f"Expected input '{name}' to be an array of {dtype}. Received "
            "rows of different lengths."
        ) from None
    if array.dtype.kind not in "biuf" or (
        dtype.kind in "iu" and array.dtype.kind == "f"
    ):
        raise ValueError(
            f"Expected input '{name}' to hold {dtype}. Received: {array.dtype}."
        )
    value_range = spec.get("range")
    pixels = array.dtype.kind in "iu" and dtype.kind == "f" and array.size
    if pixels and value_range is not None and value_range[1] <= 1 < array.max():
        raise ValueError(
            f"Expected input '{name}' in the range {value_range} that the "
            "model was calibrated on. Received integers up to "
            f"{array.max()}. Divide pixel values by 255."
        )
    array = _with_every_axis(array, spec["shape"][1:], allow_single)
    _check_shape(array, spec)
    with np.errstate(over="ignore"):
        converted = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and (converted != array).any():
        raise ValueError(
            f"Expected input '{name}' to fit into {dtype}. Received values "
            f"from {array.min()} to {array.max()}."
        )
    if dtype.kind == "f" and not np.isfinite(converted).all():
        raise ValueError(
            f"Expected finite values in input '{name}'. Received NaN or "
            "infinity."
        )
    return converted


def _prepare_text(values, spec, allow_single):
    texts = text_array(
        values,
        f"input '{spec['name']}'",
        len(spec["shape"]) if allow_single else None,
    )
    _check_shape(texts, spec)
    return texts


def _with_every_axis(array, row, allow_single):
    """Adds a batch axis to one example, and a last axis of one to a batch.

    Keras adds or drops the last axis likewise, as of images in grayscale.

    Args:
        array: array.
        row: sizes of one example; `None` for free ones.
        allow_single: bool, whether one example is a batch.
    """
    one = row[-1:] == [1]
    missing = len(row) + 1 - array.ndim
    if missing == 1:
        is_row = allow_single and _is_of(array.shape, row)
        if not is_row and one and _is_of(array.shape[1:], row[:-1]):
            return array[..., None]
        return array[None] if allow_single else array
    if missing == 2 and allow_single and one and _is_of(array.shape, row[:-1]):
        return array[None, ..., None]
    if missing == -1 and array.shape[-1] == 1:
        return array[..., 0]
    return array


def _is_of(shape, row):
    return len(shape) == len(row) and all(
        own in (None, size) for size, own in zip(shape, row, strict=True)
    )


def _check_shape(array, spec):
    shape = spec["shape"]
    if array.ndim != len(shape) or not _is_of(array.shape[1:], shape[1:]):
        expected = ["batch", *shape[1:]]
        raise ValueError(
            f"Expected input '{spec['name']}' of shape {expected}. Received: "
            f"{list(array.shape)}."
        )


def _text(value, name, row):
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Expected text in {name}. Received bytes that are no UTF-8 "
                f"in row {row}, from byte {error.start} on."
            ) from None
    if not isinstance(value, str):
        raise ValueError(
            f"Expected text in {name}, a string for each. Received: "
            f"{_type_name(value)} in row {row}."
        )
    if not value or value.isspace():
        content = "white space alone" if value else "an empty string"
        raise ValueError(
            f"Expected text in {name}. Received {content} in row {row}."
        )
    if len(value) > MAX_CHARACTERS:
        raise ValueError(
            f"Expected texts of at most {MAX_CHARACTERS} characters in {name}. "
            f"Received {len(value)} in row {row}. Cut it: a model reads far "
            "less."
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Expected text in {name}. Received half a surrogate pair in "
                f"row {row}, character {error.start}: no valid Unicode."
            ) from None
    return str.__str__(value)  # NumPy's are of a class of their own


def _type_name(value):
    return "None" if value is None else type(value).__name__

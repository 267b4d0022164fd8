"""Texts as the models take them: checked, whatever form they come in."""

import math

import numpy as np

#: A manifest's name for inputs that hold text.
TEXT = "string"
#: Longer ones are taken for a mistake. A model reads far less.
MAX_CHARACTERS = 1_000_000


def text_array(values, what, allow_single_of=None):
    """Brings texts into one form, and refuses what is no text.

    Args:
        values: `str`, or a list or array of them, nested or not; `bytes` in
            their place are read as UTF-8.
        what: str, what a message calls them, such as `"input 'text'"`.
        allow_single_of: int or `None`. Values with one axis fewer than this
            are one example and get a batch axis. Defaults to `None`: the
            first axis is the batch's.

    Returns:
        Array of dtype `object` that holds `str`, each valid Unicode and more
        than white space.

    Raises:
        ValueError: it names the first row that holds something else.

    Example:

    >>> from keras_cascade.runtime.text_inputs import text_array
    >>> text_array(["one", b"two"], "x").tolist()
    ['one', 'two']
    >>> text_array(["one", ""], "x")
    Traceback (most recent call last):
    ...
    ValueError: Expected text in x. Received an empty string in row 1.
    """
    try:
        # As objects: NumPy's own strings would drop NULs at their end.
        given = np.asarray(values, dtype=object)
    except ValueError:
        raise ValueError(
            f"Expected text in {what}. Received rows of different lengths."
        ) from None
    if given.ndim + 1 == allow_single_of:
        given = given[None]
    row_size = max(1, math.prod(given.shape[1:]))
    texts = np.empty(given.size, object)
    texts[:] = [
        _text(value, what, number // row_size)
        for number, value in enumerate(given.ravel().tolist())
    ]
    return texts.reshape(given.shape)


def _text(value, what, row):
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Expected text in {what}. Received bytes that are no UTF-8 "
                f"in row {row}, from byte {error.start} on."
            ) from None
    if not isinstance(value, str):
        raise ValueError(
            f"Expected text in {what}, a string for each. Received: "
            f"{_named(value)} in row {row}."
        )
    if not value or value.isspace():
        found = "white space alone" if value else "an empty string"
        raise ValueError(
            f"Expected text in {what}. Received {found} in row {row}."
        )
    if len(value) > MAX_CHARACTERS:
        raise ValueError(
            f"Expected texts of at most {MAX_CHARACTERS} characters in {what}. "
            f"Received {len(value)} in row {row}. Cut it: a model reads far "
            "less."
        )
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Expected text in {what}. Received half a surrogate pair in "
                f"row {row}, character {error.start}: no valid Unicode."
            ) from None
    return str.__str__(value)  # NumPy's are of a class of their own


def _named(value):
    return "None" if value is None else type(value).__name__

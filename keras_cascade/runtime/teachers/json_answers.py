"""Reading of a teacher's JSON in bounded memory.

Python's parser makes an object of 24 to 64 bytes of each number, string or
list, however short its text. So only short texts are given to it whole. In a
longer one the arrays of numbers are cut out first and become NumPy arrays,
and the rest, names and braces, must be short.
"""

from __future__ import annotations

import itertools
import json
import re

import numpy as np

#: Bytes that are parsed whole: at most 2 MB of objects, whatever they hold.
SMALL = 32 * 1024
#: Bytes of an array whose numbers are Python objects at a time.
CHUNK = 64 * 1024
#: Arrays of fewer bytes are left to Python's parser.
SHORT = 256
#: Arrays beside the rows: the list of rows itself, shapes.
OTHER_ARRAYS = 64
#: Text that can only be of arrays of numbers. A string's content can look
#: like it too; cut out of its quotes it leaves text that is no JSON.
_NUMBERS = re.compile(rb"[-+.eE0-9 \t\r\n,\[\]]*")
_MANY_NUMBERS = re.compile(rb"[-+.eE0-9 \t\r\n,\[\]]{64}")
_KEY = "keras_cascade.array"


def read_json(content: bytes, rows: int, axes: int = 2):
    """Parses a text; in a long one arrays of numbers become `np.ndarray`.

    Args:
        content: bytes.
        rows: int, how many lists of numbers a long text may have in a list.
        axes: int, how deep arrays may be. Defaults to `2`.

    Returns:
        The value. In a text of more than 32 KiB, a long array of numbers is a
        float32 array of one axis, of two for a list of lists, or of more.

    Raises:
        ValueError: no JSON, lists of lists of different lengths, more rows,
            or more text around the numbers than an answer of logits has.
    """
    arrays: list[np.ndarray] = []
    if len(content) > SMALL:
        content = _without_arrays(content, rows, arrays, axes)

    def restored(values):
        number = values.get(_KEY)
        if len(values) == 1 and type(number) is int and arrays:
            return arrays[number]
        return values

    try:
        return json.loads(content, object_hook=restored)
    except (IndexError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}, {error}") from None


def _without_arrays(content, rows, arrays, axes):
    """Returns the text with numbered objects in place of its long arrays."""
    if not content.isascii():
        # As str, one character of four bytes makes all others as long.
        raise ValueError("a long answer with characters beyond ASCII")
    parts, copied = [], 0
    for position, end_of_run in _runs(content):
        if content.count(b"[", position, end_of_run) > rows + OTHER_ARRAYS:
            raise ValueError(f"more than {rows} rows")
        while True:
            start = content.find(b"[", position, end_of_run)
            end = _end_of_array(content, start, end_of_run, axes)
            if end is None:
                break
            position = end
            if end - start < SHORT:
                _check_rest(end - copied)
                continue
            parts.append(content[copied:start])
            parts.append(b'{"%s":%d}' % (_KEY.encode(), len(arrays)))
            arrays.append(_array(content, start + 1, end - 1))
            copied = end
    parts.append(content[copied:])
    rest = b"".join(parts)
    _check_rest(len(rest))
    return rest


def _runs(content):
    """Yields start and end of each text that can be of arrays of numbers.

    A piece at a time: a search holds up all other threads.
    """
    position = 0
    while position < len(content):
        stop = min(position + CHUNK, len(content))
        found = _MANY_NUMBERS.search(content, position, stop)
        if found is None:  # the next 64 may begin in this piece
            position = stop if stop == len(content) else stop - 63
            continue
        start, position = found.span()
        while position < len(content):
            stop = min(position + CHUNK, len(content))
            position = _NUMBERS.match(content, position, stop).end()
            if position < stop:
                break
        yield start, position


def _check_rest(size):
    if size > SMALL:
        raise ValueError(
            f"{size} bytes that are no rows of numbers, more than {SMALL}"
        )


def _end_of_array(content, start, end, axes):
    """Returns the index behind the bracket that closes an array."""
    if start < 0:
        return None
    depth, opening = 0, start
    closing = content.find(b"]", start, end)
    while closing >= 0:
        if 0 <= opening < closing:
            depth += 1
            if depth > axes:
                raise ValueError(f"an array of more than {axes} axes")
            opening = content.find(b"[", opening + 1, end)
        else:
            depth -= 1
            if not depth:
                return closing + 1
            closing = content.find(b"]", closing + 1, end)
    return None


def _array(content, start, end):
    """Reads what is between an array's brackets."""
    if content.find(b"[", start, end) < 0:
        return _row(content, start, end)
    rows: list[np.ndarray] = []
    position = start
    for number in itertools.count():
        begin = content.find(b"[", position, end)
        last = begin < 0
        between = content[position : end if last else begin].strip()
        if between != (b"" if last or not number else b","):
            raise ValueError("a list of lists and of something else")
        if last:
            break
        position = _closing(content, begin, end)
        rows.append(_array(content, begin + 1, position - 1))
        if rows[-1].shape != rows[0].shape:
            raise ValueError("rows of different lengths")
    return np.stack(rows)


def _closing(content, start, end):
    """Returns the index behind the bracket that closes one at `start`."""
    depth, position = 1, start + 1
    while depth:
        closing = content.find(b"]", position, end)
        depth += content.count(b"[", position, closing) - 1
        position = closing + 1
    return position


def _row(content, start, end):
    """Reads numbers with commas between them."""
    parts = []
    while start <= end:
        cut = content.find(b",", min(start + CHUNK, end), end)
        cut = end if cut < 0 else cut
        # An empty one, after a comma too many, is no number for `float`.
        numbers = content[start:cut].split(b",")
        # Not `astype`, which lets the interpreter's lock go and takes it again
        # at once: another thread that is woken each time and finds it taken
        # never asks for it, and waits for the end of a long row.
        with np.errstate(over="ignore"):
            parts.append(np.fromiter(map(float, numbers), "float32"))
        start = cut + 1
    return np.concatenate(parts) if len(parts) > 1 else parts[0]

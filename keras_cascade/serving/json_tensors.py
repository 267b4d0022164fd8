"""Inputs in JSON: as slices of the text, and numbers straight into arrays.

A body of up to `SMALL` bytes is parsed as a whole. The objects of a larger
one would take many times its size: its elements are counted first
(`count_json`), it is cut into slices, and a slice of numbers is parsed in
pieces, each of which is converted before the next one is parsed.
"""

import itertools
import math
import time

import msgspec
import numpy as np
import orjson

from keras_cascade.runtime.inputs import TEXT
from keras_cascade.runtime.json_limits import JsonBounds, count_json
from keras_cascade.serving.request_error import RequestError, too_many_rows

SMALL = 64 * 1024
#: Bytes of a piece of numbers.
PIECE = 64 * 1024
#: Bytes of a field that is not a tensor's data.
MAX_FIELD = 64 * 1024
#: Characters between two commas, for white space and one number.
MAX_GAP = 1024 * 1024
#: Elements of a request beside those of its inputs.
OTHERS = 1000
#: Bytes for each text, where the manifest does not say how many there are:
#: a string of Python takes 72 at least.
BYTES_PER_TEXT = 16

Slice = msgspec.Raw

_MEMBERS = msgspec.json.Decoder(dict[str, Slice])
_ELEMENTS = msgspec.json.Decoder(list[Slice])
_BESIDE_NUMBERS = b"[] \t\r\n"
_NUMBERS = {int, float, bool}


def is_small(text):
    """Returns `True` where a text may be parsed as a whole."""
    return len(memoryview(text)) <= SMALL


def large_object(body, specs, max_rows):
    """Slices a large body, after its elements were counted.

    Args:
        body: bytes-like.
        specs: list of the inputs, as in the manifest.
        max_rows: int, of one request.

    Returns:
        Dict of name to `Slice`, and the `JsonCounts`.

    Raises:
        RequestError: no JSON object, or more in it than `max_rows` rows have.
    """
    try:
        counts = count_json(body, _bounds(specs, max_rows, len(body)))
    except ValueError as error:
        too_deep = "nesting" in str(error)
        raise RequestError(
            400 if too_deep else 413,
            f"{error} A request has at most {max_rows} rows.",
        ) from None
    rows = int(counts.commas_at[2]) + 1
    if rows > max_rows + OTHERS:  # whatever is there, there is too much
        raise too_many_rows(rows, max_rows)
    return members(body, "the body"), counts


def members(text, path):
    """Returns a dict of name to `Slice`, of a JSON object."""
    return _decoded(_MEMBERS, text, f"Expected a JSON object in {path}.")


def elements(text, path):
    """Returns a list of `Slice`, of a JSON list."""
    return _decoded(_ELEMENTS, text, f"Expected a JSON list in {path}.")


def plain(value, path):
    """Returns a value as Python objects; a `Slice` is parsed, if it is small.

    Args:
        value: any.
        path: str, what it is in error messages.

    Raises:
        RequestError: a large one, or no valid JSON.
    """
    if not isinstance(value, Slice):
        return value
    size = len(memoryview(value))
    if size > MAX_FIELD:
        raise RequestError(
            400,
            f"Expected {path} of at most {MAX_FIELD} bytes. Received: {size}.",
        )
    return parse_json(value)


def parse_json(text):
    """Parses JSON strictly.

    Args:
        text: bytes-like.

    Raises:
        RequestError: not JSON (NaN is none).
    """
    try:
        return orjson.loads(memoryview(text))
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400, f"Expected JSON in the body. Received something else: {error}."
        ) from None


def first_character(value, skip=b""):
    """Returns the first byte of a `Slice` that is no white space, as bytes.

    Args:
        value: `Slice`.
        skip: bytes that are skipped once before it. Defaults to none.
    """
    view = memoryview(value)
    for start in range(0, len(view), PIECE):
        text = bytes(view[start : start + PIECE]).lstrip()
        if skip and text[:1] == skip:
            text, skip = text[1:].lstrip(), b""
        if text:
            return text[:1]
    return b""


def read_numbers(values, spec, max_rows=None, shapes=None):
    """Converts numbers in JSON to an array of the input's type.

    Args:
        values: number or list of them, nested or not; a `Slice` with such;
            or, where rows came one by one, a list of `Slice`.
        spec: dict of the input, as in the manifest.
        max_rows: int or `None`. A large list with more is not read. Defaults
            to `None`.
        shapes: list of tuples or `None`. Only these are read. Defaults to
            `None`: of a large list, those that the manifest allows.

    Returns:
        Array.

    Raises:
        RequestError: other values, another shape, or a value that the type
            cannot hold.
    """
    converter = _Converter(spec)
    if isinstance(values, list) and values and isinstance(values[0], Slice):
        row = {**spec, "shape": spec["shape"][1:]}
        parts = [_read(one, converter, row, None, None) for one in values]
        if len({part.shape for part in parts}) > 1:
            raise _ragged(spec)
        array = np.stack(parts)
    else:
        array = _read(values, converter, spec, max_rows, shapes)
    converter.check_range()
    return array


def read_texts(values, spec, max_rows):
    """Returns texts in JSON as Python objects, counted before.

    Args:
        values: as of `read_numbers`.
        spec: dict of the input, as in the manifest.
        max_rows: int.

    Raises:
        RequestError: more than `max_rows` rows have, or no valid JSON.
    """
    if isinstance(values, list):
        return [
            read_texts(one, spec, 1) if isinstance(one, Slice) else one
            for one in values
        ]
    if not isinstance(values, Slice):
        return values
    if not is_small(values):
        size = len(memoryview(values))
        # A text in base64 is an object and a string, and each has a list.
        bound = 3 * _texts(spec, max_rows, size) + OTHERS
        try:
            count_json(memoryview(values), JsonBounds(values=bound))
        except ValueError as error:
            raise RequestError(413, f"{error} Send fewer texts.") from None
    return parse_json(values)


class _Converter:
    """Converts lists of numbers as `prepare_inputs` does a whole array.

    A whole number stands for a pixel only where all values are whole, so the
    range is checked at the end.
    """

    def __init__(self, spec):
        self._spec = spec
        self._are_whole = True
        self._largest = -math.inf
        self.dtype = np.dtype(spec["dtype"])

    def __call__(self, values):
        name, dtype = self._spec["name"], self.dtype
        types = set(map(type, values))
        if not types <= _NUMBERS:
            other = min(one.__name__ for one in types - _NUMBERS)
            raise RequestError(
                400,
                f"Expected input '{name}' to hold {dtype}. Received: "
                f"{other.replace('NoneType', 'null')}.",
            )
        if not values:
            return np.empty(0, dtype)
        array = np.asarray(values)
        kind = array.dtype.kind
        if kind not in "biuf" or (kind == "f" and dtype.kind in "iu"):
            raise RequestError(
                400,
                f"Expected input '{name}' to hold {dtype}. Received: "
                f"{array.dtype}.",
            )
        if kind == "f":
            self._are_whole = False
        else:
            self._largest = max(self._largest, array.max())
        with np.errstate(over="ignore"):
            converted = array.astype(dtype)
        if dtype.kind in "iu" and (converted != array).any():
            raise RequestError(
                400,
                f"Expected input '{name}' to fit into {dtype}. Received "
                f"values from {array.min()} to {array.max()}.",
            )
        return converted

    def check_range(self):
        """Raises for pixels up to 255 where the model takes them up to 1."""
        bounds = self._spec.get("range")
        if (
            self._are_whole
            and self.dtype.kind == "f"
            and bounds is not None
            and bounds[1] <= 1 < self._largest
        ):
            raise RequestError(
                400,
                f"Expected input '{self._spec['name']}' in the range {bounds} "
                "that the model was calibrated on. Received integers up to "
                f"{self._largest}. Divide pixel values by 255.",
            )


def _read(values, converter, spec, max_rows, shapes):
    if isinstance(values, Slice):
        if not is_small(values) and first_character(values) == b"[":
            return _read_large(values, converter, spec, max_rows, shapes)
        values = parse_json(values)
    flat, shape = _flattened(values, spec)
    if shapes is not None and shape not in shapes:
        raise _wrong_shape(spec, shape, shapes)
    return converter(flat).reshape(shape)


def _flattened(values, spec):
    """Returns nested lists as one list, and their shape.

    The types are compared before the values are: NumPy would make strings of
    a fixed width from them, each as long as the longest.
    """
    level, shape = [values], []
    while level:
        types = set(map(type, level))
        if list not in types:
            break
        sizes = set(map(len, level)) if types == {list} else ()
        if len(sizes) != 1 or len(shape) == 64:
            raise _ragged(spec)
        shape.append(*sizes)
        level = list(itertools.chain.from_iterable(level))
    return level, tuple(shape)


def _read_large(values, converter, spec, max_rows, shapes):
    """Reads a large list piece by piece; its shape follows from the counts."""
    view = memoryview(values)
    shape = _shape(view, spec)
    if max_rows is not None and shape[0] > max_rows:
        raise too_many_rows(shape[0], max_rows)
    if not _fits(shape, shapes or [tuple(spec["shape"])]):
        raise _wrong_shape(spec, shape, shapes)
    # Values of one list, by its level.
    blocks = np.array(
        [1, *(math.prod(shape[axis:]) for axis in range(len(shape)))]
    )
    array = np.empty(blocks[1], converter.dtype)
    start = filled = level = 0
    while start < len(view):
        text, end = _piece(view, start, spec)
        level = _check_brackets(text, blocks, filled, level, spec)
        flat = _parsed_piece(text, spec)
        stop = filled + len(flat)
        if stop > array.size:
            raise _ragged(spec)
        array[filled:stop] = converter(flat)
        filled, start = stop, end + 1
        time.sleep(0)  # the event loop's turn
    if filled != array.size:
        raise _ragged(spec)
    return array.reshape(shape)


def _fits(shape, shapes):
    return any(
        len(shape) == len(one)
        and all(n in (None, size) for n, size in zip(one, shape, strict=True))
        for one in shapes
    )


def _shape(view, spec):
    """Returns the shape of nested lists of numbers, from their counts.

    That each list has its size is checked later, by `_check_brackets`.
    """
    try:
        counts = count_json(view, JsonBounds(objects=0, strings=0))
    except ValueError:
        raise RequestError(
            400,
            f"Expected input '{spec['name']}' to hold {spec['dtype']}, in "
            "lists. Received strings or objects.",
        ) from None
    lists = counts.lists_at[1 : counts.depth + 1].tolist()
    totals = [*lists, int(counts.commas_at.sum()) + 1]
    shape = []
    for inner, outer in itertools.pairwise(reversed(totals)):
        size, remainder = divmod(inner, outer)
        if remainder:
            raise _ragged(spec)
        shape.append(size)
    return tuple(reversed(shape))


def _piece(view, start, spec):
    """Returns the text up to a comma, at least one value, and its end."""
    size = PIECE
    while True:
        end = start + size
        text = bytes(view[start:end])
        if end >= len(view):
            return text, len(view)
        last = text.rfind(b",")
        if last >= 0:
            return text[:last], start + last
        if size >= MAX_GAP:
            raise RequestError(
                400,
                f"Expected numbers of at most {MAX_GAP} characters in input "
                f"'{spec['name']}', white space included. Received more.",
            )
        size *= 4


def _check_brackets(text, blocks, filled, level, spec):
    """Checks that lists begin and end where those of the shape do.

    Args:
        text: bytes, without strings.
        blocks: int array, values of one list by its level.
        filled: int, values before the text.
        level: int, at its start.
        spec: dict of the input.

    Returns:
        int, the level at its end.
    """
    if b"[" not in text and b"]" not in text:
        return level
    codes = np.frombuffer(text, np.uint8)
    opens = codes == ord("[")
    brackets = np.flatnonzero(opens | (codes == ord("]")))
    commas = np.flatnonzero(codes == ord(","))
    begins = opens[brackets]
    levels = level + np.cumsum(np.where(begins, 1, -1))
    level = int(levels[-1])
    levels += ~begins  # a list's level, at its end too
    before = filled + np.searchsorted(commas, brackets) + ~begins
    if levels.max() >= len(blocks) or (before % blocks[levels]).any():
        raise _ragged(spec)
    return level


def _parsed_piece(text, spec):
    """Parses numbers between commas; brackets were checked.

    Without white space: after a first one orjson reserves less memory, which
    is too little for short numbers.
    """
    numbers = text.translate(None, _BESIDE_NUMBERS)
    try:
        return orjson.loads(b"[%s]" % numbers)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            400,
            f"Expected JSON with a number in every place of input "
            f"'{spec['name']}'. Received something else: "
            f"{str(error).partition(':')[0]}.",
        ) from None


def _decoded(decoder, text, expected):
    try:
        return decoder.decode(memoryview(text))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestError(
            400, f"{expected} Received something else: {str(error)[:200]}."
        ) from None


def _bounds(specs, max_rows, size):
    """Returns what `max_rows` rows have at most, and a little more."""
    texts = sum(_texts(spec, max_rows, size) for spec in specs)
    names = max_rows * len(specs)
    lists = None
    if not any(None in spec["shape"][1:] for spec in specs):
        lists = OTHERS + max_rows * sum(map(_lists, specs))
    return JsonBounds(
        lists=lists,
        objects=OTHERS + max_rows + texts,
        keys=OTHERS + names + texts,
        strings=OTHERS + names + 2 * texts,
    )


def _texts(spec, max_rows, size):
    """Returns how many texts of an input a text of `size` bytes may have."""
    if spec["dtype"] != TEXT:
        return 0
    texts = max_rows * math.prod(n or 1 for n in spec["shape"][1:])
    if None in spec["shape"][1:]:
        texts = max(texts, size // BYTES_PER_TEXT)
    return texts


def _lists(spec):
    """Returns the lists in one row of an input, the row's own among them."""
    sizes = spec["shape"][1:]
    return 1 + sum(math.prod(sizes[:axis]) for axis in range(len(sizes)))


def _ragged(spec):
    return RequestError(
        400,
        f"Expected input '{spec['name']}' to be an array of {spec['dtype']}. "
        "Received rows of different lengths.",
    )


def _wrong_shape(spec, shape, shapes):
    name = spec["name"]
    if shapes is None:
        expected = f"input '{name}' of shape {['batch', *spec['shape'][1:]]}"
    else:
        flat, nested = map(list, shapes)
        expected = (
            f"'data' of input '{name}' to have the shape {nested}, or to be a "
            f"flat list of {flat[0]}"
        )
    return RequestError(400, f"Expected {expected}. Received: {list(shape)}.")

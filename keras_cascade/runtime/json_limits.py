"""Bounds on JSON text, checked before a parser creates objects from it.

A parser's objects take up to 30 times the size of the text: `[],` is three
bytes, and the list that it becomes 80. So the elements of a large text are
counted first, in chunks and in bounded memory.
"""

from __future__ import annotations

import dataclasses

import numpy as np

CHUNK = 64 * 1024
#: Levels of nesting; NumPy has arrays of 64 axes.
MAX_DEPTH = 72

_LIST, _OBJECT, _CLOSE, _COMMA, _COLON, _QUOTE = range(1, 7)
# `bytes.translate` takes an eighth of the time of an array as an index.
_KINDS = bytearray(256)
for _characters, _kind in (
    (b"[", _LIST),
    (b"{", _OBJECT),
    (b"]}", _CLOSE),
    (b",", _COMMA),
    (b":", _COLON),
    (b'"', _QUOTE),
):
    for _character in _characters:
        _KINDS[_character] = _kind
_STEPS = np.zeros(7, np.int8)
_STEPS[[_LIST, _OBJECT]] = 1
_STEPS[_CLOSE] = -1
_BACKSLASH = ord("\\")


@dataclasses.dataclass(frozen=True)
class JsonBounds:
    """Largest number of elements in a JSON text; `None` is no bound.

    Args:
        depth: int, levels of nesting. Defaults to `MAX_DEPTH`.
        values: int or `None`: numbers, strings and other values, those that
            are lists or objects among them, without an object's keys.
            Defaults to `None`.
        lists: int or `None`. Defaults to `None`.
        objects: int or `None`. Defaults to `None`.
        keys: int or `None`, of all objects together. Defaults to `None`.
        strings: int or `None`, keys among them. Defaults to `None`.
    """

    depth: int = MAX_DEPTH
    values: int | None = None
    lists: int | None = None
    objects: int | None = None
    keys: int | None = None
    strings: int | None = None

    def check(self, counts: JsonCounts) -> None:
        """Raises a `ValueError` that names the first bound exceeded."""
        for field in dataclasses.fields(self):
            bound = getattr(self, field.name)
            count = getattr(counts, field.name)
            if bound is None or count <= bound:
                continue
            unit = "levels of" if field.name == "depth" else field.name
            raise ValueError(
                f"Expected JSON with at most {bound} {unit} "
                f"{'nesting' if field.name == 'depth' else 'in it'}. "
                "Received more."
            )


@dataclasses.dataclass
class JsonCounts:
    """Numbers of elements in a JSON text.

    Exact for valid JSON; for anything else no parser gets further than they
    say. The attributes are those of `JsonBounds`, and two arrays by level of
    nesting: level 1 is inside the outermost list or object.

    Attributes:
        commas_at: int array `(MAX_DEPTH + 2,)`, commas by level.
        lists_at: int array `(MAX_DEPTH + 2,)`, lists by the level of their
            elements.
    """

    lists: int = 0
    objects: int = 0
    keys: int = 0
    strings: int = 0
    depth: int = 0
    commas_at: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(MAX_DEPTH + 2, np.int64)
    )
    lists_at: np.ndarray = dataclasses.field(
        default_factory=lambda: np.zeros(MAX_DEPTH + 2, np.int64)
    )

    @property
    def values(self) -> int:
        """Number of values: at most one per comma, list or object, and one."""
        return int(self.commas_at.sum()) + self.lists + self.objects + 1


def count_json(
    text: bytes | bytearray | memoryview, bounds: JsonBounds | None = None
) -> JsonCounts:
    r"""Counts the elements of a JSON text without parsing it.

    Commas and brackets inside of strings are none. Memory is bounded: some
    1.5 MB, however long the text. It is no validation.

    Args:
        text: bytes-like, UTF-8.
        bounds: `JsonBounds` or `None`. Counting ends at the first one that is
            exceeded. Defaults to `None`.

    Returns:
        `JsonCounts`.

    Raises:
        ValueError: the text exceeds a bound.

    Example:

    >>> from keras_cascade.runtime.json_limits import JsonBounds, count_json
    >>> counts = count_json(rb'{"a": [1, 2, "[\",]"], "b": {}}')
    >>> counts.lists, counts.objects, counts.strings, counts.keys
    (1, 2, 3, 2)
    >>> counts.commas_at[1:3].tolist()
    [1, 2]
    >>> count_json(b"[[],[],[]]", JsonBounds(lists=3))
    Traceback (most recent call last):
    ...
    ValueError: Expected JSON with at most 3 lists in it. Received more.
    """
    counts = JsonCounts()
    view = memoryview(text).cast("B")
    level = in_string = 0
    escaped = False
    for start in range(0, len(view), CHUNK):
        chunk = bytes(view[start : start + CHUNK])
        kinds = np.frombuffer(bytearray(chunk.translate(_KINDS)), np.uint8)
        quotes = kinds == _QUOTE
        escaped = _remove_escaped(chunk, quotes, escaped)
        if in_string or quotes.any():
            # 1 from a string's first quote up to, but without, its last.
            inside = np.cumsum(quotes, dtype=np.uint8)
            inside += in_string
            inside &= 1
            in_string = int(inside[-1])
            kinds *= 1 - inside
        kinds = kinds[kinds > 0]
        if kinds.size:
            level = _add(counts, kinds, level)
            if bounds is not None:
                bounds.check(counts)
    return counts


def _remove_escaped(chunk, quotes, escaped):
    r"""Removes escaped quotes from a mask.

    A character is escaped by an odd number of backslashes before it.

    Returns:
        bool: the first character after this chunk is escaped.
    """
    if not escaped and b"\\" not in chunk:
        return False
    slashes = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _BACKSLASH)
    if escaped:
        quotes[0] = False
        slashes = slashes[slashes > 0]
    if not slashes.size:
        return False
    ends = np.flatnonzero(np.diff(slashes, append=slashes[-1] + 2) > 1)
    lengths = np.diff(ends, prepend=-1)
    after = slashes[ends[lengths % 2 == 1]] + 1
    is_next = bool(after.size) and int(after[-1]) == len(chunk)
    quotes[after[: len(after) - is_next]] = False
    return is_next


def _add(counts, kinds, level):
    """Adds one chunk's elements outside of strings; returns the level."""
    numbers = [int(np.count_nonzero(kinds == n)) for n in range(7)]
    counts.lists += numbers[_LIST]
    counts.objects += numbers[_OBJECT]
    counts.keys += numbers[_COLON]
    counts.strings += numbers[_QUOTE]  # of each, its last quote
    levels = np.cumsum(_STEPS.take(kinds), dtype=np.int32)
    levels += level
    counts.depth = max(counts.depth, int(levels.max()))
    level = int(levels[-1])
    # Few levels, as nearly always, are counted fastest one by one.
    first, last = np.clip([levels.min(), levels.max()], 0, MAX_DEPTH + 1)
    np.clip(levels, first, last, out=levels)
    for kind, totals in (
        (_COMMA, counts.commas_at),
        (_LIST, counts.lists_at),
    ):
        if numbers[kind]:
            is_kind = kinds == kind
            for number in range(first, last + 1):
                totals[number] += np.count_nonzero(is_kind & (levels == number))
    return level

"""Bounds on JSON text: counts against a parser's own."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.runtime import json_limits
from keras_cascade.runtime.json_limits import JsonBounds, count_json

STRINGS = st.text(st.sampled_from('a"\\[]{},:\n\u00e9\0'), max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(STRINGS, inner, max_size=3)
    ),
    max_leaves=30,
)


def counted(value):
    """Numbers of elements, by walking the parsed value."""
    total = {
        "values": 0, "lists": 0, "objects": 0, "keys": 0, "strings": 0,
        "depth": 0,
    }  # fmt: skip
    commas, lists = {}, {}

    def walk(value, level):
        total["values"] += 1
        total["strings"] += isinstance(value, str)
        if not isinstance(value, (list, dict)):
            return
        total["depth"] = max(total["depth"], level + 1)
        if isinstance(value, dict):
            total["objects"] += 1
            total["keys"] += len(value)
            total["strings"] += len(value)
            children = list(value.values())
        else:
            total["lists"] += 1
            lists[level + 1] = lists.get(level + 1, 0) + 1
            children = value
        commas[level + 1] = commas.get(level + 1, 0) + max(0, len(value) - 1)
        for one in children:
            walk(one, level + 1)

    walk(value, 0)
    return total, commas, lists


def by_level(totals):
    return {n: count for n, count in enumerate(totals.tolist()) if count}


@settings(deadline=None, max_examples=300)
@given(
    value=VALUES,
    chunk=st.integers(1, 40),
    ascii_=st.booleans(),
    indent=st.none() | st.integers(0, 3),
)
def test_counts_are_those_of_a_parser(value, chunk, ascii_, indent):
    """In chunks of any size: a string or an escape may end between two."""
    text = json.dumps(value, ensure_ascii=ascii_, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_limits, "CHUNK", chunk)
        counts = count_json(text)
    total, commas, lists = counted(value)
    values = total.pop("values")
    assert {name: getattr(counts, name) for name in total} == total
    assert by_level(counts.commas_at) == {k: n for k, n in commas.items() if n}
    assert by_level(counts.lists_at) == lists
    # Of an empty list or object, one more than there are.
    assert values <= counts.values <= values + total["lists"] + total["objects"]


@settings(deadline=None)
@given(text=st.binary(max_size=60), chunk=st.integers(1, 20))
def test_other_bytes_are_counted_without_an_error(text, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_limits, "CHUNK", chunk)
        counts = count_json(text)
    assert counts.lists <= text.count(b"[")


@pytest.mark.parametrize(
    ("text", "bounds", "names"),
    [
        (b"[1,2,3]", {"values": 3}, "3 values"),
        (b"[[],[]]", {"lists": 2}, "2 lists"),
        (b"[{},{}]", {"objects": 1}, "1 objects"),
        (b'{"a":1,"b":2}', {"keys": 1}, "1 keys"),
        (b'["a","b"]', {"strings": 1}, "1 strings"),
        (b"[" * 73, {}, "72 levels of nesting"),
    ],
)
def test_a_bound_that_is_exceeded_is_named(text, bounds, names):
    with pytest.raises(ValueError, match=names):
        count_json(text, JsonBounds(**bounds))


def test_a_bound_that_is_met_is_no_error():
    bounds = JsonBounds(values=4, lists=1, objects=0, keys=0, strings=1)
    assert count_json(b'[1,2,"a"]', bounds).values == 4


@pytest.mark.parametrize("element", [b"[],", b'"",', b'\\"', b"1,", b"\\"])
def test_memory_does_not_grow_with_the_text(element):
    text = element * (4_000_000 // len(element))
    tracemalloc.start()
    count_json(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_500_000


def test_numpy_counts_past_a_level_of_32_bits():
    """Levels are added up, not stored in a byte."""
    counts = count_json(b"[" * 300 + b"," + b"]" * 300)
    assert counts.depth == 300
    assert counts.commas_at[json_limits.MAX_DEPTH + 1] == 1
    assert np.all(counts.commas_at[: json_limits.MAX_DEPTH + 1] == 0)

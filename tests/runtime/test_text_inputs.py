"""Validation of inputs that are texts."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.runtime.inputs import (
    MAX_CHARACTERS,
    InputValidator,
    prepare_inputs,
)

ONE = [{"name": "text", "shape": [None], "dtype": "string", "range": None}]
PAIR = [
    {"name": "premise", "shape": [None], "dtype": "string"},
    {"name": "hypothesis", "shape": [None], "dtype": "string"},
]
WIDE = [{"name": "text", "shape": [None, 2], "dtype": "string"}]
#: Halves of surrogate pairs among them.
ANY = st.characters(exclude_categories=())
MIXED = [*ONE, {"name": "numbers", "shape": [None, 3], "dtype": "float32"}]
BOTH_WAYS = pytest.mark.parametrize(
    "prepare", [prepare_inputs, lambda x, specs: InputValidator(specs)(x)]
)


@BOTH_WAYS
@pytest.mark.parametrize(
    "given_",
    [
        ["one", "zwölf"],
        ("one", "zwölf"),
        np.array(["one", "zwölf"]),
        np.array(["one", "zwölf"], object),
        np.array(["one", "zwölf"], np.dtypes.StringDType()),
        ["one", "zwölf".encode()],
        np.array([b"one", "zwölf".encode()]),
        [np.str_("one"), np.bytes_("zwölf".encode())],
        tf.constant(["one", "zwölf"]),
        {"text": ["one", "zwölf"]},
    ],
)
def test_every_form_of_a_batch(prepare, given_):
    found = prepare(given_, ONE)["text"]
    assert (found.dtype, found.shape) == (np.dtype(object), (2,))
    assert found.tolist() == ["one", "zwölf"]
    assert {type(text) for text in found} == {str}


@BOTH_WAYS
@pytest.mark.parametrize(
    "given_", ["zwölf", "zwölf".encode(), np.array("zwölf"), np.str_("zwölf")]
)
def test_one_example(prepare, given_):
    assert prepare(given_, ONE)["text"].tolist() == ["zwölf"]
    assert prepare({"text": given_}, ONE)["text"].tolist() == ["zwölf"]


def test_one_example_of_two_texts():
    assert prepare_inputs(["a", "b"], WIDE)["text"].tolist() == [["a", "b"]]
    assert prepare_inputs([["a", "b"]] * 3, WIDE)["text"].shape == (3, 2)


def test_several_inputs():
    both = {"premise": ["a", "b"], "hypothesis": ("c", b"d")}
    found = prepare_inputs(both, PAIR)
    assert found["hypothesis"].tolist() == ["c", "d"]
    mixed = prepare_inputs({"text": "a", "numbers": [1, 2, 3]}, MIXED)
    assert mixed["text"].shape == (1,)
    assert mixed["numbers"].shape == (1, 3)


@given(st.lists(st.text(ANY, min_size=1), min_size=1))
@settings(max_examples=100, deadline=None)
def test_unicode_is_kept_or_refused(texts):
    """Valid Unicode is kept unchanged, a NUL at its end included."""

    def holds(text):
        try:
            return bool(text.encode().decode().strip())
        except UnicodeEncodeError:
            return False

    if all(map(holds, texts)):
        assert prepare_inputs(texts, ONE)["text"].tolist() == texts
    else:
        first = [holds(text) for text in texts].index(False)
        with pytest.raises(ValueError, match=f"'text'.* in row {first}"):
            prepare_inputs(texts, ONE)


@BOTH_WAYS
@pytest.mark.parametrize(
    ("x", "specs", "message"),
    [
        (["a", "b", "c", ""], ONE, "Received an empty string in row 3"),
        (["a", "\t\n\u3000"], ONE, "Received white space alone in row 1"),
        ("", ONE, "empty string in row 0"),
        (["a", None], ONE, "Received: None in row 1"),
        (["a", 3], ONE, "Received: int in row 1"),
        (["a", np.nan], ONE, "Received: float in row 1"),
        (np.ones(2), ONE, "Received: float in row 0"),
        (None, ONE, "Received: None in row 0"),
        ([["a"], ["b", "c"]], ONE, "Received: list in row 0"),
        ([["a"], ["b"]], ONE, r"shape \['batch'\]. Received: \[2, 1\]"),
        ([["a", "b"], ["c", ""]], WIDE, "empty string in row 1"),
        ([["a"]], WIDE, r"shape \['batch', 2\]. Received: \[1, 1\]"),
        ([], ONE, "at least one row"),
        (["a", b"\xff"], ONE, "no UTF-8 in row 1, from byte 0"),
        (["a", b"ok\xed\xa0\x80"], ONE, "no UTF-8 in row 1, from byte 2"),
        (["a", "b\ud800"], ONE, "surrogate pair in row 1, character 1"),
        (
            ["a", "b" * (MAX_CHARACTERS + 1)],
            ONE,
            "at most 1000000 characters.*Received 1000001 in row 1",
        ),
        (
            [np.ones((2, 3)), np.ones((2, 4))],
            ONE,
            "'text'. Received rows of different lengths",
        ),
        (["a"], PAIR, "dict with the inputs"),
        (
            {"premise": ["a"], "hypothesis": ["b", "c"]},
            PAIR,
            "same number of rows",
        ),
        (
            {"premise": ["a"], "hypothesis": [" "]},
            PAIR,
            "'hypothesis'. Received white space",
        ),
    ],
)
def test_values_that_are_no_text(prepare, x, specs, message):
    with pytest.raises(ValueError, match=message):
        prepare(x, specs)


def test_the_longest_text_is_taken():
    longest = "ß" * MAX_CHARACTERS
    assert prepare_inputs(longest, ONE)["text"][0] == longest


def test_a_server_does_not_guess_the_batch():
    with pytest.raises(ValueError, match="shape"):
        prepare_inputs("one", ONE, allow_single=False)


def test_arguments_are_not_modified():
    given_ = np.array(["a", b"b"], object)
    prepare_inputs(given_, ONE)
    assert given_.tolist() == ["a", b"b"]

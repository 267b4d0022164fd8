"""Texts to token ids, against the library that reads the same file."""

import json

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_cascade as kc
from keras_cascade.text import Tokenizer

TEXTS = st.lists(st.text(max_size=60), min_size=1, max_size=5)


@settings(deadline=None)
@given(TEXTS)
def test_ids_are_the_library_s(tokenizer, texts):
    encoding = tokenizer.encode(texts)
    theirs = tokenizers.Tokenizer.from_str(tokenizer.content)
    for row, text in enumerate(texts):
        ids = theirs.encode(text).ids
        assert encoding["token_ids"][row, : len(ids)].tolist() == ids
        assert not encoding["token_ids"][row, len(ids) :].any()
        assert encoding["padding_mask"][row].sum() == len(ids)


@settings(deadline=None)
@given(TEXTS)
def test_one_text_at_a_time_is_the_same(tokenizer, texts):
    together = tokenizer.encode(texts)
    for row, text in enumerate(texts):
        alone = tokenizer.encode([text])
        assert np.array_equal(alone["token_ids"][0], together["token_ids"][row])


def test_length_comes_from_the_texts(texts, tokenizer):
    counts = tokenizer.counts(texts["train"][0])
    assert tokenizer.lengths == [kc.text.choose_length(counts)]


def test_a_text_that_is_too_long_is_cut_and_counted(tokenizer):
    (length,) = tokenizer.lengths
    encoding = tokenizer.encode(
        ["card", "card " * (length + 1), "card " * length]
    )
    assert encoding["truncated"].tolist() == [False, True, False]
    assert encoding["token_ids"].shape == (3, length)
    assert (encoding["token_ids"][1] == encoding["token_ids"][2]).all()


def test_several_lengths_pad_to_the_shortest_that_holds_the_batch(tokenizer):
    several = tokenizer.with_lengths([16, 4, 8])
    assert several.lengths == [4, 8, 16]
    for words, width in ((3, 4), (4, 4), (5, 8), (16, 16), (99, 16)):
        encoding = several.encode(["card " * words, "card"])
        assert encoding["token_ids"].shape == (2, width)


def test_a_pair_is_cut_in_turns(tokenizer):
    """Of 7 positions beside the separator the first text gets 4, in turns."""
    pairs = tokenizer.with_lengths(8)
    encoding = pairs.encode(
        ["card " * 9, "card " * 9, "card", "card lost"],
        ["euro " * 9, "euro", "euro " * 9, "euro rate"],
    )
    first = [4, 6, 1, 2]
    second = [3, 1, 6, 2]
    segments = encoding["segment_ids"]
    for row in range(4):
        # The separator is of the first segment.
        used = int(encoding["padding_mask"][row].sum())
        assert used == first[row] + 1 + second[row]
        assert segments[row, :used].sum() == second[row]
        assert segments[row, : first[row] + 1].sum() == 0
    assert encoding["truncated"].tolist() == [True, True, True, False]


def test_the_content_is_a_standard_file(tokenizer, tmp_path):
    file = tmp_path / "tokenizer.json"
    file.write_text(tokenizer.content, encoding="utf-8")
    assert json.loads(tokenizer.content)["version"] == "1.0"
    again = Tokenizer.from_file(file, tokenizer.lengths)
    assert again.get_config() == tokenizer.get_config()


@pytest.mark.parametrize("content", ["", "{}", "[1, 2", '{"model": 3}'])
def test_what_is_no_tokenizer(content):
    with pytest.raises(ValueError, match=r"content of a `tokenizer\.json`"):
        Tokenizer(content, 8)


@pytest.mark.parametrize("lengths", [0, -1, [], [4, 0], 2.5, True, "8"])
def test_lengths_that_are_none(tokenizer, lengths):
    with pytest.raises(ValueError, match="Expected `lengths`"):
        tokenizer.with_lengths(lengths)


def test_no_room_beside_the_special_tokens(tokenizer):
    with pytest.raises(ValueError, match="room for words"):
        tokenizer.with_lengths(1)


def test_a_padding_token_that_is_not_there(tokenizer):
    with pytest.raises(ValueError, match="Pass `pad=`"):
        Tokenizer(tokenizer.content, 8, pad="<pad>")


def test_no_texts():
    with pytest.raises(ValueError, match="at least one text"):
        kc.text.train_tokenizer([])

"""Text preprocessors: in the graph, and as a `Tokenizer` for a device."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_cascade.errors import ExportError
from keras_cascade.text import preprocessors
from keras_cascade.text.preprocessors.case_folding import folded
from keras_cascade.text.text_reader import PROBES
from keras_cascade.text.tokenizer import FEEDS
from tests.helpers.texts import make_texts

TEXTS = [*PROBES, *make_texts(200, 7)[0]]
#: Latin, Greek and Cyrillic letters, with their marks and punctuation.
EUROPEAN = st.characters(
    min_codepoint=32, max_codepoint=0x52F, categories=["L", "M", "N", "Z", "P"]
)


def same(step, texts, second=None):
    """Returns `True` where graph and device yield the same tokens."""
    columns = [texts] if second is None else [texts, second]
    expected = step.arrays(tuple(np.array(one, object) for one in columns))
    on_device = step.as_tokenizer().encode(*columns)
    return all(np.array_equal(expected[n], on_device[n]) for n in expected)


@pytest.mark.parametrize("strip_accents", [False, True])
@pytest.mark.parametrize("lowercase", [False, True])
def test_word_piece(bert, lowercase, strip_accents):
    model = bert(lowercase=lowercase, strip_accents=strip_accents)
    step = preprocessors.get(model.preprocessor, FEEDS)
    assert same(step, TEXTS)
    assert same(step, TEXTS, TEXTS[::-1])


@pytest.mark.parametrize("length", [15, 16])
def test_pairs_are_cut_as_keras_hub_does(bert, length):
    step = preprocessors.get(bert(length).preprocessor, FEEDS)
    long = ["card " * number for number in range(1, 25)]
    assert same(step, long, long[::-1])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(EUROPEAN, max_size=30), min_size=1, max_size=50))
def test_word_piece_of_european_letters(bert, texts):
    model = bert.__dict__.setdefault("folded", bert())
    step = preprocessors.get(model.preprocessor, FEEDS)
    assert same(step, [f"x{text}" for text in texts])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Straße", "strasse"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
        ("\ufb01ne", "fine"),
        ("\u2167", "viii"),
    ],
)
def test_folding_is_unicode_s(text, expected):
    """By the tables of CaseFolding.txt and of compatibility forms."""
    assert folded(text) == expected


@pytest.mark.parametrize("split", ["whitespace", "character"])
@pytest.mark.parametrize(
    "standardize",
    ["lower_and_strip_punctuation", "lower", "strip_punctuation", None],
)
def test_text_vectorization(standardize, split):
    layer = keras.layers.TextVectorization(
        max_tokens=80,
        standardize=standardize,
        split=split,
        output_sequence_length=12,
    )
    layer.adapt(TEXTS)
    assert same(preprocessors.get(layer, FEEDS[:1]), TEXTS)


@pytest.mark.parametrize(
    "options, name",
    [
        ({"ngrams": 2, "output_sequence_length": 4}, "ngrams"),
        ({}, "output_sequence_length"),
        ({"split": None, "output_sequence_length": 4}, "split"),
    ],
)
def test_what_cannot_be_said(options, name):
    layer = keras.layers.TextVectorization(**options)
    layer.adapt(TEXTS)
    with pytest.raises(ExportError, match=f"Received: {name}="):
        preprocessors.get(layer, FEEDS[:1]).as_tokenizer()


def test_another_kind_of_keras_hub_tokenizer():
    from keras_hub import models

    tokenizer = models.RobertaTokenizer(
        vocabulary={
            "<s>": 0,
            "<pad>": 1,
            "</s>": 2,
            "<mask>": 3,
            "a": 4,
            "b": 5,
            "ab": 6,
        },
        merges=["a b"],
    )
    packed = models.RobertaTextClassifierPreprocessor(
        tokenizer, sequence_length=8
    )
    step = preprocessors.get(packed, ("token_ids", "padding_mask"))
    with pytest.raises(ExportError, match="Received: RobertaTokenizer"):
        step.as_tokenizer()

"""The package's tokenizer makes the tokens of the library `tokenizers`.

Deselected by default; run with `pytest -m browser tests/browser`.
"""

import json
import random
import shutil
import subprocess

import keras
import pytest

import keras_cascade as kc
from keras_cascade.text.preprocessors import (
    KerasHubPreprocessor,
    VectorizationPreprocessor,
)
from keras_cascade.text.text_reader import PROBES
from tests.helpers.texts import make_bert
from tests.helpers.web_package import WEB, built_package, npm

pytestmark = pytest.mark.browser

WORDS = (
    "Where is my card?", "cancel my order, please", "naïve café Straße",
    "Привет как дела", "你好世界", "don't STOP now", "こんにちは",
    "Ærøskøbing unbelievably", "안녕하세요", "ΣΊΣΥΦΟΣ", "ﬁne Ⅷ ½ ǅ",
)  # fmt: skip
FEEDS = {"input": "token_ids"}


@pytest.fixture(scope="module")
def texts():
    """The manifest's probes, words, and characters from all of Unicode."""
    rng = random.Random(0)

    def character():
        code = rng.choice(
            (rng.randint(32, 126), 32, rng.randint(160, 0x2FFF),
             rng.randint(0, 0x10FFFF))
        )  # fmt: skip
        return " " if 0xD800 <= code < 0xE000 else chr(code)

    drawn = [
        "".join(character() for _ in range(rng.randint(1, 30)))
        for _ in range(2000)
    ]
    pairs = [
        rng.choice(WORDS) + rng.choice(" \t.-\xa0") + rng.choice(WORDS).upper()
        for _ in range(500)
    ]
    special = ["[PAD] and [SEP][UNK]", "a[CLS]b", "[PAD", "x" * 101]
    return [*PROBES, *special, *drawn, *pairs]


def own(lowercase):
    return kc.text.train_tokenizer(
        WORDS * 3, 400, lowercase=lowercase, lengths=16
    )


def vectorization(split):
    layer = keras.layers.TextVectorization(
        100, output_sequence_length=16, split=split
    )
    layer.adapt(list(WORDS))
    return VectorizationPreprocessor(layer, FEEDS).as_tokenizer()


def keras_hub(**options):
    preprocessor = make_bert(**options).preprocessor
    return KerasHubPreprocessor(preprocessor, FEEDS).as_tokenizer()


@pytest.mark.parametrize(
    "make",
    [
        lambda: own(True),
        lambda: own(False),
        lambda: vectorization("whitespace"),
        lambda: vectorization("character"),
        lambda: keras_hub(strip_accents=True),
        lambda: keras_hub(lowercase=False),
    ],
    ids=["own", "own_cased", "words", "letters", "hub", "hub_cased"],
)
def test_the_same_tokens(texts, make):
    tokenizer = make()
    built_package()
    npm("run", "build:test")
    found = subprocess.run(
        [shutil.which("node"), WEB / "test" / "tokens.mjs"],
        input=json.dumps(
            {"tokenizer": json.loads(tokenizer.content), "texts": texts}
        ),
        capture_output=True,
        text=True,
        check=True,
    )
    made = json.loads(found.stdout)
    counts = tokenizer.counts(texts).tolist()
    assert [len(ids) for ids in made] == counts
    long = tokenizer.with_lengths(max(counts))
    expected = long.encode(texts)
    masks = expected["padding_mask"].astype(bool)
    for text, ids, row, mask in zip(
        texts, made, expected["token_ids"], masks, strict=True
    ):
        assert ids == row[mask].tolist(), text

"""Training of a tokenizer on texts, and the choice of its length."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer
from keras_cascade.utils.optional_package import optional_package

_PAD, _UNKNOWN, _SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
# Longer than any text, until the lengths are known.
_UNLIMITED = 2**20


def train_tokenizer(
    texts: Sequence[str] | Sequence[tuple[str, str]],
    vocabulary_size: int = 8000,
    lowercase: bool = True,
    lengths: int | Sequence[int] | None = None,
    share: float = 0.99,
) -> Tokenizer:
    """Learns a WordPiece vocabulary from texts.

    Words are cut at spaces and punctuation and then into pieces of the
    vocabulary. Padding has the id 0. In a pair the token `[SEP]` stands
    between the two texts.

    Args:
        texts: sequence of str; or of pairs, tuples of two str.
        vocabulary_size: int, tokens at most. Defaults to `8000`.
        lowercase: bool. Takes capitals for small letters, and letters with
            accents for those without. Defaults to `True`.
        lengths: int or several, sequence lengths. Defaults to `None`: one,
            by `choose_length` over these texts.
        share: float, of `choose_length`. Defaults to `0.99`.

    Returns:
        `Tokenizer`.

    Example:

    >>> import keras_cascade as kc
    >>> tokenizer = kc.text.train_tokenizer(["Where is my card?"] * 2)
    >>> tokenizer.lengths
    [8]
    >>> tokenizer.encode(["where is my card"])["token_ids"].shape
    (1, 8)
    """
    tokenizers = optional_package("tokenizers", extra="text")
    from tokenizers import (
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    rows = [as_strings(np.array(row, dtype=object)) for row in texts]
    if not rows:
        raise ValueError("Expected at least one text. Received none.")
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token=_UNKNOWN))
    trained.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=lowercase
    )
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trained.train_from_iterator(
        (text for row in rows for text in row),
        trainers.WordPieceTrainer(
            vocab_size=vocabulary_size,
            special_tokens=[_PAD, _UNKNOWN, _SEPARATOR],
            show_progress=False,
        ),
    )
    trained.post_processor = processors.TemplateProcessing(
        single="$A:0",
        pair=f"$A:0 {_SEPARATOR}:0 $B:1",
        special_tokens=[(_SEPARATOR, trained.token_to_id(_SEPARATOR))],
    )
    tokenizer = Tokenizer(trained.to_str(), lengths or _UNLIMITED)
    if lengths is not None:
        return tokenizer
    columns = list(zip(*rows, strict=True))
    return tokenizer.with_lengths(
        choose_length(tokenizer.counts(*columns), share)
    )


def choose_length(
    counts: npt.ArrayLike, share: float = 0.99, multiple: int = 8
) -> int:
    """Returns the shortest sequence length that holds most texts whole.

    The smallest multiple of `multiple` that at least `share` of the texts fit
    into; the rest is truncated. A length is paid for at every prediction, so
    the longest texts should not set it.

    Args:
        counts: int array `(texts,)`, tokens of each text, special tokens
            counted.
        share: float in (0, 1]. Defaults to `0.99`.
        multiple: int >= 1. Defaults to `8`.

    Returns:
        int.

    Raises:
        ValueError: no texts, or a share outside (0, 1].

    Example:

    >>> import keras_cascade as kc
    >>> kc.text.choose_length([3, 5, 9, 40], share=0.75)
    16
    """
    counts = np.sort(np.asarray(counts))
    if not counts.size:
        raise ValueError("Expected at least one text. Received none.")
    if not 0 < share <= 1:
        raise ValueError(
            f"Expected `share` above 0 and at most 1. Received: {share!r}."
        )
    # The smallest number of texts that is at least their share.
    needed = max(1, math.ceil(share * counts.size))
    longest = max(1, int(counts[needed - 1]))
    return multiple * math.ceil(longest / multiple)

"""A tokenizer made from one's own texts."""

import numpy as np

from keras_cascade.text.sequence_length import choose_length
from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer

PAD, UNKNOWN, SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
#: Long enough for any text while the lengths are not known.
WHOLE = 2**20


def train_tokenizer(
    texts, vocabulary_size=8000, lowercase=True, lengths=None, share=0.99
):
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
    import tokenizers
    from tokenizers import (
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    texts = [as_strings(np.array(row, dtype=object)) for row in texts]
    if not texts:
        raise ValueError("Expected at least one text. Received none.")
    made = tokenizers.Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    made.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=lowercase
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [PAD, UNKNOWN, SEPARATOR]
    made.train_from_iterator(
        (one for row in texts for one in row),
        trainers.WordPieceTrainer(
            vocab_size=vocabulary_size,
            special_tokens=special,
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A:0",
        pair=f"$A:0 {SEPARATOR}:0 $B:1",
        special_tokens=[(SEPARATOR, made.token_to_id(SEPARATOR))],
    )
    tokenizer = Tokenizer(made.to_str(), lengths or WHOLE)
    if lengths is not None:
        return tokenizer
    columns = list(zip(*texts, strict=True))
    return tokenizer.with_lengths(
        choose_length(tokenizer.counts(*columns), share)
    )

"""Tokenizer for training and the device. No TensorFlow, no Keras."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

#: Inputs that a model of token ids may take, by KerasHub's names.
FEEDS = ("token_ids", "segment_ids", "padding_mask")


class Tokenizer:
    """Maps texts to token ids, by a standard `tokenizer.json`.

    Hugging Face's `tokenizers` library reads it here and on a device, and the
    npm package of `web/` in a browser. A text is cut to the longest of
    `lengths` and padded to the shortest of them that holds the batch.

    Args:
        content: str, a `tokenizer.json`. Its own truncation and padding are
            replaced by `lengths`.
        lengths: int, or several: the sequence lengths that a model reads,
            special tokens counted.
        pad: str, the token to pad with. Defaults to `"[PAD]"`.

    Attributes:
        content: str, the `tokenizer.json` that a bundle holds.
        lengths: list of int, ascending.
        pad_id: int.
        vocabulary_size: int.

    Raises:
        ImportError: `tokenizers` is not installed.
        ValueError: not a `tokenizer.json`, or no such padding token.

    Example:

    >>> import keras_cascade as kc
    >>> tokenizer = kc.text.train_tokenizer(["a cat", "a dog"], lengths=4)
    >>> tokenizer.encode(["a cat"])["token_ids"].shape
    (1, 4)
    """

    def __init__(
        self, content: str, lengths: int | Sequence[int], pad: str = "[PAD]"
    ):
        self.lengths = _checked_lengths(lengths)
        self._tokenizer = _read(content)
        self.pad = pad
        self.pad_id = self._tokenizer.token_to_id(pad)
        if self.pad_id is None:
            raise ValueError(
                f"Expected a tokenizer with the token {pad!r}, to pad with. "
                "Received one without. Pass `pad=`, a token that it has."
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.lengths[-1])
        self.content = self._tokenizer.to_str()
        self._whole = _read(self.content)
        self._whole.no_truncation()
        if self.lengths[-1] <= self._whole.num_special_tokens_to_add(True):
            raise ValueError(
                "Expected `lengths` with room for words beside the special "
                f"tokens. Received: {lengths!r}."
            )
        self.vocabulary_size = self._tokenizer.get_vocab_size()

    @classmethod
    def from_file(
        cls,
        file: str | os.PathLike,
        lengths: int | Sequence[int],
        pad: str = "[PAD]",
    ) -> "Tokenizer":
        """Reads a `tokenizer.json`.

        Args:
            file: path of the file.
            lengths: of `Tokenizer`.
            pad: of `Tokenizer`. Defaults to `"[PAD]"`.
        """
        with open(file, encoding="utf-8") as stream:
            return cls(stream.read(), lengths, pad)

    def encode(
        self, texts: Sequence[str], second: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Tokenizes a batch.

        Args:
            texts: sequence of str.
            second: sequence of str, the other half of each pair. Defaults to
                `None`: single texts.

        Returns:
            Dict of `token_ids`, `segment_ids` and `padding_mask` (1 where
            there is a token), int32 `(rows, length)`; and `truncated`, bool
            `(rows,)`.
        """
        texts = list(texts)
        if second is not None:
            encodings, truncated = self._pairs(texts, list(second))
        else:
            encodings = _encoded(self._tokenizer, texts)
            truncated = [bool(row.overflowing) for row in encodings]
        ids = [row.ids for row in encodings]
        longest = max(map(len, ids), default=0)
        width = next(n for n in self.lengths if n >= longest)
        token_ids = np.full((len(ids), width), self.pad_id, "int32")
        segment_ids = np.zeros((len(ids), width), "int32")
        mask = np.zeros((len(ids), width), "int32")
        for row, encoding in enumerate(encodings):
            count = len(ids[row])
            token_ids[row, :count] = ids[row]
            mask[row, :count] = 1
            if second is not None:
                segment_ids[row, :count] = encoding.type_ids
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": mask,
            "truncated": np.array(truncated, bool),
        }

    def counts(
        self, texts: Sequence[str], second: Sequence[str] | None = None
    ) -> np.ndarray:
        """Returns the number of tokens per text, special tokens included.

        Args:
            texts: sequence of str.
            second: sequence of str, or `None`. Defaults to `None`.

        Returns:
            int array `(texts,)`.
        """
        rows: list[Any] = list(texts)
        if second is not None:
            rows = list(zip(rows, second, strict=True))
        return np.array([len(row) for row in self._whole.encode_batch(rows)])

    def with_lengths(self, lengths: int | Sequence[int]) -> "Tokenizer":
        """Returns the same tokenizer for other sequence lengths.

        Args:
            lengths: of `Tokenizer`.
        """
        return Tokenizer(self.content, lengths, self.pad)

    def get_config(self) -> dict:
        """Returns the arguments of an equal tokenizer, as a dict."""
        return {
            "content": self.content,
            "lengths": self.lengths,
            "pad": self.pad,
        }

    def _pairs(self, texts, second):
        """Packs pairs and cuts them in turns: the first has the odd token.

        The library's own way to cut a pair gives the odd token to the longer
        text; TensorFlow Text's, and so KerasHub's, does as this does.
        """
        room = self.lengths[-1] - self._whole.num_special_tokens_to_add(True)
        sides = [
            _encoded(self._whole, side, add_special_tokens=False)
            for side in (texts, second)
        ]
        encodings, truncated = [], []
        for a, b in zip(*sides, strict=True):
            truncated.append(len(a) + len(b) > room)
            if truncated[-1]:
                a.truncate(max(room - len(b), room - room // 2))
                b.truncate(room - len(a))
            encodings.append(self._whole.post_process(a, b))
        return encodings, truncated


def _encoded(tokenizer, texts, **options):
    if len(texts) > 1:
        return tokenizer.encode_batch(texts, **options)
    # A batch starts threads, which cost more than one text.
    return [tokenizer.encode(text, **options) for text in texts]


def _read(content):
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            "A text cascade needs the package `tokenizers`. Install it, or "
            "`keras-cascade[text]`."
        ) from error
    try:
        json.loads(content)
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the library raises `Exception` itself
        raise ValueError(
            "Expected the content of a `tokenizer.json`. Received something "
            f"else: {str(error)[:200]}"
        ) from None


def _checked_lengths(lengths):
    values = [lengths] if np.ndim(lengths) == 0 else list(lengths)
    valid = all(isinstance(n, (int, np.integer)) and n >= 1 for n in values)
    if not values or not valid or isinstance(lengths, bool):
        raise ValueError(
            "Expected `lengths` to be a sequence length of at least 1, or "
            f"several. Received: {lengths!r}."
        )
    return sorted({int(n) for n in values})

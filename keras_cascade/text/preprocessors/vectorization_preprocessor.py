"""Text preprocessor around `keras.layers.TextVectorization`."""

import string

import keras

from keras_cascade.errors import ExportError
from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)
from keras_cascade.text.tokenizer import Tokenizer

# The layer strips ASCII's punctuation and splits at ASCII's white space; those
# classes of `tokenizers` include Unicode's.
_PUNCTUATION = r"[!\"#$%&()\*\+,\-\./:;<=>?@\[\\\]^_`{|}~']"
_WHITESPACE = r"[\t\n\x0b\x0c\r ]+"
_UNKNOWN = "[UNK]"


class VectorizationPreprocessor(TextPreprocessor):
    """Looks words up with an adapted `TextVectorization`.

    Arguments as in `TextPreprocessor`.
    """

    def __init__(self, preprocessor, feeds):
        super().__init__(preprocessor, feeds)
        if preprocessor._output_mode != "int":
            raise ValueError(
                "Expected a `TextVectorization` with output_mode='int', which "
                "makes token ids. Received: output_mode="
                f"'{preprocessor._output_mode}'."
            )

    @classmethod
    def takes(cls, preprocessor):
        return isinstance(preprocessor, keras.layers.TextVectorization)

    @property
    def vocabulary_size(self):
        size = self.preprocessor.vocabulary_size()
        # Padding and unknown words alone: a layer that is being loaded, whose
        # vocabulary follows.
        return size if size > 2 else None

    def tensors(self, columns):
        if len(columns) != 1:
            raise ValueError(
                "`TextVectorization` takes single texts. Received pairs. Use "
                "`keras_cascade.text.train_tokenizer` for those."
            )
        ids = self.preprocessor(columns[0])
        return self._fed(
            {
                "token_ids": ids,
                "segment_ids": keras.ops.zeros_like(ids),
                "padding_mask": keras.ops.not_equal(ids, 0),
            }
        )

    def as_tokenizer(self):
        import tokenizers
        from tokenizers import Regex, models, pre_tokenizers

        config = self.preprocessor.get_config()
        _check_expressible(config)
        words = [str(word) for word in self.preprocessor.get_vocabulary()]
        tokenizer = tokenizers.Tokenizer(
            models.WordLevel(
                {word: number for number, word in enumerate(words)}, _UNKNOWN
            )
        )
        tokenizer.normalizer = _normalizer(config["standardize"] or "")
        split = {
            "whitespace": (Regex(_WHITESPACE), "removed"),
            "character": (Regex(r"[\s\S]"), "isolated"),
        }
        tokenizer.pre_tokenizer = pre_tokenizers.Split(*split[config["split"]])
        return Tokenizer(
            tokenizer.to_str(), config["output_sequence_length"], pad=words[0]
        )


def _normalizer(standardize):
    from tokenizers import Regex, normalizers

    steps = []
    if "lower" in standardize:
        # `tf.strings.lower` changes ASCII letters only; `Lowercase` all.
        steps += [
            normalizers.Replace(letter, letter.lower())
            for letter in string.ascii_uppercase
        ]
    if "punctuation" in standardize:
        steps.append(normalizers.Replace(Regex(_PUNCTUATION), ""))
    return normalizers.Sequence(steps)


def _check_expressible(config):
    """Raises an `ExportError` for settings that `tokenizer.json` lacks."""
    wrong = {
        "standardize": callable(config["standardize"]),
        "split": config["split"] not in ("whitespace", "character"),
        "ngrams": config["ngrams"] is not None,
        "output_sequence_length": config["output_sequence_length"] is None,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ExportError(
                "Expected, to tokenize on a device, a `TextVectorization` "
                "with Keras's own `standardize` and `split`, no `ngrams` and "
                f"a fixed `output_sequence_length`. Received: {name}="
                f"{config[name]!r}. `keras_cascade.text.train_tokenizer"
                "(texts)` makes a tokenizer for both."
            )

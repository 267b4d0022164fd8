"""`keras.layers.TextVectorization` as a `Tokenizer`."""

import string

from keras_cascade.errors import ExportError
from keras_cascade.text.tokenizer import Tokenizer

#: Neither knows more than ASCII's.
PUNCTUATION = r"[!\"#$%&()\*\+,\-\./:;<=>?@\[\\\]^_`{|}~']"
WHITESPACE = r"[\t\n\x0b\x0c\r ]+"
UNKNOWN = "[UNK]"


def tokenizer_of_vectorization(layer):
    """The same words and ids.

    Args:
        layer: adapted `keras.layers.TextVectorization`.

    Returns:
        `Tokenizer`.

    Raises:
        ExportError: a setting that a `tokenizer.json` cannot say.
    """
    import tokenizers
    from tokenizers import Regex, models, normalizers, pre_tokenizers

    config = layer.get_config()
    _check(config)
    words = [str(word) for word in layer.get_vocabulary()]
    made = tokenizers.Tokenizer(
        models.WordLevel(
            {word: number for number, word in enumerate(words)}, UNKNOWN
        )
    )
    standardize = config["standardize"] or ""
    steps = []
    if "lower" in standardize:
        steps += [
            normalizers.Replace(one, one.lower())
            for one in string.ascii_uppercase
        ]
    if "punctuation" in standardize:
        steps.append(normalizers.Replace(Regex(PUNCTUATION), ""))
    made.normalizer = normalizers.Sequence(steps)
    cut = {
        "whitespace": (Regex(WHITESPACE), "removed"),
        "character": (Regex(r"[\s\S]"), "isolated"),
    }
    made.pre_tokenizer = pre_tokenizers.Split(*cut[config["split"]])
    return Tokenizer(
        made.to_str(), config["output_sequence_length"], pad=words[0]
    )


def _check(config):
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

"""Text preprocessor around those of KerasHub's text classifiers."""

from keras_cascade.errors import ExportError
from keras_cascade.text.preprocessors.case_folding import (
    CHINESE,
    folding_rules,
)
from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)
from keras_cascade.text.tokenizer import Tokenizer

# Where KerasHub's TensorFlow form of WordPiece cuts words.
_CUTS = r"[\t\n\f\r \p{Cc}\p{Cf}]"
_MARKS = r"[!-/:-@\[-`{-~\p{P}]"


class KerasHubPreprocessor(TextPreprocessor):
    """Tokenizes and packs as KerasHub's text classifiers do.

    On a device: WordPiece tokenizers only, such as BERT's.

    Arguments as in `TextPreprocessor`.
    """

    def __init__(self, preprocessor, feeds):
        super().__init__(preprocessor, feeds)
        self._traced = None

    @classmethod
    def takes(cls, preprocessor):
        tokenizer = getattr(preprocessor, "tokenizer", None)
        return callable(preprocessor) and tokenizer is not None

    @property
    def vocabulary_size(self):
        try:
            return self.preprocessor.tokenizer.vocabulary_size()
        except (AttributeError, TypeError, ValueError):
            return None  # being loaded: its vocabulary follows

    def tensors(self, columns):
        import tensorflow as tf

        if self._traced is None:
            # Outside a graph KerasHub tokenizes by other code, in Python;
            # training and serving have to run the same.
            self._traced = tf.function(
                self._packed, reduce_retracing=True, autograph=False
            )
        return self._traced(columns)

    def _packed(self, columns):
        x = columns[0] if len(columns) == 1 else tuple(columns)
        # With `y` it takes a tuple for a pair of texts, not for (x, y).
        return self._fed(self.preprocessor(x, y=None))

    def as_tokenizer(self):
        import tokenizers
        from keras_hub.tokenizers import WordPieceTokenizer
        from tokenizers import models

        word_piece = self.preprocessor.tokenizer
        config = word_piece.get_config()
        if (
            not isinstance(word_piece, WordPieceTokenizer)
            or not config["split"]
        ):
            raise ExportError(
                "Expected, to tokenize on a device, a KerasHub preprocessor "
                "with a `WordPieceTokenizer` that splits words, such as "
                f"BERT's. Received: {type(word_piece).__name__}. Such a model "
                "can be the teacher; train the student with "
                "`keras_cascade.text.train_tokenizer(texts)`."
            )
        words = word_piece.get_vocabulary()
        tokenizer = tokenizers.Tokenizer(
            models.WordPiece(
                {word: number for number, word in enumerate(words)},
                unk_token=config["oov_token"],
                max_input_chars_per_word=100,
                continuing_subword_prefix=config["suffix_indicator"],
            )
        )
        tokenizer.normalizer = _normalizer(config, words)
        tokenizer.pre_tokenizer = _pre_tokenizer(config)
        tokenizer.post_processor = _post_processor(self.preprocessor, words)
        return Tokenizer(
            tokenizer.to_str(),
            self.preprocessor.sequence_length,
            pad=words[word_piece.pad_token_id],
        )


def _normalizer(config, words):
    from tokenizers import Regex, normalizers

    steps = []
    if config["strip_accents"]:
        steps += [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
    if config["lowercase"]:
        # KerasHub folds case; `tokenizers` has lower case only.
        steps += [
            normalizers.Replace(Regex(characters), replacement)
            for characters, replacement in folding_rules(set("".join(words)))
        ]
        steps += [normalizers.NFKC(), normalizers.Lowercase()]
    return normalizers.Sequence(steps)


def _pre_tokenizer(config):
    from tokenizers import Regex, pre_tokenizers

    alone = _MARKS
    if config.get("split_on_cjk", True):
        ranges = "".join(f"{low}-{high}" for low, high in CHINESE)
        alone = f"{_MARKS}|[{ranges}]"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUTS), "removed"),
            pre_tokenizers.Split(Regex(alone), "isolated"),
        ]
    )


def _post_processor(preprocessor, words):
    """Packs `[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` for pairs."""
    from tokenizers import processors

    packer = preprocessor.packer
    if packer is None:  # made when first called
        preprocessor.build(None)
        packer = preprocessor.packer
    start, middle, end = (
        [words[number] for number in values]
        for values in (packer.start_value, packer.sep_value, packer.end_value)
    )
    single = [*start, "$A:0", *end]
    pair = [
        *(f"{token}:0" for token in start), "$A:0",
        *(f"{token}:0" for token in middle), "$B:1",
        *(f"{token}:1" for token in end),
    ]  # fmt: skip
    special = dict.fromkeys([*start, *middle, *end])
    return processors.TemplateProcessing(
        single=" ".join(single),
        pair=" ".join(pair),
        special_tokens=[(token, words.index(token)) for token in special],
    )

"""KerasHub's WordPiece tokenizers, as BERT has them, as a `Tokenizer`."""

from keras_cascade.errors import ExportError
from keras_cascade.text.converted.case_folding import CHINESE, folding_rules
from keras_cascade.text.tokenizer import Tokenizer

#: As KerasHub cuts words, in its TensorFlow form.
CUTS = r"[\t\n\f\r \p{Cc}\p{Cf}]"
MARKS = r"[!-/:-@\[-`{-~\p{P}]"


def tokenizer_of_keras_hub(preprocessor):
    """The same word pieces and special tokens.

    Args:
        preprocessor: KerasHub preprocessor with a `WordPieceTokenizer`, such
            as `BertTextClassifierPreprocessor`.

    Returns:
        `Tokenizer`.

    Raises:
        ExportError: another kind of tokenizer.
    """
    import tokenizers
    from keras_hub.tokenizers import WordPieceTokenizer
    from tokenizers import models

    theirs = preprocessor.tokenizer
    config = theirs.get_config()
    if not isinstance(theirs, WordPieceTokenizer) or not config["split"]:
        raise ExportError(
            "Expected, to tokenize on a device, a KerasHub preprocessor with "
            "a `WordPieceTokenizer` that splits words, such as BERT's. "
            f"Received: {type(theirs).__name__}. Such a model can be the "
            "teacher; train the student with "
            "`keras_cascade.text.train_tokenizer(texts)`."
        )
    words = theirs.get_vocabulary()
    made = tokenizers.Tokenizer(
        models.WordPiece(
            {word: number for number, word in enumerate(words)},
            unk_token=config["oov_token"],
            max_input_chars_per_word=100,
            continuing_subword_prefix=config["suffix_indicator"],
        )
    )
    made.normalizer = _normalizer(config, words)
    made.pre_tokenizer = _pre_tokenizer(config)
    made.post_processor = _packed(preprocessor, words)
    return Tokenizer(
        made.to_str(),
        preprocessor.sequence_length,
        pad=words[theirs.pad_token_id],
    )


def _normalizer(config, words):
    from tokenizers import Regex, normalizers

    steps = []
    if config["strip_accents"]:
        steps += [normalizers.NFD(), normalizers.Replace(Regex(r"\p{Mn}"), "")]
    if config["lowercase"]:
        steps += [
            normalizers.Replace(Regex(ones), other)
            for ones, other in folding_rules(set("".join(words)))
        ]
        steps += [normalizers.NFKC(), normalizers.Lowercase()]
    return normalizers.Sequence(steps)


def _pre_tokenizer(config):
    from tokenizers import Regex, pre_tokenizers

    alone = MARKS
    if config.get("split_on_cjk", True):
        ranges = "".join(f"{low}-{high}" for low, high in CHINESE)
        alone = f"{MARKS}|[{ranges}]"
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUTS), "removed"),
            pre_tokenizers.Split(Regex(alone), "isolated"),
        ]
    )


def _packed(preprocessor, words):
    """`[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` for pairs."""
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
        *(f"{one}:0" for one in start), "$A:0",
        *(f"{one}:0" for one in middle), "$B:1",
        *(f"{one}:1" for one in end),
    ]  # fmt: skip
    special = dict.fromkeys([*start, *middle, *end])
    return processors.TemplateProcessing(
        single=" ".join(single),
        pair=" ".join(pair),
        special_tokens=[(one, words.index(one)) for one in special],
    )

"""Labelled questions in three classes, and a small BERT for them."""

import numpy as np

WORDS = {
    0: ("card", "lost", "stolen", "missing"),
    1: ("rate", "exchange", "currency", "euro"),
    2: ("top", "up", "balance", "transfer"),
}
FILLERS = ("please", "my", "the", "where", "is", "why", "was", "help", "Café")


def make_texts(count, seed):
    """Returns questions, one word of each states its class, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    texts = []
    for number, label in enumerate(labels):
        words = [*rng.choice(FILLERS, 4), rng.choice(WORDS[int(label)])]
        rng.shuffle(words)
        texts.append(f"{' '.join(words)} {number}?")
    return np.array(texts, dtype=object), labels.astype("int32")


def make_bert(
    length=16, blocks=2, width=16, activation=None, **tokenizer_options
):
    """Makes a small KerasHub classifier that brings its preprocessor."""
    from keras_hub import models

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789?!.,éß"
    words = [word for group in WORDS.values() for word in group]
    vocabulary = [
        *special, *letters, *(f"##{one}" for one in letters), *words,
        *(word.lower() for word in FILLERS),
    ]  # fmt: skip
    tokenizer = models.BertTokenizer(
        vocabulary=vocabulary, **{"lowercase": True, **tokenizer_options}
    )
    return models.BertTextClassifier(
        backbone=models.BertBackbone(
            vocabulary_size=len(vocabulary),
            num_layers=blocks,
            num_heads=2,
            hidden_dim=width,
            intermediate_dim=2 * width,
            max_sequence_length=length,
        ),
        preprocessor=models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=length
        ),
        num_classes=3,
        activation=activation,
    )

"""Small texts, models and cascades of them."""

import keras
import numpy as np
import pytest

import keras_cascade as kc

WORDS = {
    0: ("card", "lost", "stolen", "missing"),
    1: ("rate", "exchange", "currency", "euro"),
    2: ("top", "up", "balance", "transfer"),
}
FILLERS = ("please", "my", "the", "where", "is", "why", "was", "help", "Café")


def make_texts(count, seed):
    """Questions whose class is said by one of its words, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    texts = []
    for number, label in enumerate(labels):
        words = [*rng.choice(FILLERS, 4), rng.choice(WORDS[int(label)])]
        rng.shuffle(words)
        texts.append(f"{' '.join(words)} {number}?")
    return np.array(texts, dtype=object), labels.astype("int32")


@pytest.fixture(scope="session")
def texts():
    """Dict of `train` and `cal` to `(texts, labels)`."""
    return {"train": make_texts(240, 0), "cal": make_texts(120, 1)}


@pytest.fixture(scope="session")
def tokenizer(texts):
    """A `Tokenizer` of the training texts."""
    return kc.text.train_tokenizer(texts["train"][0], 200)


@pytest.fixture(scope="session")
def bert():
    """Makes a small KerasHub classifier that brings its preprocessor."""
    return bert_maker()


def bert_maker():
    """The function behind the fixture `bert`."""
    from keras_hub import models

    def make(length=16, blocks=2, width=16, **tokenizer_options):
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
        )

    return make


@pytest.fixture(scope="session")
def vectorized(texts):
    """Makes a teacher behind a `TextVectorization`."""

    def make(**options):
        layer = keras.layers.TextVectorization(
            **{"output_sequence_length": 8, **options}
        )
        layer.adapt(texts["train"][0])
        model = kc.models.text_cnn(
            layer.vocabulary_size(), 3, width=8, filters=8
        )
        return kc.text.TextModel(model, layer, name="teacher")

    return make


@pytest.fixture
def student(tokenizer):
    """An untrained student of texts."""
    model = kc.models.text_bag(
        tokenizer.vocabulary_size, 3, width=8, buckets=64
    )
    return kc.text.TextModel(model, tokenizer, name="student")


@pytest.fixture
def calibrated(texts):
    """Trains and calibrates a cascade of a teacher and a student."""

    def make(teacher, student, epochs=8, learning_rate=0.02):
        keras.utils.set_random_seed(0)
        cascade = kc.Cascade(teacher, student)
        cascade.compile(keras.optimizers.Adam(learning_rate))
        cascade.fit(*texts["train"], epochs=epochs, verbose=0)
        cascade.calibrate(texts["cal"], kc.MaxDelegationRate(0.3))
        return cascade

    return make

"""Small texts, models and cascades of them."""

import keras
import pytest

import keras_cascade as kc
from tests.helpers.texts import make_bert, make_texts


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
    """A function that makes a small KerasHub classifier."""
    return make_bert


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

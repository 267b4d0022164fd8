"""Text students do not depend on padding, exported or not."""

import itertools

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.export.tflite_file import operations
from keras_cascade.models.text_bag import masked_mean
from keras_cascade.models.text_transformer import CAP, PADDING
from keras_cascade.runtime import StudentInterpreter

MAKERS = [
    kc.models.text_bag,
    kc.models.text_cnn,
    kc.models.text_transformer,
]
VOCABULARY, CLASSES, LENGTH = 8000, 77, 12


def filled(model, scale=0.3):
    """Gives a model weights whose answers differ from input to input."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        offset = float(weight.name == "gamma")
        weight.assign(offset + scale * rng.normal(size=weight.shape))
    return model


def token_ids(rows, length=LENGTH, vocabulary=VOCABULARY, seed=0):
    """Rows of different lengths; the first is all padding."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, vocabulary, (rows, length)).astype("int32")
    for row in range(rows):
        ids[row, rng.integers(1, length + 1) :] = 0
    ids[0] = 0
    return ids


@pytest.mark.parametrize("make", MAKERS)
def test_padding_changes_nothing(make):
    model = filled(make(50, 7))
    ids = token_ids(9, vocabulary=50)
    logits = model.predict(ids, verbose=0)
    assert np.isfinite(logits).all()
    assert logits.std(axis=0).min() > 0.05  # inputs do make a difference
    for more in (1, 5, 50):
        padded = np.pad(ids, ((0, 0), (0, more)))
        np.testing.assert_allclose(
            model.predict(padded, verbose=0), logits, atol=1e-5
        )


@pytest.mark.parametrize("make", MAKERS)
def test_a_fixed_length_is_the_same_model(make):
    any_length, fixed = make(50, 7), make(50, 7, length=LENGTH)
    assert fixed.input_shape == (None, LENGTH)
    fixed.set_weights(filled(any_length).get_weights())
    ids = token_ids(5, vocabulary=50)
    np.testing.assert_allclose(
        fixed.predict(ids, verbose=0),
        any_length.predict(ids, verbose=0),
        atol=1e-5,
    )


@pytest.mark.parametrize("make", MAKERS)
def test_saved_and_loaded(make, tmp_path):
    model = filled(make(50, 7, dropout=0.2))
    model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    ids = token_ids(4, vocabulary=50)
    np.testing.assert_array_equal(
        loaded.predict(ids, verbose=0), model.predict(ids, verbose=0)
    )


@pytest.mark.parametrize("quantization", [None, "dynamic", "int8"])
@pytest.mark.parametrize("make", MAKERS)
def test_exported_file_agrees(make, quantization, tmp_path):
    student = filled(make(VOCABULARY, CLASSES, length=LENGTH), 0.15)
    teacher = kc.models.text_bag(VOCABULARY, CLASSES, width=2, buckets=0)
    cascade = kc.Cascade(teacher, student)
    ids = token_ids(60)
    file = tmp_path / "student.tflite"
    data = {"calibration_data": (ids, np.arange(60) % CLASSES)}
    cascade.export(
        file,
        format="litert",
        quantization=quantization,
        **(data if quantization == "int8" else {"example_inputs": ids}),
    )
    _, others = operations(file.read_bytes())
    assert others == []
    if quantization is not None:
        # Every weight in one byte, and room for the graph.
        assert file.stat().st_size < student.count_params() + 70_000 < 1e6
    # All rows at once, and each alone.
    interpreter = StudentInterpreter(file)
    answers = interpreter.run({"input": ids})["probabilities"]
    for row in (0, 1, 59):
        alone = interpreter.run({"input": ids[row : row + 1]})
        np.testing.assert_allclose(
            alone["probabilities"][0], answers[row], atol=1e-6
        )
    expected = keras.ops.softmax(student.predict(ids, verbose=0))
    distance = np.abs(answers - np.asarray(expected)).sum(axis=1) / 2
    assert distance.max() < (1e-5 if quantization is None else 0.1)
    assert answers.std(axis=0).max() > 1e-3


def test_bag_is_the_mean_of_words_and_hashed_pairs():
    # Word ids above the prime and pairs whose products fill an int32.
    vocabulary, buckets, width = 50_000, 46_337, 2
    model = filled(kc.models.text_bag(vocabulary, 3, None, width, buckets))
    tables = {len(one): one for one in model.get_weights() if len(one) > 9}
    kernel, bias = model.layers[-1].get_weights()
    row = [46_336, 46_336, 49_999, 1, 0, 0]
    rows = [tables[vocabulary][word] for word in row[:4]]
    p = 46_337
    for first, second in itertools.pairwise(row[:4]):
        # In Python's integers, which have no end.
        bucket = (31_847 * (first % p) + 17_033 * (second % p)) % p % buckets
        rows.append(tables[buckets][bucket])
    expected = np.mean(rows, axis=0) @ kernel + bias
    logits = model.predict(np.array([row], "int32"), verbose=0)
    np.testing.assert_allclose(logits[0], expected, rtol=1e-5)


def test_hash_in_tflite(tmp_path):
    student = filled(kc.models.text_bag(50_000, 3, None, 2, 46_337), 2.0)
    cascade = kc.Cascade(kc.models.text_bag(50_000, 3, width=2), student)
    ids = token_ids(200, vocabulary=50_000)
    ids[1:, 0] = np.arange(49_999, 49_999 - 199, -1)
    cascade.export(
        tmp_path / "s.tflite", format="litert", example_inputs=ids[:2]
    )
    answer = StudentInterpreter(tmp_path / "s.tflite").run({"input": ids})
    expected = keras.ops.softmax(student.predict(ids, verbose=0))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_hash_spreads_pairs():
    # 20,000 different pairs thrown into 8,192 buckets by chance leave
    # 8192 * (1 - 1/8192)^20000 = 713 of them empty, give or take
    # sqrt(8192 * e^-2.44 * (1 - (1 + 2.44) * e^-2.44)) = 22.
    from keras_cascade.models.text_bag import _pairs

    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(1, 4000, (20_000, 2)), axis=0)
    found, _ = _pairs(pairs.astype("int32"), 8192)
    found = np.asarray(found)
    empty = 8192 - len(np.unique(found))
    expected = 8192 * (1 - 1 / 8192) ** len(pairs)
    assert abs(empty - expected) < 5 * 22


def test_masked_mean():
    x = np.array([[[1.0], [3.0], [9.0]], [[5.0], [5.0], [5.0]]], "float32")
    mean = masked_mean(x, np.array([[4, 7, 0], [0, 0, 0]], "int32"))
    # (1 + 3) / 2, and nothing.
    np.testing.assert_allclose(np.asarray(mean), [[2.0], [0.0]], rtol=1e-6)


@pytest.mark.parametrize("make", MAKERS)
def test_word_order(make):
    # A bag of single words sees none, everything else does.
    model = filled(make(50, 7))
    ids = np.array([[5, 6, 7], [7, 6, 5]], "int32")
    first, second = model.predict(ids, verbose=0)
    assert np.abs(first - second).max() > 1e-3
    if make is kc.models.text_bag:
        words = filled(make(50, 7, buckets=0))
        first, second = words.predict(ids, verbose=0)
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_padding_weight_in_attention_is_as_stated():
    # Scores are at least -CAP, padding's is PADDING.
    assert np.exp(PADDING + CAP) < 1.2e-7


def test_tokens_after_the_last_position():
    model = filled(kc.models.text_transformer(50, 7, max_length=3))
    ids = np.array([[5, 6, 7, 8, 9], [5, 6, 7, 9, 8]], "int32")
    first, second = model.predict(ids, verbose=0)
    # Positions 4 and 5 are position 3: a mean over a set of tokens.
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_hidden_units():
    model = kc.models.text_bag(100, 7, width=8, buckets=50, units=4)
    # A table of 150 rows, 8·4 + 4, and 4·7 + 7.
    assert model.count_params() == 150 * 8 + 36 + 35


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match=r"0 to 46337\. Received: 46338"):
        kc.models.text_bag(100, 7, buckets=46_338)
    with pytest.raises(ValueError, match="a multiple of `heads`, 4"):
        kc.models.text_transformer(100, 7, width=30)

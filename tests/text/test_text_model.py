"""Text models, and cascades of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.text import TextModel


def bag(vocabulary_size, classes=3):
    return kc.models.text_bag(vocabulary_size, classes, width=8, buckets=64)


def test_it_is_the_model_of_the_tokens(student, tokenizer, texts):
    x = texts["train"][0][:9]
    ids = tokenizer.encode(list(x))["token_ids"]
    expected = student.model(ids, training=False)
    for form in (x, tf.constant(x), x[:, None]):
        assert np.array_equal(student(form, training=False), expected)


def test_token_ids_go_through(student, tokenizer, texts):
    ids = tokenizer.encode(list(texts["train"][0][:4]))["token_ids"]
    assert np.array_equal(student(ids), student.model(ids))


def test_a_pair_goes_in_its_order(bert):
    model = TextModel(bert(), fields=("question", "answer"))
    x = {
        "answer": np.array(["euro"], object),
        "question": np.array(["card"], object),
    }
    inputs = model.model_inputs(x)
    first = TextModel(bert()).model_inputs(np.array(["card"], object))
    assert np.array_equal(
        inputs["token_ids"][0, :3], first["token_ids"][0, :3]
    )  # [CLS] card [SEP]
    assert inputs["segment_ids"][0].tolist() == [0, 0, 0, 1, 1, *[0] * 11]


def test_graph_and_numpy_make_the_same_tokens(student, bert, vectorized, texts):
    x = texts["train"][0][:20]
    for model in (student, TextModel(bert()), vectorized()):
        graph = tf.function(model.preprocess)(tf.constant(x))
        arrays = model.model_inputs(x)
        if not isinstance(arrays, dict):
            graph, arrays = {"": graph}, {"": arrays}
        assert set(graph) == set(arrays)
        for name, values in arrays.items():
            assert np.array_equal(graph[name], values), name


def test_keras_hub_s_tasks_bring_their_own(bert, student, calibrated):
    cascade = calibrated(bert(), student, epochs=1)
    assert isinstance(cascade.teacher, TextModel)


@pytest.mark.parametrize("kind", ["tokenizer", "bert", "vectorized"])
def test_saved_and_loaded(
    kind, bert, vectorized, student, calibrated, texts, tmp_path
):
    teacher = {
        "bert": lambda: bert(),
        "vectorized": lambda: vectorized(),
        "tokenizer": lambda: TextModel(
            bag(student.step.vocabulary_size), student.preprocessor
        ),
    }[kind]()
    cascade = calibrated(teacher, student, epochs=1)
    cascade.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    x = texts["cal"][0]
    before, after = cascade.predict(x, verbose=0), loaded.predict(x, verbose=0)
    for name, values in before.items():
        assert np.array_equal(values, after[name]), name
    loaded.fit(*texts["train"], verbose=0)


def test_every_form_of_texts_is_taken(student, vectorized, texts):
    cascade = kc.Cascade(vectorized(), student)
    cascade.compile()
    x, y = texts["train"]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    for form in (x, list(x), np.array(list(x)), np.char.encode(list(x))):
        cascade.fit(form, y, verbose=0, validation_data=(form, y))
    cascade.fit(data, shuffle=False, verbose=0)
    expected = cascade.predict(x, verbose=0)["score"]
    for form in (list(x), np.array(list(x)), data):
        assert np.allclose(cascade.predict(form, verbose=0)["score"], expected)
    held_out = (list(texts["cal"][0]), texts["cal"][1])
    cascade.calibrate(held_out, kc.MaxDelegationRate(0.5))
    metrics = cascade.evaluate(
        list(texts["cal"][0]),
        texts["cal"][1],
        return_dict=True,
        verbose=0,
        allow_training_data=True,
    )
    assert set(metrics) >= {"cascade_accuracy", "delegation_rate"}


def test_cached_logits_of_texts(student, vectorized, texts, tmp_path):
    teacher = vectorized()
    x, y = texts["train"]
    cache = kc.cache_teacher_logits(x, teacher, tmp_path / "logits")
    cascade = kc.Cascade(teacher, student)
    cascade.compile()
    cascade.fit(x, y, teacher_logits=cache, verbose=0)
    bytes_ = np.array([one.encode() for one in x], object)
    assert np.array_equal(cache.logits(x), cache.logits(bytes_))


def test_costs_count_what_comes_after_the_tokens(student, bert, texts):
    cascade = kc.Cascade(bert(), student)
    cascade.prepare(texts["train"][0])
    assert "floating-point operations" in cascade.costs.how_measured
    assert 0 < cascade.costs.student < 1


# Bad input.


def test_a_missing_preprocessor():
    with pytest.raises(ValueError, match="Expected `preprocessor` for"):
        TextModel(bag(10))


def test_texts_for_a_model_of_numbers(student, texts):
    cascade = kc.Cascade(bag(10), student)
    cascade.compile()
    with pytest.raises(ValueError, match="Expected the teacher to take texts"):
        cascade.fit(*texts["train"], verbose=0)


def test_a_vocabulary_that_does_not_match(tokenizer):
    small = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(tokenizer.vocabulary_size - 1, 4),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="vocabulary does not match"):
        TextModel(small, tokenizer)


def test_another_preprocessor(tokenizer):
    with pytest.raises(ValueError, match="Received: str"):
        TextModel(bag(10), "tokenizer.json")


def test_inputs_that_are_not_the_fields(bert, student):
    pair = TextModel(bert(), fields=("a", "b"))
    one = np.array(["card"], object)
    with pytest.raises(ValueError, match=r"dict with the texts \['a', 'b'\]"):
        pair(one)
    with pytest.raises(ValueError, match=r"Received: \['a', 'c'\]"):
        pair({"a": one, "c": one})
    with pytest.raises(ValueError, match="Pass `fields=`"):
        student({"a": one, "b": one})


def test_a_model_that_takes_something_else(tokenizer):
    image = keras.Input((3,), name="image")
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    model = keras.Model(
        {"image": image, "token_ids": ids}, keras.layers.Dense(3)(image)
    )
    with pytest.raises(ValueError, match=r"one that takes \['image', 'token"):
        TextModel(model, tokenizer)


def test_invalid_utf_8_is_named(student):
    with pytest.raises(ValueError, match=r"UTF-8.*row 1"):
        student.model_inputs(np.array([b"card", b"\xff\xfe"], object))


def test_an_empty_text_is_named(student, vectorized, texts):
    cascade = kc.Cascade(vectorized(), student)
    cascade.compile()
    x, y = texts["train"]
    x = x.copy()
    x[3] = "  "
    with pytest.raises(ValueError, match="row 3"):
        cascade.fit(x, y, verbose=0)


@pytest.mark.parametrize("wrong", [None, 3.5, float("nan"), ["a"]])
def test_what_is_no_text_is_named(student, vectorized, texts, wrong):
    cascade = kc.Cascade(vectorized(), student)
    cascade.compile()
    x, y = texts["train"]
    x = x.copy()
    x[200] = wrong
    with pytest.raises(ValueError, match="row 200"):
        cascade.fit(x, y, verbose=0)


def test_a_vocabulary_that_does_not_match_a_bag(tokenizer):
    with pytest.raises(ValueError, match="vocabulary does not match"):
        TextModel(bag(tokenizer.vocabulary_size - 1), tokenizer)


def test_a_length_that_does_not_match(tokenizer):
    model = kc.models.text_cnn(tokenizer.vocabulary_size, 3, length=5)
    with pytest.raises(ValueError, match=r"with_lengths\(5\)"):
        TextModel(model, tokenizer)
    TextModel(model, tokenizer.with_lengths(5))


def test_a_cache_takes_what_a_cascade_takes(bert, texts, tmp_path):
    x = list(texts["train"][0][:8])
    teacher = bert()
    cache = kc.cache_teacher_logits(x, teacher, tmp_path / "logits")
    x = np.array(x, object)
    expected = keras.ops.softmax(TextModel(teacher)(x))
    logits = keras.ops.softmax(cache.logits(x))
    assert np.allclose(logits, expected, atol=1e-3)


def test_cached_answers_judge_texts(vectorized, student, texts):
    teacher, (x, y) = vectorized(), texts["cal"]
    cache = kc.cache_teacher_logits((list(x), y), teacher)
    results = kc.Cascade(teacher, student).judge(
        (list(x), y), teacher_logits=cache
    )
    expected = np.argmax(teacher(x), axis=1)
    assert np.array_equal(results.teacher_correct, expected == y)


def test_pairs_are_told_apart_by_where_they_are_cut():
    from keras_cascade.datasets.fingerprint import example_hashes

    def hashed(a, b):
        return example_hashes({"a": np.array([a]), "b": np.array([b])})

    assert hashed("x", "yz") != hashed("xy", "z")


def test_costs_are_of_the_longest_text(student, vectorized, tokenizer):
    several = TextModel(student.model, tokenizer.with_lengths([4, 16]))
    costs = []
    for text in ("card", "card " * 16):
        cascade = kc.Cascade(vectorized(), several)
        cascade.prepare(np.array([text], object))
        costs.append(cascade.costs.student)
    assert costs[0] == costs[1]


def test_layers_of_a_text_student(student, vectorized, texts):
    (dense,) = [
        one.name for one in student.model.layers if one.name == "logits"
    ]
    gate = kc.gates.LearnedGate(student_layers=[dense])
    cascade = kc.Cascade(vectorized(), student, gate=gate)
    cascade.compile()
    cascade.fit(*texts["train"], verbose=0)
    assert cascade.predict(texts["cal"][0], verbose=0)["score"].shape == (120,)


def test_a_very_long_text(student):
    long = np.array(["card " * 20_000], object)
    assert np.isfinite(student(long, training=False)).all()

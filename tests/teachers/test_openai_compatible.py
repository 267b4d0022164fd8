"""LLM teachers, against a real server that speaks the protocol."""

import json
import re

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.errors import TeacherError
from keras_cascade.teachers.answer_journal import AnswerJournal
from keras_cascade.teachers.chat_scores import logprob_logits, vote_logits
from tests.helpers.chat_endpoint import ChatEndpoint
from tests.helpers.texts import WORDS, make_texts

NAMES = ["lost card", "exchange rate", "top up"]


def classify(text):
    """0.9 on the class whose word the text has, by NAMES."""
    words = set(text.rstrip("?").split())
    (number,) = [n for n, some in WORDS.items() if words & set(some)]
    return {
        name: 0.9 if index == number else 0.05
        for index, name in enumerate(NAMES)
    }


def teacher_at(endpoint, **options):
    return kc.teachers.OpenAICompatible(
        endpoint.url, "local", NAMES, input_price=1.0, output_price=4.0,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def endpoint():
    with ChatEndpoint(
        classify, errors=0.05, rate_limited=0.05, declined=0.04, outside=0.04
    ) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def texts():
    return make_texts(400, seed=3)


@pytest.fixture(scope="module")
def cached(endpoint, texts, tmp_path_factory):
    """`(teacher, cache, folder)` over all texts."""
    folder = tmp_path_factory.mktemp("llm") / "cache"
    teacher = teacher_at(endpoint)
    return teacher, kc.cache_teacher_logits(texts, teacher, folder), folder


def test_log_probabilities_become_the_logits(endpoint, texts, cached):
    teacher, cache, _ = cached
    x = texts[0]
    fates = np.array([endpoint.fate_of(text) for text in x])
    logits = cache.logits(x)
    missing = np.isnan(logits).all(axis=1)
    assert (missing == (fates != "answered")).all()
    assert (fates == "declined").sum() > 0 and (fates == "outside").sum() > 0
    # The server's own shares; a cache in half precision is exact to 5e-3.
    expected = np.array([list(classify(text).values()) for text in x])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares[~missing], expected[~missing], atol=5e-3)
    assert teacher.usage.declined == (fates == "declined").sum()
    assert teacher.usage.outside == (fates == "outside").sum()
    assert teacher.usage.answered == (fates == "answered").sum()
    assert teacher.retried >= endpoint.counts["errors"] > 0
    assert teacher.rate_limited == endpoint.counts["rate_limited"] > 0


def test_each_text_is_paid_once_and_money_is_counted(endpoint, texts, cached):
    teacher, _, folder = cached
    assert set(endpoint.charges) == set(texts[0])
    assert set(endpoint.charges.values()) == {1}
    # A new process would have a new teacher: it reads what was paid for.
    again = teacher_at(endpoint)
    charged = endpoint.counts["charged"]
    kc.cache_teacher_logits(texts, again, folder)
    again.logits(texts[0])
    assert endpoint.counts["charged"] == charged
    assert again.usage == teacher.usage
    tokens = teacher.usage
    expected = (tokens.prompt_tokens + 4 * tokens.completion_tokens) / 1e6
    assert teacher.cost == pytest.approx(expected)
    costs = teacher.costs()
    assert costs.unit == "USD"
    assert costs.teacher == pytest.approx(expected / 400)


def test_a_cascade_learns_calibrates_ships_and_answers(
    endpoint, texts, cached, tmp_path
):
    teacher, cache, _ = cached
    x, y = texts
    charged = endpoint.counts["charged"]
    tokenizer = kc.text.train_tokenizer(x[:200])
    bag = kc.models.text_bag(tokenizer.vocabulary_size, classes=3)
    cascade = kc.Cascade(teacher, kc.text.TextModel(bag, tokenizer))
    cascade.costs = teacher.costs()
    cascade.compile(keras.optimizers.Adam(0.05))
    cascade.fit(x[:200], y[:200], epochs=6, verbose=0, teacher_logits=cache)
    results = cascade.judge((x[200:], y[200:]))
    missing = np.array([endpoint.fate_of(t) != "answered" for t in x[200:]])
    assert (results.teacher_correct == ~missing).all()
    assert (results.teacher_labels[missing] == -1).all()
    cascade.calibrate((x[200:], y[200:]), kc.MaxDelegationRate(0.5))
    answer = cascade.predict(x[200:], verbose=0)
    students = cascade.two_stage_pass().run_student(x[200:])["probabilities"]
    unanswered = answer["delegated"] & missing
    np.testing.assert_array_equal(
        answer["probabilities"][unanswered], students[unanswered]
    )
    bundle = cascade.export(tmp_path / "bundle")
    assert bundle.classes == NAMES
    assert bundle.manifest["teacher"] is None
    remote = bundle.manifest["remote_teacher"]
    assert remote["kind"] == "OpenAICompatible" and remote["model"] == "local"
    assert bundle.manifest["costs"]["unit"] == "USD"
    with kc.runtime.EdgeCascade.load(bundle.path, teacher=teacher) as edge:
        row = np.flatnonzero(answer["delegated"] & ~missing)[:1]
        prediction = edge.predict(x[200:][row])
        assert prediction.source[0] == "cloud"
        np.testing.assert_allclose(
            prediction.probabilities, answer["probabilities"][row], atol=1e-5
        )
    # Nothing of all this was paid for again.
    assert endpoint.counts["charged"] == charged


def test_a_missing_answer_is_learnt_from_the_label(endpoint, texts):
    x, y = texts
    missing = np.array([endpoint.fate_of(t) != "answered" for t in x])
    x, y = x[missing][:8], y[missing][:8]
    student = kc.text.TextModel(*_bag(x))
    cascade = kc.Cascade(teacher_at(endpoint), student)
    cascade.compile()
    cascade.evaluate(x, y, verbose=0)
    loss = cascade.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    logits = np.asarray(student(x))
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    # Cross-entropy with the labels alone.
    assert loss == pytest.approx(-log_p[np.arange(8), y].mean(), rel=1e-4)


def _bag(x):
    tokenizer = kc.text.train_tokenizer(x)
    return (
        kc.models.text_bag(tokenizer.vocabulary_size, classes=3),
        tokenizer,
    )


def test_votes_become_smoothed_log_frequencies():
    choices = ["A", "A", " B.", "exchange rate", "maybe"]
    response = {"choices": [{"message": {"content": text}} for text in choices]}
    status, logits = vote_logits(response, NAMES, 5, "here")
    assert status == "answered"
    # Votes 2, 2, 0 of 4, by the formula in the docstring.
    np.testing.assert_allclose(
        np.exp(logits), [2.5 / 5.5, 2.5 / 5.5, 0.5 / 5.5]
    )


@pytest.mark.parametrize(
    "texts, status",
    [(["?", "what", "A"], "outside"), ([None, None, "A"], "declined")],
)
def test_few_votes_are_no_answer(texts, status):
    response = {
        "choices": [
            {"message": {"content": t, "refusal": None if t else "no"}}
            for t in texts
        ]
    }
    assert vote_logits(response, NAMES, 3, "here") == (status, None)


def test_unlisted_classes_share_the_rest():
    top = [
        {"token": "A", "logprob": np.log(0.6)},
        {"token": " A", "logprob": np.log(0.2)},
        {"token": "x", "logprob": np.log(0.16)},
    ]
    choice = {
        "message": {"content": "A"},
        "logprobs": {"content": [{**top[0], "top_logprobs": top}]},
    }
    status, logits = logprob_logits({"choices": [choice]}, 3, "here")
    assert status == "answered"
    np.testing.assert_allclose(np.exp(logits), [0.8, 0.02, 0.02])


def test_votes_over_the_wire(texts):
    with ChatEndpoint(classify, logprobs=False) as endpoint:
        teacher = teacher_at(endpoint, scoring="votes", samples=9)
        logits = teacher.logits(texts[0][:40])
    # Nine votes at 0.9: the majority is wrong with probability below 1e-3.
    assert (logits.argmax(axis=1) == texts[1][:40]).mean() > 0.9


def test_an_endpoint_without_log_probabilities(texts):
    with ChatEndpoint(classify, logprobs=False) as endpoint:
        teacher = teacher_at(endpoint)
        with pytest.raises(TeacherError, match="Pass scoring='votes'"):
            teacher.logits(texts[0][:40])
        assert endpoint.counts["charged"] == 1  # the first goes alone


def test_a_quota_that_ends_keeps_what_was_paid_for(texts, tmp_path):
    x = texts[0][:60]
    with ChatEndpoint(classify, quota=25) as endpoint:
        teacher = teacher_at(endpoint, max_concurrency=4)
        expected = r"25 of 60 texts.*answers\.jsonl.*call again"
        with pytest.raises(TeacherError, match=expected):
            kc.cache_teacher_logits(x, teacher, tmp_path / "cache")
        endpoint.quota = None
        again = teacher_at(endpoint)
        cache = kc.cache_teacher_logits(x, again, tmp_path / "cache")
        assert len(cache) == 60
        assert set(endpoint.charges.values()) == {1}
        assert len(endpoint.charges) == 60


def test_requests_at_a_time_are_bounded(texts):
    with ChatEndpoint(classify) as endpoint:
        teacher_at(endpoint, max_concurrency=3).logits(texts[0][:50])
        assert 1 <= endpoint.most_at_a_time <= 3


def test_the_key_is_sent_and_stands_nowhere(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_KEY", "sk-secret-1")
    with ChatEndpoint(classify, key="sk-secret-1") as endpoint:
        teacher = teacher_at(endpoint, api_key_env="LOCAL_KEY")
        cache = kc.cache_teacher_logits(
            texts[0][:8], teacher, tmp_path / "cache"
        )
        assert len(cache) == 8
        student = kc.text.TextModel(*_bag(texts[0][:8]))
        cascade = kc.Cascade(teacher, student)
        cascade.predict(texts[0][:8], verbose=0)
        cascade.save(tmp_path / "cascade.keras")
        saved = tmp_path / "cascade.keras"
        untrusted = keras.models.load_model(saved)
        # A file could name any URL, and any variable as the key.
        asked = endpoint.counts["requests"]
        with pytest.raises(ValueError, match="your key would be sent"):
            untrusted.predict(texts[0][8:16], verbose=0)
        assert endpoint.counts["requests"] == asked
        loaded = keras.models.load_model(saved, safe_mode=False)
        assert loaded.teacher.teacher.get_config() == teacher.get_config()
        for file in tmp_path.rglob("*"):
            if file.is_file():
                assert b"sk-secret-1" not in file.read_bytes()
        assert "sk-secret-1" not in json.dumps(teacher.get_config())
        assert "sk-secret-1" not in repr(teacher)
        monkeypatch.setenv("LOCAL_KEY", "another")
        fresh = teacher_at(endpoint, api_key_env="LOCAL_KEY")
        with pytest.raises(TeacherError, match="valid key into LOCAL_KEY"):
            fresh.logits(texts[0][:1])


def test_retries_are_bounded(texts):
    with ChatEndpoint(classify, rate_limited=1.0) as endpoint:
        teacher = teacher_at(endpoint, retries=2)
        with pytest.raises(TeacherError, match="429: too fast"):
            teacher.logits(texts[0][:20])
        assert endpoint.counts["requests"] == 3


def test_nobody_answers(texts):
    teacher = kc.teachers.OpenAICompatible(
        "http://127.0.0.1:9/v1", "local", NAMES, retries=0
    )
    with pytest.raises(TeacherError, match="Is it running"):
        teacher.logits(texts[0][:2])


def test_a_line_that_a_kill_cut_is_dropped(tmp_path):
    path = tmp_path / "answers.jsonl"
    journal = AnswerJournal(path)
    journal.append({"key": "a", "status": "answered"})
    with open(path, "ab") as stream:
        stream.write(b'{"key": "b", "sta')
    journal = AnswerJournal(path)
    assert [one["key"] for one in journal] == ["a"]
    journal.append({"key": "c", "status": "answered"})
    assert [one["key"] for one in AnswerJournal(path)] == ["a", "c"]


def test_a_text_cannot_fill_in_the_prompt():
    teacher = kc.teachers.OpenAICompatible("http://x/v1", "local", NAMES)
    filled = teacher._filled({"text": "a {classes} and {text}"})
    assert filled.count("lost card") == 1
    assert "a {classes} and {text}" in filled


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": ["a"]}, "at least two `classes`"),
        ({"classes": ["a", "A"]}, "different names"),
        ({"classes": map(str, range(61))}, "at most 60.*scoring='votes'"),
        ({"scoring": "guess"}, "Expected `scoring`"),
        ({"prompt": "{text}"}, r"a prompt with \{classes\}"),
        ({"samples": 0}, "samples >= 1"),
    ],
)
def test_bad_arguments(options, message):
    arguments = {"url": "http://x/v1", "model": "m", "classes": NAMES}
    with pytest.raises(ValueError, match=message):
        kc.teachers.OpenAICompatible(**{**arguments, **options})


def test_costs_need_prices_and_answers():
    teacher = kc.teachers.OpenAICompatible("http://x/v1", "m", NAMES)
    with pytest.raises(ValueError, match="input_price"):
        teacher.costs()
    teacher = kc.teachers.OpenAICompatible(
        "http://x/v1", "m", NAMES, input_price=1.0, output_price=1.0
    )
    with pytest.raises(ValueError, match="asked before"):
        teacher.costs()
    assert re.fullmatch("[0-9a-f]{64}", teacher.identity())

"""Text cascades from training to bundle, device and server."""

import asyncio
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.bundle import hash_file
from keras_cascade.bundle.manifest import MANIFEST, SEAL
from keras_cascade.cli.prediction import predict_input
from keras_cascade.datasets.batches import iterate_batches
from keras_cascade.export import ExportError
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.runtime import (
    AsyncEdgeCascade,
    EdgeCascade,
    TeacherError,
)
from keras_cascade.serving import ServerProcess
from keras_cascade.text.text_reader import PROBES, TextReader
from tests.helpers.texts import make_texts


@pytest.fixture(scope="module")
def strings(tmp_path_factory, texts, tokenizer, vectorized):
    """A cascade whose teacher takes strings, and its bundle."""
    keras.utils.set_random_seed(0)
    student = kc.text.TextModel(
        kc.models.text_bag(tokenizer.vocabulary_size, 3, width=8, buckets=64),
        tokenizer,
    )
    cascade = kc.Cascade(vectorized(), student)
    cascade.compile(keras.optimizers.Adam(0.02))
    cascade.fit(*texts["train"], epochs=8, verbose=0)
    cascade.calibrate(texts["cal"], kc.MaxDelegationRate(0.3))
    path = tmp_path_factory.mktemp("strings") / "bundle"
    return cascade, cascade.export(path)


@pytest.fixture(scope="module")
def new_texts():
    return make_texts(64, 3)


def test_the_device_answers_as_keras(strings, new_texts):
    cascade, bundle = strings
    x, _ = new_texts
    expected = cascade.predict(x, verbose=0)
    with EdgeCascade.load(bundle.path, "local") as edge:
        prediction = edge.predict(list(x))
        one = edge.predict(x[0])
    assert 0 < prediction.delegation_rate < 1
    assert np.array_equal(prediction.source == "cloud", expected["delegated"])
    assert np.allclose(
        prediction.probabilities, expected["probabilities"], atol=1e-5
    )
    assert np.allclose(
        one.probabilities[0], prediction.probabilities[0], atol=1e-5
    )


def test_the_compiled_runtime_takes_texts(strings, new_texts):
    x, _ = new_texts
    with (
        EdgeCascade.load(strings[1].path) as interpreter,
        EdgeCascade.load(strings[1].path, runtime="compiled") as compiled,
    ):
        for texts in (list(x), x[0]):
            expected, found = (
                interpreter.predict(texts),
                compiled.predict(texts),
            )
            assert np.array_equal(found.source, expected.source)
            assert np.allclose(
                found.probabilities, expected.probabilities, atol=1e-6
            )


@pytest.mark.parametrize("path", ["/v1/models/teacher", "/v2/models/teacher"])
def test_served_with_raw_strings(strings, new_texts, path, tmp_path):
    cascade, bundle = strings
    x, _ = new_texts
    expected = cascade.predict(x, verbose=0)
    with ServerProcess(bundle.path, tmp_path / "log") as server:
        url = server.url.replace("/v1/models/teacher", path)
        with EdgeCascade.load(bundle.path, url, "raise") as edge:
            prediction = edge.predict(x)
    assert np.allclose(
        prediction.probabilities, expected["probabilities"], atol=1e-5
    )


def test_the_manifest_states_the_inputs_of_each_model(strings):
    _, bundle = strings
    manifest = bundle.manifest
    (entry,) = manifest["input"]
    assert (entry["dtype"], entry["shape"]) == ("string", [None])
    student = manifest["student"]
    (length,) = student["text"]["lengths"]
    assert student["input"][0]["dtype"] == "int32"
    assert student["input"][0]["shape"] == [None, length]
    assert student["text"]["feeds"] == {"input": "token_ids"}
    assert student["text"]["texts"] == 120
    assert "input" not in manifest["teacher"]  # the strings themselves


def test_cut_texts_are_counted(strings):
    _, bundle = strings
    with EdgeCascade.load(bundle.path) as edge:
        prediction = edge.predict(["card", "card " * 500, "x" * 100_000])
    # The last is one word that the vocabulary does not hold.
    assert prediction.truncated.tolist() == [False, True, False]


def test_no_tensorflow_on_the_device(strings):
    _, bundle = strings
    code = (
        "import sys\n"
        "from keras_cascade.runtime import EdgeCascade\n"
        f"edge = EdgeCascade.load({str(bundle.path)!r})\n"
        "print(edge.predict(['where is my card?']).labels)\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.splitlines()[-1] == "[]"


def test_verified_from_its_files(strings, texts):
    _, bundle = strings
    checks, measured = check_bundle(bundle.path, iterate_batches(*texts["cal"]))
    assert all(check.passed for check in checks), checks
    point = bundle.operating_point()
    assert measured["accuracy"] == pytest.approx(point["accuracy"])


@pytest.mark.parametrize("quantization", ["dynamic", "int8", "float16"])
def test_quantized(strings, texts, quantization, tmp_path):
    cascade, bundle = strings
    small = cascade.export(
        tmp_path / "b", quantization=quantization, calibration_data=texts["cal"]
    )
    assert (
        small.manifest["student"]["bytes"] < bundle.manifest["student"]["bytes"]
    )
    with EdgeCascade.load(small.path, "local") as edge:
        assert set(edge.predict(list(texts["cal"][0])).source) <= {
            "edge",
            "cloud",
        }


def test_keras_hub_on_both_sides(bert, calibrated, texts, tmp_path):
    """BERT classifiers of 4 layers and width 256, with raw strings."""
    large = {"blocks": 4, "width": 256}
    cascade = calibrated(bert(24, **large), bert(16, **large), 1, 1e-4)
    bundle = cascade.export(
        tmp_path / "b", quantization="dynamic", calibration_data=texts["cal"]
    )
    fed = bundle.manifest["student"]["text"]["feeds"]
    assert fed == {name: name for name in fed} and len(fed) == 3
    x = list(texts["cal"][0])
    with (
        ServerProcess(bundle.path, tmp_path / "log") as server,
        EdgeCascade.load(bundle.path, server.url, "raise") as edge,
    ):
        prediction, teacher = (
            edge.predict(x),
            edge.logits({"input": np.array(x)}),
        )
    expected = cascade.teacher.predict(texts["cal"][0], verbose=0)
    assert np.allclose(teacher, expected, atol=1e-4)
    assert 0 < (prediction.source == "cloud").sum() < 120


def test_pairs(bert, texts, tmp_path):
    """Natural language inference: two texts, each with its name."""
    x, y = texts["train"]
    pairs = {"premise": x, "hypothesis": x[::-1].copy()}
    fields = ("premise", "hypothesis")
    tokenizer = kc.text.train_tokenizer(list(zip(x, x[::-1], strict=True)), 200)
    model = kc.models.text_bag(
        tokenizer.vocabulary_size, 3, width=8, buckets=64
    )
    cascade = kc.Cascade(
        kc.text.TextModel(bert(32), fields=fields),
        kc.text.TextModel(model, tokenizer, fields=fields),
    )
    cascade.compile()
    cascade.fit(pairs, y, verbose=0)
    held_out = dict.fromkeys(fields, texts["cal"][0])
    cascade.calibrate((held_out, texts["cal"][1]), kc.MaxDelegationRate(0.5))
    bundle = cascade.export(tmp_path / "b")
    expected = cascade.predict(held_out, verbose=0)
    with EdgeCascade.load(bundle.path, "local") as edge:
        prediction = edge.predict(
            {name: list(v) for name, v in held_out.items()}
        )
        one = edge.predict({"premise": "my card", "hypothesis": "my euro"})
    assert np.allclose(
        prediction.probabilities, expected["probabilities"], atol=1e-5
    )
    assert len(one) == 1


def test_a_teacher_of_token_ids(student, calibrated, texts, tmp_path):
    """Its tokenizer cannot be in a SavedModel, so it is written beside it."""
    model = kc.models.text_cnn(student.step.vocabulary_size, 3, width=8)
    teacher = kc.text.TextModel(model, student.preprocessor)
    cascade = calibrated(teacher, student, epochs=1)
    bundle = cascade.export(tmp_path / "b", onnx=True)
    assert bundle.manifest["teacher"]["input"][0]["dtype"] == "int32"
    x = texts["cal"][0]
    expected = cascade.predict(x, verbose=0)
    with ServerProcess(bundle.path, tmp_path / "log") as server:
        for url in ("local", server.url):
            with EdgeCascade.load(bundle.path, url, "raise") as edge:
                prediction = edge.predict(x)
            assert np.allclose(
                prediction.probabilities, expected["probabilities"], atol=1e-5
            )
    prediction = predict_input(bundle.path, None, list(x), "local", "raise")
    assert np.array_equal(prediction.source == "cloud", expected["delegated"])
    checks, _ = check_bundle(bundle.path, iterate_batches(*texts["cal"]))
    assert all(check.passed for check in checks), checks
    with pytest.raises(ExportError, match="cannot hold the `Tokenizer`"):
        cascade.export(tmp_path / "fused", format="tf_saved_model")


def test_several_lengths(strings, texts, tokenizer, tmp_path):
    cascade, _ = strings
    student = kc.text.TextModel(
        cascade.student.model, tokenizer.with_lengths([8, 16])
    )
    several = kc.Cascade(cascade.teacher, student)
    several.compile()
    several.calibrate(texts["cal"], kc.MaxDelegationRate(0.3))
    bundle = several.export(tmp_path / "b")
    assert bundle.manifest["student"]["input"][0]["shape"] == [None, None]
    with EdgeCascade.load(bundle.path) as edge:
        alone = [edge.predict_alone(one) for one in ("card", "card " * 12)]
        together = edge.predict_alone(["card", "card " * 12])
    for row in range(2):
        assert np.allclose(
            alone[row].probabilities[0], together.probabilities[row], atol=1e-5
        )


def test_a_length_that_no_text_fits_into(strings, texts, tmp_path):
    """Words of many pieces: each has more tokens than the length."""
    cascade, _ = strings
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 20)) for _ in range(60)]
    made = kc.text.train_tokenizer(words, 22, lengths=[4, 64])
    assert made.counts(words).min() > 4
    student = kc.text.TextModel(
        kc.models.text_bag(made.vocabulary_size, 3, width=4, buckets=0), made
    )
    several = kc.Cascade(cascade.teacher, student)
    several.compile()
    x, y = np.array(words, object), np.arange(60) % 3
    several.calibrate((x, y), kc.MaxDelegationRate(0.3))
    with pytest.raises(ExportError) as no:
        several.export(tmp_path / "b", verbose=False)
    assert "some fit into 4 tokens" in str(no.value)
    assert "Leave out the length 4, or make it longer." in str(no.value)
    assert not list(tmp_path.iterdir())


def test_answers_that_depend_on_padding(strings, texts, tokenizer, tmp_path):
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(
                tokenizer.vocabulary_size, 4, embeddings_initializer=normal
            ),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, kernel_initializer=normal),
        ]
    )
    student = kc.text.TextModel(model, tokenizer.with_lengths([8, 64]))
    cascade = kc.Cascade(strings[0].teacher, student)
    cascade.compile()
    cascade.calibrate(texts["cal"], kc.MaxDelegationRate(0.5))
    with pytest.raises(ExportError, match="do not depend on the padding"):
        cascade.export(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_other_tokens_on_the_device(bert, student, calibrated, tmp_path):
    """A character that folds to several is where KerasHub cannot be met."""
    x = np.array([f"the card\u2026 {number}" for number in range(60)], object)
    y = np.arange(60, dtype="int32") % 3
    model = bert()
    vocabulary = [*model.preprocessor.tokenizer.get_vocabulary(), "##."]
    model.preprocessor.tokenizer.set_vocabulary(vocabulary[:-1])
    cascade = kc.Cascade(student, model)
    cascade.compile()
    cascade.fit(x, y, verbose=0)
    with pytest.raises(ExportError, match="would not do on a device"):
        cascade.export(
            tmp_path / "b",
            calibration_data=(x, y),
            allow_training_data=True,
        )
    assert not (tmp_path / "b").exists()


def test_training_quantizations_are_refused(strings, texts, tmp_path):
    with pytest.raises(ExportError, match="Received one of texts"):
        strings[0].export(
            tmp_path / "b", quantization="qat", training_data=texts["train"]
        )


def test_a_student_alone_has_its_tokenizer_beside_it(strings, tmp_path):
    cascade, _ = strings
    signature = cascade.export(tmp_path / "s.tflite", format="litert")
    assert signature.describe()[0]["dtype"] == "int32"
    content = (tmp_path / "s.tokenizer.json").read_text(encoding="utf-8")
    assert content == cascade.student.preprocessor.content


def test_onnx_of_texts(strings, texts, tmp_path):
    cascade, _ = strings
    bundle = cascade.export(tmp_path / "b", onnx="student")
    checks, _ = check_bundle(bundle.path, iterate_batches(*texts["cal"]))
    assert all(check.passed for check in checks), checks
    with pytest.raises(ExportError, match="Received a teacher of texts"):
        cascade.export(tmp_path / "t.onnx", format="onnx", part="teacher")


def test_queued_logged_and_learned_from(strings, new_texts, tmp_path):
    """Texts wait on disk for the teacher, and come back as training data."""
    cascade, bundle = strings
    x, _ = new_texts
    expected = cascade.predict(x, verbose=0)
    teacher = _OfflineTeacher(cascade)
    with EdgeCascade(
        bundle, teacher, "queue", queue=tmp_path / "q", log=tmp_path / "l",
        retries=0,
    ) as edge:  # fmt: skip
        prediction = edge.predict(list(x))
        waiting = prediction.source == "queued"
        assert np.array_equal(waiting, expected["delegated"])
        teacher.available = True
        assert edge.send_queued() == waiting.sum()
        with edge.queued_answers() as late:
            assert np.allclose(
                late.probabilities,
                expected["probabilities"][waiting],
                atol=1e-5,
            )
    seen, labels, cache = kc.teacher_logits.cache_teacher_log(
        tmp_path / "l", tmp_path / "cache", teacher=cascade.teacher
    )
    assert set(seen) == set(x[waiting])
    learner = kc.text.TextModel(
        keras.models.clone_model(cascade.student.model),
        cascade.student.preprocessor,
    )
    flywheel = kc.Cascade(cascade.teacher, learner)
    flywheel.compile()
    flywheel.fit(seen, labels, teacher_logits=cache, verbose=0)


async def _predict_async(path, x):
    async with AsyncEdgeCascade.load(path, "local") as edge:
        return await edge.predict(x)


def test_awaited(strings, new_texts):
    cascade, bundle = strings
    prediction = asyncio.run(_predict_async(bundle.path, list(new_texts[0])))
    expected = cascade.predict(new_texts[0], verbose=0)
    assert np.array_equal(prediction.source == "cloud", expected["delegated"])


class _OfflineTeacher:
    """A cascade's own teacher, once it is available."""

    def __init__(self, cascade):
        self.available = False
        self._teacher = cascade.teacher

    def logits(self, inputs):
        if not self.available:
            raise TeacherError("away", retryable=True)
        return self._teacher.predict(inputs["input"], verbose=0)


# A bundle that was changed.


def test_an_altered_tokenizer_is_refused(strings, copied):
    file = copied(strings[1]) / "tokenizer.json"
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(BundleError, match="was altered"):
        EdgeCascade.load(file.parent)


def test_a_tokenizer_that_makes_other_tokens_is_refused(strings, copied):
    """As where another version of the library reads the file otherwise."""
    path = copied(strings[1])
    file = path / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(content), encoding="utf-8")
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    manifest["student"]["text"]["sha256"] = hash_file(file)
    del manifest[SEAL]
    (path / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="does not make the tokens"):
        EdgeCascade.load(path)


def test_a_tokenizer_that_is_exchanged_after_the_check(strings, copied):
    """Tokens come from the bytes that were hashed."""
    path = copied(strings[1])
    bundle = Bundle.load(path)
    expected, _ = TextReader.load(bundle, "student")({"input": [PROBES[0]]})
    (path / "tokenizer.json").write_text("{}", encoding="utf-8")
    found, _ = TextReader.load(bundle, "student")({"input": [PROBES[0]]})
    np.testing.assert_array_equal(found["input"], expected["input"])


def test_the_probes_are_stated(strings):
    _, bundle = strings
    vectors = bundle.manifest["student"]["text"]["vectors"]
    assert [one["text"] for one in vectors] == list(PROBES)
    reader = TextReader.load(Bundle.load(bundle.path), "student")
    fed, _ = reader({"input": [PROBES[0]]})
    ids = vectors[0]["token_ids"]
    assert fed["input"][0, : len(ids)].tolist() == ids


@pytest.fixture
def copied(tmp_path):
    import shutil

    def copy(bundle):
        return shutil.copytree(bundle.path, tmp_path / "copy")

    return copy

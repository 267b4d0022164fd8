"""Teachers that no bundle can hold, served over HTTP for their bundles."""

import pickle
import sys

import httpx
import keras
import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import keras_cascade as kc
from keras_cascade.bundle import Bundle, BundleError
from keras_cascade.bundle.manifest import MANIFEST, write_manifest
from keras_cascade.cli.teacher_object import teacher_object
from keras_cascade.errors import TeacherError
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from tests.helpers.chat_endpoint import ChatEndpoint
from tests.helpers.linear_teachers import (
    CLASSES,
    WEIGHTS,
    WIDTH,
    examples,
    softmax,
    torch_module,
)
from tests.helpers.served_teacher import served
from tests.helpers.texts import WORDS, make_texts

TRAIN, CALIBRATION = examples(300, seed=1), examples(200, seed=2)
NEW = examples(100, seed=3)[0]
TEXTS, TEXT_LABELS = make_texts(200, seed=1)
NAMES = ["lost card", "exchange rate", "top up"]


def load(bundle, url, **options):
    return EdgeCascade.load(
        bundle.path, teacher=url, teacher_identity="required", **options
    )


def refuse(bundle, teacher, message):
    with pytest.raises(BundleError, match=message):
        LoadedTeacher.load(bundle, Limits(), ServerMetrics(), teacher=teacher)


def cascade_of(teacher, train, calibration, student):
    """Trained for an epoch, and calibrated to delegate a part of the rows."""
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.Adam(0.05))
    cascade.fit(*train, verbose=0)
    cascade.calibrate(calibration, kc.MaxDelegationRate(0.5, tolerance=0.5))
    return cascade


def vector_cascade(teacher):
    keras.utils.set_random_seed(1)
    student = keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)]
    )
    return cascade_of(teacher, TRAIN, CALIBRATION, student)


def text_cascade(teacher):
    keras.utils.set_random_seed(1)
    tokenizer = kc.text.train_tokenizer(TEXTS[:100])
    bag = kc.models.text_bag(tokenizer.vocabulary_size, classes=3)
    return cascade_of(
        teacher,
        (TEXTS[:100], TEXT_LABELS[:100]),
        (TEXTS[100:], TEXT_LABELS[100:]),
        kc.text.TextModel(bag, tokenizer),
    )


def check_device(bundle, teacher, cascade, x, expected):
    """Decisions are Keras's, and delegated rows have the teacher's answers."""
    answer = cascade.predict(x, verbose=0)
    point = bundle.operating_point()
    delegated = answer["score"] < np.float32(point["threshold"])
    assert 0 < delegated.sum() < len(x)
    with served(bundle, teacher) as url, load(bundle, url) as edge:
        prediction = edge.predict(x)
        assert prediction.teacher_error is None
    np.testing.assert_array_equal(prediction.source == "cloud", delegated)
    np.testing.assert_allclose(
        prediction.probabilities[delegated], expected[delegated], atol=1e-5
    )
    np.testing.assert_allclose(
        prediction.probabilities[~delegated],
        answer["probabilities"][~delegated],
        atol=1e-5,
    )


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory):
    """`(cascade, bundle)` of the PyTorch teacher."""
    cascade = vector_cascade(torch_module())
    return cascade, cascade.export(tmp_path_factory.mktemp("torch") / "bundle")


def test_a_pytorch_module(torch_bundle):
    cascade, bundle = torch_bundle
    teacher = kc.teachers.Torch(torch_module())  # as another process has it
    check_device(bundle, teacher, cascade, NEW, softmax(NEW @ WEIGHTS))
    card = (bundle.path / "README.md").read_text("utf-8")
    assert "one that no bundle can hold (Torch)" in card
    assert "--teacher\nMODULE:NAME" in card
    assert "8 probe rows" in card


def test_another_teacher_is_not_served(torch_bundle):
    _, bundle = torch_bundle
    kind = kc.teachers.Torch
    refuse(bundle, kind(torch_module(-WEIGHTS)), "is not the bundle's")
    refuse(bundle, kc.teachers.Callable(lambda x: x[:, :2]), "is not the")
    # Rounded otherwise, it has another identity and the same answers.
    same = kc.teachers.Callable(lambda x: (x @ WEIGHTS).astype("float32"))
    with served(bundle, same) as url, load(bundle, url) as edge:
        assert edge.predict(NEW).teacher_error is None
    manifest = {**bundle.manifest}
    manifest["remote_teacher"] = {
        key: value
        for key, value in manifest["remote_teacher"].items()
        if key != "probes"
    }
    without_probes = Bundle(bundle.path, manifest)
    refuse(without_probes, same, "Pass it as at the export")
    with pytest.raises(BundleError, match=r"serving\.serve"):
        LoadedTeacher.load(bundle, Limits(), ServerMetrics())


def test_a_device_tells_the_server_of_another_bundle(torch_bundle):
    """Here one with its classes in another order."""
    _, bundle = torch_bundle
    teacher, classes = kc.teachers.Torch(torch_module()), ["b", "a", "c"]
    remote = {
        **bundle.manifest["remote_teacher"],
        "identity": teacher.served_identity(classes),
    }
    changes = {"classes": classes, "remote_teacher": remote}
    twin = Bundle(bundle.path, {**bundle.manifest, **changes})
    with (
        served(twin, teacher) as url,
        load(bundle, url, on_failure="abstain") as edge,
    ):
        prediction = edge.predict(NEW)
        assert set(prediction.source) == {"edge", "abstained"}
        assert "not the bundle's" in prediction.teacher_error


def test_scikit_learn_pipelines(tmp_path):
    """On arrays and, with names in another order, on texts."""
    pipeline = make_pipeline(
        FunctionTransformer(lambda x: 2 * x),
        StandardScaler(),
        LogisticRegression(),
    )
    pipeline.fit(*TRAIN)
    cascade = vector_cascade(pipeline)
    bundle = cascade.export(tmp_path / "arrays")
    teacher = kc.teachers.get(pipeline)
    check_device(bundle, teacher, cascade, NEW, pipeline.predict_proba(NEW))
    own = np.array(["z_card", "a_rate", "m_top"])
    words = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    words.fit(TEXTS[:100], own[TEXT_LABELS[:100]])
    cascade = text_cascade(kc.teachers.SklearnPipeline(words, classes=own))
    bundle = cascade.export(tmp_path / "texts")
    # As another process would have it, after some use.
    copy = pickle.loads(pickle.dumps(words))
    copy.predict_proba(TEXTS[:3])
    x = TEXTS[100:]
    check_device(
        bundle,
        kc.teachers.SklearnPipeline(copy, classes=own),
        cascade,
        x,
        words.predict_proba(list(x))[:, [2, 0, 1]],
    )
    refuse(bundle, kc.teachers.get(copy), "of another one|not the bundle's")


def test_an_llm(tmp_path):
    """Declined texts are no answers; an endpoint that is away is a 503."""

    def classify(text):
        words = set(text.rstrip("?").split())
        (number,) = [n for n, some in WORDS.items() if words & set(some)]
        return {
            name: 0.9 if index == number else 0.05
            for index, name in enumerate(NAMES)
        }

    with ChatEndpoint(classify, declined=0.05) as endpoint:
        teacher = kc.teachers.OpenAICompatible(
            endpoint.url, "local", NAMES, retries=0
        )
        cascade = text_cascade(teacher)
        bundle = cascade.export(tmp_path / "bundle")
        charged = endpoint.counts["charged"]
        fates = np.array([endpoint.fate_of(text) for text in TEXTS])
        x = TEXTS[fates == "answered"]
        expected = np.array([list(classify(text).values()) for text in x])
        check_device(bundle, teacher, cascade, x, expected)
        (declined,) = TEXTS[fates != "answered"][:1]
        with (
            served(bundle, teacher) as url,
            load(bundle, url, on_failure="raise") as edge,
            pytest.raises(TeacherError, match="no answer to row 0"),
        ):
            edge.logits({"input": np.array([declined], object)})
    # Only what is new is charged: the server asks about nothing of its own.
    assert set(endpoint.charges.values()) == {1}
    assert charged <= len(TEXTS)
    with served(bundle, teacher) as url:
        answer = httpx.post(f"{url}:predict", json={"instances": ["new card"]})
        assert answer.status_code == 503
        assert endpoint.url not in answer.text
    other = kc.teachers.OpenAICompatible(endpoint.url, "other", NAMES)
    refuse(bundle, other, "of another one")


def test_a_pickled_pipeline_by_the_command(tmp_path, monkeypatch):
    """`keras-cascade serve BUNDLE --teacher MODULE:NAME`, in a process."""
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    pipeline.fit(TEXTS[:100], TEXT_LABELS[:100])
    (tmp_path / "teacher.pickle").write_bytes(pickle.dumps(pipeline))
    (tmp_path / "served_models.py").write_text(
        "import pathlib, pickle\n"
        "file = pathlib.Path(__file__).with_name('teacher.pickle')\n"
        "teacher = pickle.loads(file.read_bytes())\n"
        "other = lambda texts: [[0.0, 1.0, 2.0]] * len(texts)\n"
    )
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *sys.path]))
    bundle = text_cascade(pipeline).export(tmp_path / "bundle")
    # Its identity alone must do, in another process.
    del bundle.manifest["remote_teacher"]["probes"]
    write_manifest(bundle.manifest, bundle.path / MANIFEST)
    options = ["--teacher", "served_models:teacher"]
    x = TEXTS[100:]
    expected = pipeline.predict_proba(list(x))
    with ServerProcess(
        bundle.path, tmp_path / "log", options=options
    ) as server:
        for url in (server.url, server.grpc_url):
            with load(bundle, url) as edge:
                prediction = edge.predict(x)
            cloud = prediction.source == "cloud"
            assert cloud.any()
            np.testing.assert_allclose(
                prediction.probabilities[cloud], expected[cloud], atol=1e-5
            )
    monkeypatch.syspath_prepend(tmp_path)
    other = kc.teachers.get(teacher_object("served_models:other"))
    refuse(bundle, other, "of another one")
    with pytest.raises(ValueError, match=r"MODULE:NAME.*no attribute 'none'"):
        teacher_object("served_models:none")
    with pytest.raises(ValueError, match="Received: 'served_models'"):
        teacher_object("served_models")

"""Teachers that are no Keras model, through training, export and the device."""

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_cascade as kc
from keras_cascade.bundle import BundleError
from keras_cascade.errors import ExportError, TeacherError
from keras_cascade.export.bundle_checks import check_bundle
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.http_server_thread import HttpServerThread
from tests.helpers.linear_teachers import (
    CLASSES,
    WEIGHTS,
    WIDTH,
    examples,
    softmax,
    torch_module,
    write_onnx,
    write_saved_model,
)
from tests.helpers.texts import make_texts

TRAIN, CALIBRATION = examples(300, seed=1), examples(200, seed=2)
NEW = examples(100, seed=3)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def onnx_file(folder):
    return write_onnx(folder / "teacher.onnx")


@pytest.fixture(scope="module")
def saved_model(folder):
    return write_saved_model(folder / "saved_model")


def student_of():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Dense(CLASSES)]
    )


def trained(teacher, epochs=2):
    """A cascade of the teacher, trained and calibrated to delegate 30 %."""
    cascade = kc.Cascade(teacher, student_of())
    cascade.compile(keras.optimizers.Adam(0.01))
    cascade.fit(
        *TRAIN, epochs=epochs, verbose=0, validation_data=examples(40, seed=4)
    )
    cascade.calibrate(CALIBRATION, kc.MaxDelegationRate(0.3))
    return cascade


def check_device(edge, expected):
    """Delegated rows have the teacher's answers, by its own library."""
    prediction = edge.predict(NEW)
    cloud = prediction.source == "cloud"
    assert 0.1 < cloud.mean() < 0.6
    np.testing.assert_allclose(
        prediction.probabilities[cloud], expected[cloud], atol=1e-5
    )


@pytest.fixture(scope="module")
def onnx_bundle(onnx_file, folder):
    """`(cascade, bundle)` of the ONNX teacher."""
    teacher = kc.teachers.Onnx(onnx_file, outputs="probabilities")
    cascade = trained(teacher)
    return cascade, cascade.export(folder / "onnx_bundle")


def test_an_onnx_file(onnx_file, onnx_bundle):
    cascade, bundle = onnx_bundle
    session = onnxruntime.InferenceSession(str(onnx_file))
    (expected,) = session.run(None, {"features": NEW})
    answer = cascade.predict(NEW, verbose=0)
    np.testing.assert_allclose(
        answer["probabilities"][answer["delegated"]],
        expected[answer["delegated"]],
        atol=1e-6,
    )
    entry = bundle.manifest["teacher"]
    assert entry["format"] == "onnx"
    assert list(entry["files"]) == ["model.onnx"]
    assert "an ONNX file" in (bundle.path / "README.md").read_text("utf-8")
    with kc.runtime.EdgeCascade.load(bundle.path, teacher="local") as edge:
        check_device(edge, expected)
    checks, _ = check_bundle(bundle, [(*CALIBRATION, None)])
    assert all(check.passed for check in checks)


def test_the_identity_covers_how_an_onnx_file_is_read(onnx_bundle):
    _, bundle = onnx_bundle
    other = type(bundle)(
        bundle.path,
        {
            **bundle.manifest,
            "teacher": {
                **bundle.manifest["teacher"],
                "onnx": {"output": "x", "outputs": "logits", "clip": 1e-7},
            },
        },
    )
    assert other.teacher_identity != bundle.teacher_identity


def test_a_url_and_the_server_of_an_onnx_bundle(onnx_bundle, folder):
    _, served = onnx_bundle

    def make_service():
        limits, metrics = Limits(), ServerMetrics()
        teacher = LoadedTeacher.load(served, limits, metrics)
        return TeacherService(teacher, limits, None, metrics)

    expected = softmax(NEW @ WEIGHTS)
    with HttpServerThread(make_service) as server:
        url = f"http://127.0.0.1:{server.port}/v1/models/teacher"
        teacher = kc.teachers.Url(url, CLASSES)
        cascade = trained(teacher)
        assert teacher.stated_identity == served.teacher_identity
        cascade.save(folder / "url.keras")
        loaded = keras.models.load_model(folder / "url.keras")
        answer = loaded.predict(NEW, verbose=0)
        np.testing.assert_allclose(
            answer["probabilities"][answer["delegated"]],
            expected[answer["delegated"]],
            atol=1e-5,
        )
        bundle = cascade.export(folder / "url_bundle")
        assert bundle.manifest["teacher"] is None
        remote = bundle.manifest["remote_teacher"]
        assert (remote["kind"], remote["url"]) == ("Url", url)
        assert bundle.teacher_identity == served.teacher_identity
        assert url in (bundle.path / "README.md").read_text("utf-8")
        with kc.runtime.EdgeCascade.load(
            bundle.path, teacher=remote["url"], teacher_identity="required"
        ) as edge:
            check_device(edge, expected)
        stranger = kc.teachers.Url(url, CLASSES, identity="0" * 64)
        with pytest.raises(TeacherError, match="Another teacher answers"):
            stranger.logits(NEW[:1])
        for one in (teacher, loaded.teacher.teacher, stranger):
            one.close()
    with pytest.raises(TeacherError, match=f"teacher='{url}'"):
        kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    with pytest.raises(BundleError, match="verify the files alone"):
        check_bundle(bundle, [])


def test_a_saved_model(saved_model, folder):
    teacher = kc.teachers.SavedModel(saved_model, outputs="probabilities")
    cascade = trained(teacher)
    loaded = tf.saved_model.load(str(saved_model))
    run = loaded.signatures["serving_default"]
    expected = run(features=tf.constant(NEW))["shares"].numpy()
    bundle = cascade.export(folder / "saved_model_bundle")
    # Under the cascade's input name, with logits: TensorFlow Serving's form.
    copy = kc.runtime.SavedModelTeacher(bundle.path / "teacher" / "1")
    np.testing.assert_allclose(
        softmax(copy.logits({"input": NEW})), expected, atol=1e-6
    )
    with kc.runtime.EdgeCascade.load(bundle.path, teacher="local") as edge:
        check_device(edge, expected)


def test_safe_mode_runs_no_saved_model(saved_model, tmp_path):
    """Neither as `kc.teachers.SavedModel` nor as a Keras model."""
    file = tmp_path / "cascade.keras"
    teacher = kc.teachers.SavedModel(saved_model, outputs="probabilities")
    kc.Cascade(teacher, student_of()).save(file)
    loaded = keras.models.load_model(file)
    with pytest.raises(ValueError, match=r"graph is code.*safe_mode=False"):
        loaded.predict(NEW, verbose=0)
    loaded.teacher = teacher
    expected = loaded.predict(NEW, verbose=0)
    trusted = keras.models.load_model(file, safe_mode=False)
    np.testing.assert_array_equal(
        trusted.predict(NEW, verbose=0)["probabilities"],
        expected["probabilities"],
    )
    keras_model = kc.models.load_model(saved_model)
    # Probabilities, as Keras hands them out: no cascade is trained here.
    kc.Cascade(keras_model, student_of()).save(file)
    with pytest.raises(ValueError, match="safe_mode=False"):
        keras.models.load_model(file)
    trusted = keras.models.load_model(file, safe_mode=False)
    np.testing.assert_allclose(
        trusted.teacher(NEW), softmax(NEW @ WEIGHTS), atol=1e-6
    )


def test_a_pytorch_module(folder):
    module = torch_module()
    cascade = trained(module)
    assert not module.training
    bundle = cascade.export(folder / "torch_bundle")
    assert bundle.manifest["remote_teacher"]["kind"] == "Torch"
    teacher = kc.teachers.Torch(module)
    with kc.runtime.EdgeCascade.load(bundle.path, teacher=teacher) as edge:
        check_device(edge, softmax(NEW @ WEIGHTS))


def test_channels_of_a_pytorch_module_come_first():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.Dropout(0.5),
        torch.nn.Flatten(),
        torch.nn.Linear(4 * 6 * 4, 5),
    )
    images = np.random.default_rng(0).random((7, 8, 6, 3), "float32")
    teacher = kc.teachers.Torch(module, channels_first=True)
    with torch.no_grad():
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(
        teacher.logits(images), expected.numpy(), atol=1e-6
    )
    assert teacher.identity() == kc.teachers.Torch(module, True).identity()


def test_a_scikit_learn_pipeline_on_arrays(folder):
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    pipeline.fit(*TRAIN)
    cascade = trained(pipeline)  # as it is
    expected = pipeline.predict_proba(NEW)
    results = cascade.judge(CALIBRATION)
    x, y = CALIBRATION
    assert (results.teacher_correct == (pipeline.predict(x) == y)).all()
    metrics = cascade.evaluate(
        x, y, allow_training_data=True, verbose=0, return_dict=True
    )
    assert metrics["teacher_accuracy"] == pytest.approx(
        pipeline.score(x, y), abs=1e-6
    )
    assert cascade.costs.unit == "teacher calls"
    assert metrics["amortized_cost"] == pytest.approx(
        metrics["delegation_rate"]
    )
    cache = kc.cache_teacher_logits(TRAIN, pipeline, folder / "cache")
    cascade.fit(*TRAIN, teacher_logits=cache, verbose=0)
    cascade.calibrate(CALIBRATION, kc.MaxDelegationRate(0.3))
    bundle = cascade.export(folder / "sklearn_bundle")
    teacher = kc.teachers.get(pipeline)
    with kc.runtime.EdgeCascade.load(bundle.path, teacher=teacher) as edge:
        prediction = edge.predict(NEW)
        cloud = prediction.source == "cloud"
        np.testing.assert_allclose(
            prediction.probabilities[cloud], expected[cloud], atol=1e-5
        )


def test_a_scikit_learn_pipeline_on_texts(folder):
    x, y = make_texts(240, seed=1)
    names = np.array(["card", "rate", "top"])
    # Trained on names, in an alphabetical order that is not the labels'.
    own = np.array(["z_card", "a_rate", "m_top"])
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10))
    pipeline.fit(x[:160], own[y[:160]])
    teacher = kc.teachers.SklearnPipeline(pipeline, classes=own)
    tokenizer = kc.text.train_tokenizer(x[:160])
    bag = kc.models.text_bag(tokenizer.vocabulary_size, classes=3)
    cascade = kc.Cascade(teacher, kc.text.TextModel(bag, tokenizer))
    cascade.compile(keras.optimizers.Adam(0.05))
    cascade.fit(x[:160], y[:160], epochs=2, verbose=0)
    results = cascade.judge((x[160:], y[160:]))
    right = pipeline.predict(list(x[160:])) == own[y[160:]]
    assert (results.teacher_correct == right).all()
    cascade.calibrate((x[160:], y[160:]), kc.MaxDelegationRate(0.5))
    with pytest.raises(ValueError, match="must have one order"):
        cascade.export(folder / "no", class_names=names)
    bundle = cascade.export(folder / "text_bundle")
    assert bundle.classes == own.tolist()
    with kc.runtime.EdgeCascade.load(bundle.path, teacher=teacher) as edge:
        prediction = edge.predict(x[160:])
        cloud = prediction.source == "cloud"
        assert cloud.any()
        shares = pipeline.predict_proba(list(x[160:]))[:, [2, 0, 1]]
        np.testing.assert_allclose(
            prediction.probabilities[cloud], shares[cloud], atol=1e-5
        )


def test_a_function_is_asked_about_each_example_once(folder):
    asked = []

    def teacher(x):
        asked.append(x)
        return x @ WEIGHTS

    cascade = trained(teacher, epochs=3)
    before = np.concatenate(asked)
    assert len(np.unique(before, axis=0)) == len(before)
    assert len(before) == 300 + 40 + 200
    bundle = cascade.export(folder / "function_bundle")
    assert sum(map(len, asked)) == len(before)
    assert "no bundle can hold" in (bundle.path / "README.md").read_text()
    for path in ("fused", "teacher.onnx"):
        arguments = (
            {"format": "tf_saved_model"}
            if path == "fused"
            else {"format": "onnx", "part": "teacher"}
        )
        with pytest.raises(ExportError, match="no Keras model"):
            cascade.export(folder / path, **arguments)
    with pytest.raises(ValueError, match=r"costs=Costs\("):
        kc.export.costs_from_latency(cascade, NEW, runs=1)


def test_a_teachers_own_error_is_raised_from_a_graph():
    failing = []

    def teacher(x):
        if failing:
            raise ValueError("the database is away")
        return x @ WEIGHTS

    cascade = trained(teacher)
    failing.append(True)
    with pytest.raises(ValueError, match=r"^the database is away$"):
        cascade.fit(*examples(64, seed=9), verbose=0)
    with pytest.raises(ValueError, match=r"^the database is away$"):
        cascade.evaluate(*examples(64, seed=10), verbose=0)
    with pytest.raises(ValueError, match=r"^the database is away$"):
        cascade.judge(examples(64, seed=11))


def test_saving_restores_files_and_asks_for_the_rest(folder, onnx_bundle):
    cascade, _ = onnx_bundle
    cascade.save(folder / "onnx.keras")
    loaded = keras.models.load_model(folder / "onnx.keras")
    for name, values in cascade.predict(NEW, verbose=0).items():
        np.testing.assert_array_equal(
            loaded.predict(NEW, verbose=0)[name], values
        )
    module = torch_module()
    cascade = trained(kc.teachers.Torch(module))
    cascade.save(folder / "torch.keras")
    loaded = keras.models.load_model(folder / "torch.keras")
    with pytest.raises(ValueError, match=r"Sequential.*cascade\.teacher = "):
        loaded.predict(NEW, verbose=0)
    loaded.teacher = kc.teachers.Torch(module)
    for name, values in cascade.predict(NEW, verbose=0).items():
        np.testing.assert_array_equal(
            loaded.predict(NEW, verbose=0)[name], values
        )
    loaded.fit(*TRAIN, verbose=0)


@pytest.mark.parametrize("change", ["altered", "gone"])
def test_a_file_that_changed_is_not_taken(tmp_path, change):
    file = write_onnx(tmp_path / "teacher.onnx")
    cascade = kc.Cascade(
        kc.teachers.Onnx(file, outputs="probabilities"), student_of()
    )
    cascade.predict(NEW, verbose=0)
    cascade.save(tmp_path / "cascade.keras")
    file.unlink()
    if change == "altered":
        write_onnx(file, name="other")
    loaded = keras.models.load_model(tmp_path / "cascade.keras")
    with pytest.raises(ValueError, match=r"teacher\.onnx.*Attach it again"):
        loaded.predict(NEW, verbose=0)

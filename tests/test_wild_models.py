"""Classifiers as their authors ship them, as teachers and students.

Each cascade is trained one step, calibrated, exported and asked on the device;
expected are the answers of the user's own models.
"""

import warnings

import keras
import numpy as np
from keras.src.applications import efficientnet

import keras_cascade as kc
from benchmarks.coverage.inputs import give_varied_answers, images
from keras_cascade.serving.loaded_teacher import LoadedTeacher
from keras_cascade.serving.server_metrics import ServerMetrics
from keras_cascade.serving.settings import Limits, Tokens
from keras_cascade.serving.teacher_service import TeacherService
from tests.helpers.http_server_thread import HttpServerThread
from tests.helpers.texts import make_bert, make_texts

HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
#: A first and a second kind of block of EfficientNetB0, once each.
BLOCKS = [dict(efficientnet.DEFAULT_BLOCKS_ARGS[i], repeats=1) for i in (0, 1)]


@keras.saving.register_keras_serializable("tests.wild")
class Subclassed(keras.Model):
    """A subclassed model that ends in a softmax."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(units, activation="relu")
        self.head = keras.layers.Dense(3)

    def call(self, inputs):
        return keras.ops.softmax(self.head(self.hidden(inputs)))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def dense(outputs, activation, seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(outputs, activation=activation),
        ]
    )


def points(classes):
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 6)).astype("float32"), np.arange(64) % classes


def two_columns(outputs, are_logits=False):
    """Probabilities of all classes, from a model's own outputs."""
    outputs = keras.ops.convert_to_numpy(outputs).astype("float64")
    if are_logits:
        outputs = 1 / (1 + np.exp(-outputs))
    if outputs.shape[1] == 1:
        return np.concatenate([1 - outputs, outputs], axis=1)
    return outputs


def check_end_to_end(teacher, student, x, y, own, folder, served=False):
    """Trains one step, calibrates, exports and asks the device.

    Args:
        teacher: the user's model.
        student: the user's model.
        x: inputs.
        y: labels in some form.
        own: function from inputs to the expected probabilities of the
            teacher, and of the student.
        folder: path to write to.
        served: bool. Asks the teacher over HTTP, not in this process.
    """
    before = own(x)
    weights = student.get_weights() if student.built else []
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.SGD(0.01))
    cascade.fit(x[:32], y[:32], batch_size=32, verbose=0)
    cascade.calibrate((x[32:], y[32:]), HALF)
    expected = own(x)
    np.testing.assert_allclose(expected[0], before[0], atol=1e-6)
    for old, new in zip(weights[-1:], student.get_weights()[-1:], strict=True):
        assert (old != new).any()
    bundle = cascade.export(folder / "bundle")
    if not served:
        edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
        compare(edge.predict(x), *expected)
        return

    def service():
        limits, metrics = Limits(), ServerMetrics()
        loaded = LoadedTeacher.load(bundle, limits, metrics)
        return TeacherService(loaded, limits, Tokens(), metrics)

    with HttpServerThread(service) as server:
        url = f"http://127.0.0.1:{server.port}/v1/models/teacher"
        with kc.runtime.EdgeCascade.load(bundle.path, teacher=url) as edge:
            compare(edge.predict(x), *expected)


def compare(answer, teacher, student):
    cloud = answer.source == "cloud"
    assert set(answer.source) == {"edge", "cloud"}
    np.testing.assert_allclose(
        answer.probabilities,
        np.where(cloud[:, None], teacher, student),
        atol=1e-4,
    )


def test_mobile_net_v2_and_efficient_net(tmp_path):
    """Both of `keras.applications`, with the softmax that they come with."""
    keras.utils.set_random_seed(1)
    teacher = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=3
    )
    student = efficientnet.EfficientNet(
        1.0, 1.0, 32, blocks_args=BLOCKS, weights=None, classes=3,
        input_shape=(32, 32, 3), weights_name="",
    )  # fmt: skip
    for model in (teacher, student):
        assert model.layers[-1].activation is keras.activations.softmax
        give_varied_answers(
            kc.models.logits_model(model), images(4, 128, 32, 0.0, 255.0)
        )
    x = images(1, 64, 32, 0.0, 255.0)

    def own(x):
        return [model.predict(x, verbose=0) for model in (teacher, student)]

    one_hot = np.eye(3)[np.arange(64) % 3]
    check_end_to_end(teacher, student, x, one_hot, own, tmp_path)


def test_efficient_net_b0_whole():
    model = keras.applications.EfficientNetB0(
        weights=None, classes=3, input_shape=(32, 32, 3)
    )
    config, nodes = model.get_config(), len(model.layers)
    logits = kc.models.logits_model(model)
    x = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3))
    np.testing.assert_allclose(
        keras.ops.softmax(logits(x)), model(x), atol=1e-6
    )
    assert logits.count_params() == model.count_params()
    assert model.get_config() == config
    assert len(model.layers) == nodes


def test_bert_classifier(tmp_path):
    """With a softmax, and the preprocessor that it brings; names as labels."""
    bert = make_bert(length=8, blocks=1, width=8, activation="softmax")
    assert bert.layers[-1].activation is keras.activations.softmax
    x, y = make_texts(64, seed=0)
    tokenizer = kc.text.train_tokenizer(x, vocabulary_size=200, lengths=8)
    bag = kc.models.text_bag(tokenizer.vocabulary_size, classes=3)
    student = kc.text.TextModel(
        keras.Sequential([bag, keras.layers.Softmax()]), tokenizer
    )
    student(x[:1])
    names = np.array(["card", "rate", "transfer"])
    cascade = kc.Cascade(bert, student)
    cascade.compile(keras.optimizers.SGD(0.01))
    cascade.fit(x, names[y], class_names=names, verbose=0)
    x_cal, y_cal = make_texts(64, seed=1)
    cascade.calibrate((x_cal, names[y_cal]), HALF)
    bundle = cascade.export(tmp_path / "bundle")
    assert bundle.classes == names.tolist()
    edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
    compare(
        edge.predict(x_cal),
        bert.predict(x_cal, verbose=0),
        keras.ops.convert_to_numpy(student(x_cal)),
    )


def test_h5_with_a_sigmoid_and_a_student_of_one_logit(tmp_path):
    dense(1, "sigmoid", 1).save(tmp_path / "teacher.h5")
    teacher = kc.models.load_model(tmp_path / "teacher.h5")
    student = dense(1, None, 2)

    def own(x):
        return (
            two_columns(teacher.predict(x, verbose=0)),
            two_columns(student.predict(x, verbose=0), are_logits=True),
        )

    check_end_to_end(teacher, student, *points(2), own, tmp_path, served=True)


def test_saved_model_and_a_student_with_a_sigmoid(tmp_path):
    dense(1, None, 1).export(tmp_path / "saved", verbose=False)
    teacher = kc.models.load_model(tmp_path / "saved")
    student = dense(1, "sigmoid", 2)

    def own(x):
        return (
            two_columns(teacher(x), are_logits=True),
            two_columns(student(x)),
        )

    x, y = points(2)
    y = y.astype("float32")[:, None]
    check_end_to_end(teacher, student, x, y, own, tmp_path, served=True)


def test_subclassed_softmax(tmp_path):
    """Logarithms of the probabilities stand in, said once for each model."""
    keras.utils.set_random_seed(0)
    teacher, student = Subclassed(8, name="big"), Subclassed(4, name="small")
    x, y = points(3)

    def own(x):
        return [two_columns(model(x)) for model in (teacher, student)]

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_end_to_end(teacher, student, x, y + 1, own, tmp_path, served=True)
    texts = [str(one.message) for one in said]
    for role, name in (("teacher", "big"), ("student", "small")):
        begin = f"The {role} '{name}' outputs probabilities, and no activation"
        assert sum(text.startswith(begin) for text in texts) == 1

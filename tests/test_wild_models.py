"""Classifiers as their authors ship them, as teachers and students.

Each cascade is trained one step, calibrated, exported, and its teacher served;
expected are the answers of the user's own models. Eight kinds of teachers and
students are here; teachers of ONNX, PyTorch, scikit-learn and an LLM are in
`tests/teachers`.
"""

import warnings

import keras
import numpy as np
from keras.src.applications import efficientnet

import keras_cascade as kc
from benchmarks.coverage.inputs import give_varied_answers, images
from tests.helpers.served_teacher import served
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


def check_end_to_end(teacher, student, x, y, own, folder, **fit_options):
    """Trains one step, calibrates, exports, and asks the served teacher.

    Args:
        teacher: the user's model.
        student: the user's model.
        x: inputs.
        y: labels in some form.
        own: function from inputs to the expected probabilities of the
            teacher, and of the student.
        folder: path to write to.
        fit_options: of `Cascade.fit`.

    Returns:
        The bundle.
    """
    before = own(x)
    weights = student.get_weights() if student.built else []
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.SGD(0.01))
    cascade.fit(x[:32], y[:32], batch_size=32, verbose=0, **fit_options)
    cascade.calibrate((x[32:], y[32:]), HALF)
    expected = own(x)
    np.testing.assert_allclose(expected[0], before[0], atol=1e-6)
    for old, new in zip(weights[-1:], student.get_weights()[-1:], strict=True):
        assert (old != new).any()
    bundle = cascade.export(folder / "bundle")
    # Keras's decisions, by the threshold that ships.
    point = bundle.operating_point()
    scores = cascade.predict(x, verbose=0)["score"]
    delegated = scores < np.float32(point["threshold"])
    assert 0 < delegated.sum() < len(x)

    with (
        served(bundle) as url,
        kc.runtime.EdgeCascade.load(
            bundle.path, teacher=url, teacher_identity="required"
        ) as edge,
    ):
        answer = edge.predict(x)
    assert answer.teacher_error is None
    np.testing.assert_array_equal(answer.source == "cloud", delegated)
    np.testing.assert_allclose(
        answer.probabilities[delegated], expected[0][delegated], atol=1e-5
    )
    np.testing.assert_allclose(
        answer.probabilities[~delegated], expected[1][~delegated], atol=1e-5
    )
    return bundle


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


def test_efficient_net_b0_and_a_student_of_mobile_net_v2(tmp_path):
    """Both whole, as `keras.applications` makes them."""
    keras.utils.set_random_seed(1)
    teacher = keras.applications.EfficientNetB0(
        weights=None, classes=3, input_shape=(32, 32, 3)
    )
    student = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=3
    )
    config, nodes = teacher.get_config(), len(teacher.layers)
    for model in (teacher, student):
        logits = kc.models.logits_model(model)
        assert logits.count_params() == model.count_params()
        give_varied_answers(logits, images(4, 48, 32, 0.0, 255.0))
    x = images(1, 64, 32, 0.0, 255.0)

    def own(x):
        return [model.predict(x, verbose=0) for model in (teacher, student)]

    check_end_to_end(teacher, student, x, np.arange(64) % 3, own, tmp_path)
    assert teacher.get_config() == config
    assert len(teacher.layers) == nodes


def test_bert_classifiers(tmp_path):
    """With a softmax, and the preprocessor that they bring; names as labels."""
    keras.utils.set_random_seed(3)
    teacher, student = (
        make_bert(length=8, blocks=1, width=8, activation="softmax")
        for _ in range(2)
    )
    assert teacher.layers[-1].activation is keras.activations.softmax
    x, y = make_texts(64, seed=0)
    names = np.array(["card", "rate", "transfer"])

    def own(x):
        return [model.predict(x, verbose=0) for model in (teacher, student)]

    bundle = check_end_to_end(
        teacher, student, x, names[y], own, tmp_path, class_names=names
    )
    assert bundle.classes == names.tolist()


def test_h5_with_a_sigmoid_and_a_student_of_one_logit(tmp_path):
    dense(1, "sigmoid", 1).save(tmp_path / "teacher.h5")
    teacher = kc.models.load_model(tmp_path / "teacher.h5")
    student = dense(1, None, 2)

    def own(x):
        return (
            two_columns(teacher.predict(x, verbose=0)),
            two_columns(student.predict(x, verbose=0), are_logits=True),
        )

    check_end_to_end(teacher, student, *points(2), own, tmp_path)


def test_a_sigmoid_and_a_student_of_an_h5_file(tmp_path):
    teacher = dense(1, "sigmoid", 1)
    dense(2, "softmax", 2).save(tmp_path / "student.h5")
    student = kc.models.load_model(tmp_path / "student.h5")

    def own(x):
        return two_columns(teacher(x)), two_columns(student(x))

    check_end_to_end(teacher, student, *points(2), own, tmp_path)


def test_one_logit_and_a_student_of_a_saved_model(tmp_path):
    """The variables of the SavedModel are trained."""
    teacher = dense(1, None, 1)
    dense(1, None, 2).export(tmp_path / "saved", verbose=False)
    student = kc.models.load_model(tmp_path / "saved")

    def own(x):
        return [
            two_columns(model(x), are_logits=True)
            for model in (teacher, student)
        ]

    check_end_to_end(teacher, student, *points(2), own, tmp_path)


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
    check_end_to_end(teacher, student, x, y, own, tmp_path)


def test_subclassed_softmax(tmp_path):
    """Logarithms of the probabilities stand in, said once for each model."""
    keras.utils.set_random_seed(0)
    teacher, student = Subclassed(8, name="big"), Subclassed(4, name="small")
    x, y = points(3)

    def own(x):
        return [two_columns(model(x)) for model in (teacher, student)]

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_end_to_end(teacher, student, x, y + 1, own, tmp_path)
    texts = [str(one.message) for one in said]
    for role, name in (("teacher", "big"), ("student", "small")):
        begin = f"The {role} '{name}' outputs probabilities, and no activation"
        assert sum(text.startswith(begin) for text in texts) == 1

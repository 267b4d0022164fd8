"""Classifiers of one logit z: everything is as with the two logits (0, z)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_cascade as kc
from keras_cascade.export.optimization.student_graph import StudentGraph

CLOSE = {"rtol": 1e-6, "atol": 1e-6}
HALF = kc.MaxDelegationRate(0.5, tolerance=1.0)
POLICIES = {
    "standard": kc.distillation.StandardDistillation(
        temperature=2.0, student_loss_weight=0.3
    ),
    "margin": kc.distillation.MarginDistillation(
        threshold=0.2, label_smoothing=0.4
    ),
    "class_specific": kc.distillation.ClassSpecificDistillation(
        in_domain_classes=[1], label_smoothing=0.4
    ),
    "cascade_aware": kc.distillation.CascadeAwareDistillation(),
    "gatekeeper": kc.distillation.Gatekeeper(alpha=0.7),
}
GATES = {
    "margin": lambda: kc.gates.MarginGate(temperature=2.0),
    "max_probability": kc.gates.MaxProbabilityGate,
    "entropy": kc.gates.EntropyGate,
    "energy": kc.gates.EnergyGate,
    "class": lambda: kc.gates.ClassGate(in_domain_classes=[1]),
}


def labelled(rows, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 6)).astype("float32")
    return x, (x[:, 0] + rng.normal(size=rows) > 0).astype("int32")


def one_logit(seed, activation=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(
                1, activation=activation, bias_initializer="ones"
            ),
        ]
    )


def twin(model):
    """The same model with the two logits (0, z)."""
    two = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(2),
        ]
    )
    *hidden, kernel, bias = model.get_weights()
    two.set_weights(
        [
            *hidden,
            np.concatenate([np.zeros_like(kernel), kernel], axis=1),
            np.concatenate([np.zeros_like(bias), bias]),
        ]
    )
    return two


def pair(distillation="standard", gates=("margin", "margin"), activation=None):
    """A cascade of two models with one logit, and its twin."""
    teacher, student = one_logit(1, activation), one_logit(2, activation)
    return [
        kc.Cascade(teacher, student, distillation, gates[0]),
        kc.Cascade(twin(teacher), twin(student), distillation, gates[1]),
    ]


@pytest.mark.parametrize("name", POLICIES)
def test_loss_and_gradient(name):
    x, y = labelled(64, 3)
    losses, gradients = [], []
    for cascade in pair(POLICIES[name], activation="sigmoid"):
        cascade.prepare(x)
        with tf.GradientTape() as tape:
            loss = cascade.compute_loss(x, y, cascade(x, training=True))
        losses.append(float(loss))
        weights = [one.value for one in cascade.trainable_variables]
        gradients.append([one.numpy() for one in tape.gradient(loss, weights)])
    np.testing.assert_allclose(*losses, **CLOSE)
    # Of the last layer the second column is that of z.
    *hidden, kernel, bias = gradients[1]
    expected = [*hidden, kernel[:, 1:], bias[1:]]
    assert max(np.abs(one).max() for one in expected) > 1e-3
    for found, other in zip(gradients[0], expected, strict=True):
        np.testing.assert_allclose(found, other, **CLOSE)


@pytest.mark.parametrize("name", GATES)
def test_scores_metrics_and_thresholds(name):
    x, y = labelled(200, 4)
    points, scores, metrics, answers = [], [], [], []
    for cascade in pair(gates=[GATES[name](), GATES[name]()]):
        cascade.compile()
        points.append(cascade.calibrate((x, y), HALF))
        scores.append(cascade.scores(x))
        answers.append(cascade.predict(x, verbose=0))
        metrics.append(
            cascade.evaluate(
                x, y, verbose=0, return_dict=True, allow_training_data=True
            )
        )
        assert cascade.classes == 2
    np.testing.assert_allclose(*scores, **CLOSE)
    np.testing.assert_allclose(*[one.threshold for one in points], **CLOSE)
    # With the binary entropy and the margin, z and -z are equally sure.
    assert len(np.unique(scores[0])) > 150
    assert 0 < answers[0]["delegated"].sum() < 200
    np.testing.assert_array_equal(*[one["delegated"] for one in answers])
    np.testing.assert_allclose(
        *[one["probabilities"] for one in answers], **CLOSE
    )
    for key in ("loss", "cascade_accuracy", "teacher_accuracy"):
        np.testing.assert_allclose(*[one[key] for one in metrics], **CLOSE)


@pytest.fixture(scope="module")
def learned():
    """A cascade with a fitted learned gate, and its twin with a copy of it.

    Two fits of one gate differ by rounding: both have the same one.
    """
    one, two = pair(gates=["learned", "learned"], activation="sigmoid")
    one.fit_gate(labelled(300, 5))
    two.prepare(labelled(8, 5)[0])
    two.gate.set_weights(one.gate.get_weights())
    for cascade in (one, two):
        cascade.calibrate(labelled(200, 6), HALF)
    return one, two


def test_exported_bundles_decide_alike(learned, tmp_path):
    x, _ = labelled(100, 7)
    answers = []
    for number, cascade in enumerate(learned):
        bundle = cascade.export(tmp_path / str(number))
        assert bundle.classes == ["0", "1"]
        edge = kc.runtime.EdgeCascade.load(bundle.path, teacher="local")
        point = bundle.manifest["operating_points"][0]
        answers.append((edge.predict(x), point["threshold"]))
    (one, first), (two, second) = answers
    np.testing.assert_allclose(first, second, **CLOSE)
    np.testing.assert_allclose(one.score, two.score, **CLOSE)
    assert set(one.source) == {"edge", "cloud"}
    np.testing.assert_array_equal(one.source, two.source)
    assert one.probabilities.shape == (100, 2)
    np.testing.assert_allclose(one.probabilities, two.probabilities, **CLOSE)
    # Probabilities of class 1 are those of the user's own models.
    teacher = learned[0].teacher.model.predict(x, verbose=0)[:, 0]
    cloud = one.source == "cloud"
    np.testing.assert_allclose(
        one.probabilities[cloud, 1], teacher[cloud], atol=1e-5
    )


def test_other_formats(learned, tmp_path):
    """Each is compared with Keras as it is written."""
    cascade, _ = learned
    x, _ = labelled(16, 8)
    student = 1 - 1 / (1 + np.exp(cascade.student(x).numpy()[:, 1]))
    cascade.export(tmp_path / "s.tflite", "litert", example_inputs=x)
    shipped = kc.runtime.StudentInterpreter(tmp_path / "s.tflite")
    found = shipped.run({"input": x})["probabilities"]
    np.testing.assert_allclose(found[:, 1], student, atol=1e-5)
    cascade.export(tmp_path / "s.onnx", "onnx", example_inputs=x)
    cascade.export(tmp_path / "fused", "tf_saved_model", example_inputs=x)
    fused = tf.saved_model.load(tmp_path / "fused").signatures
    logits = fused["teacher"](tf.constant(x))["logits"].numpy()
    np.testing.assert_array_equal(logits[:, 0], 0.0)
    own = cascade.teacher.model(x).numpy()[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-logits[:, 1])), own, atol=1e-6)


@pytest.mark.parametrize("one", ["teacher", "student"])
def test_one_logit_and_two_in_a_cascade(one):
    x, y = labelled(64, 9)
    models = {"teacher": one_logit(1), "student": one_logit(2)}
    expected = kc.Cascade(*[twin(model) for model in models.values()])
    other = "student" if one == "teacher" else "teacher"
    models[other] = twin(models[other])
    cascade = kc.Cascade(models["teacher"], models["student"])
    for made in (cascade, expected):
        made.compile(keras.optimizers.SGD(0.1))
    found, wanted = (
        made.evaluate(x, y, verbose=0, return_dict=True)
        for made in (cascade, expected)
    )
    # Counted operations are those of one output.
    del found["amortized_cost"], wanted["amortized_cost"]
    assert found == pytest.approx(wanted, abs=1e-6)
    cascade.fit(x, y, verbose=0)
    # The user's own model was trained.
    assert (
        models["student"].get_weights()[0] != one_logit(2).get_weights()[0]
    ).any()


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y.astype("float32")[:, None],
        lambda y: y.astype(bool),
        lambda y: np.eye(2)[y],
        lambda y: y + 1,
        lambda y: np.array(["no", "yes"])[y],
    ],
    ids=["column", "bool", "one_hot", "from_1", "names"],
)
def test_labels_in_every_form(form):
    x, y = labelled(64, 10)
    names = ["no", "yes"]
    cascade, _ = pair()
    expected = cascade.judge((x, y)).labels
    found = pair()[0].judge((x, form(y)), class_names=names).labels
    np.testing.assert_array_equal(found, expected)


def test_optimization_rebuilds_the_zero_as_a_dense_layer():
    x, _ = labelled(8, 11)
    cascade, _ = pair(activation="sigmoid")
    step = StudentGraph(cascade.student, x, ()).steps[-1]
    assert (step.class_name, step.inputs) == ("Dense", [step.inputs[0]])
    z = np.array([[2.0], [-3.0]])
    np.testing.assert_array_equal(z @ step.weights[0], [[0, 2], [0, -3]])


def test_a_softmax_of_one_output_is_refused():
    with pytest.raises(ValueError, match="softmax over one output, which is 1"):
        kc.Cascade(one_logit(1, "softmax"), one_logit(2))


def test_a_sigmoid_of_several_outputs_is_said():
    several = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(3, activation="sigmoid")]
    )
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    with pytest.warns(UserWarning, match="one class per example"):
        cascade = kc.Cascade(several, student)
    x, _ = labelled(8, 12)
    own = several(x).numpy()
    np.testing.assert_allclose(
        cascade.teacher(x).numpy(), np.log(own / (1 - own)), atol=1e-5
    )

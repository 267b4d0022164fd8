"""The contract of teachers that are no Keras model."""

import keras
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

import keras_cascade as kc
from keras_cascade.errors import TeacherError
from keras_cascade.teachers.memory import AnswerMemory
from keras_cascade.teachers.teacher_model import TeacherModel
from tests.helpers.linear_teachers import (
    WEIGHTS,
    examples,
    softmax,
    torch_module,
    write_onnx,
    write_saved_model,
)

X, Y = examples(60, seed=0)


def test_probabilities_become_clipped_logarithms():
    teacher = kc.teachers.Callable(
        lambda x: np.array([[0.25, 0.75], [0.0, 1.0]]),
        outputs="probabilities",
        clip=1e-3,
    )
    np.testing.assert_allclose(
        teacher.logits(np.zeros((2, 1))),
        np.log([[0.25, 0.75], [1e-3, 1.0]]),
        rtol=1e-6,
    )


def test_one_column_is_a_binary_classifier():
    scores = np.array([-2.0, 0.5])
    for values in (scores, scores[:, None]):
        teacher = kc.teachers.Callable(lambda x, v=values: v)
        assert teacher.logits(np.zeros((2, 1))).tolist() == [
            [0.0, -2.0], [0.0, 0.5],
        ]  # fmt: skip
    teacher = kc.teachers.Callable(
        lambda x: np.array([0.2]), outputs="probabilities"
    )
    np.testing.assert_allclose(
        np.exp(teacher.logits(np.zeros((1, 1)))), [[0.8, 0.2]], rtol=1e-6
    )


@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"]])
def test_a_binary_decision_function(labels):
    y = np.array(labels)[(X[:, 0] > 0).astype(int)]
    model = LinearSVC().fit(X, y)
    teacher = kc.teachers.SklearnPipeline(model)
    assert teacher.outputs == "logits"
    expected = model.decision_function(X)
    logits = teacher.logits(X)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, rtol=1e-5)
    reversed_ = kc.teachers.SklearnPipeline(
        model, classes=[str(one) for one in labels[::-1]]
    )
    logits = reversed_.logits(X)
    np.testing.assert_allclose(logits[:, 0] - logits[:, 1], expected, rtol=1e-5)


def test_classes_are_compared_by_name():
    model = LogisticRegression().fit(X, np.array(["b", "a", "c"])[Y])
    teacher = kc.teachers.SklearnPipeline(model, classes=["b", "a", "c"])
    np.testing.assert_allclose(
        np.exp(teacher.logits(X)),
        model.predict_proba(X)[:, [1, 0, 2]],
        rtol=1e-4,
    )
    assert kc.teachers.SklearnPipeline(model).class_names == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"one of \['a', 'b', 'c'\]"):
        kc.teachers.SklearnPipeline(model, classes=["b", "a", "d"])
    model = LogisticRegression().fit(X, Y + 1)
    with pytest.raises(ValueError, match="Pass `classes=`"):
        kc.teachers.SklearnPipeline(model)


@pytest.mark.parametrize(
    "answer, message",
    [
        (np.zeros((2, 3)), "one row of answers per example, 5"),
        (np.full((5, 3), np.inf), "finite answers"),
        ([["a"]] * 5, "numbers of shape"),
        (np.zeros((5, 2, 2)), "numbers of shape"),
        (np.full((5, 4), 0.25), "outputs='probabilities'"),
    ],
)
def test_bad_answers(answer, message):
    with pytest.raises(ValueError, match=message):
        kc.teachers.Callable(lambda x: answer).logits(np.zeros((5, 1)))


def test_logits_where_probabilities_are_expected():
    teacher = kc.teachers.Callable(lambda x: x, outputs="probabilities")
    with pytest.raises(ValueError, match="Pass outputs='logits'"):
        teacher.logits(np.array([[3.0, -1.0]]))


@pytest.mark.parametrize("options", [{"outputs": "scores"}, {"clip": 0.0}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=f"Expected `{next(iter(options))}`"):
        kc.teachers.Callable(len, **options)


def test_what_get_takes(tmp_path):
    onnx = write_onnx(tmp_path / "teacher.onnx")
    saved = write_saved_model(tmp_path / "saved_model")
    model = LogisticRegression().fit(X, Y)

    class WithLogits:
        def logits(self, inputs):
            return inputs @ WEIGHTS

    kinds = {
        "Onnx": onnx,
        "SavedModel": saved,
        "SklearnPipeline": model,
        "Callable": WithLogits(),
    }
    for kind, identifier in kinds.items():
        teacher = kc.teachers.get(identifier)
        assert type(teacher).__name__ == kind
        assert kc.teachers.get(teacher) is teacher
    with pytest.raises(ValueError, match=r"teachers\.Url"):
        kc.teachers.get("http://127.0.0.1:8501")
    with pytest.raises(ValueError, match="Received: int"):
        kc.Cascade(3, keras.Sequential([keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"saved_model\.pb"):
        kc.teachers.get(tmp_path / "nothing")


def test_files_that_are_no_model(tmp_path):
    file = tmp_path / "teacher.onnx"
    file.write_bytes(b"no model")
    with pytest.raises(TeacherError, match="Expected an ONNX file"):
        kc.teachers.Onnx(file)
    write_onnx(file)
    with pytest.raises(TeacherError, match=r"`output` out of \['shares'\]"):
        kc.teachers.Onnx(file, output="logits")
    with pytest.raises(ValueError, match="outputs='probabilities'"):
        kc.teachers.Onnx(file).logits(X)
    with pytest.raises(TeacherError, match="refuses inputs of shapes"):
        kc.teachers.Onnx(file).logits(X[:, :2])
    with pytest.raises(TeacherError, match=r"inputs \['features'\]"):
        kc.teachers.Onnx(file).logits({"a": X, "b": X})
    saved = write_saved_model(tmp_path / "saved_model")
    with pytest.raises(ValueError, match="Expected `signature` out of"):
        kc.teachers.SavedModel(saved, signature="none")
    with pytest.raises(ValueError, match=r"`output` out of \['shares'\]"):
        kc.teachers.SavedModel(saved, output="none")


def test_identities_tell_teachers_apart(tmp_path):
    onnx = write_onnx(tmp_path / "teacher.onnx")
    one = LogisticRegression().fit(X, Y)
    other = LogisticRegression(C=0.1).fit(X, Y)
    teachers = [
        kc.teachers.Onnx(onnx),
        kc.teachers.Onnx(onnx, outputs="probabilities"),
        kc.teachers.SklearnPipeline(one),
        kc.teachers.SklearnPipeline(other),
        kc.teachers.Torch(torch_module()),
        kc.teachers.Torch(torch_module(2 * WEIGHTS)),
        kc.teachers.Callable(lambda x: x),
        kc.teachers.Callable(lambda x: x + 1),
        kc.teachers.Callable(lambda x: x, name="first"),
        kc.teachers.Callable(lambda x: x, name="second"),
    ]
    identities = [teacher.identity() for teacher in teachers]
    assert len(set(identities)) == len(teachers)
    assert identities == [teacher.identity() for teacher in teachers]


def test_a_cache_is_of_one_teacher(tmp_path):
    one, other = (LogisticRegression(C=c).fit(X, Y) for c in (1.0, 0.1))
    cache = kc.cache_teacher_logits((X, Y), one, tmp_path / "cache")
    expected = one.predict_proba(X)
    np.testing.assert_allclose(cache.probabilities(X), expected, atol=5e-3)
    with pytest.raises(ValueError, match="by a teacher with other weights"):
        kc.cache_teacher_logits((X, Y), other, tmp_path / "cache")


def test_the_memory_is_bounded_and_drops_the_oldest():
    memory = AnswerMemory(limit=3 * 8)
    memory.add([1, 2], np.zeros((2, 2), "float32"))
    memory.add([3, 4], np.ones((2, 2), "float32"))
    found = memory.find([1, 2, 3, 4])
    assert found[0] is None
    assert all(one is not None for one in found[1:])


def test_rows_that_repeat_are_asked_once_and_answered_each():
    asked = []

    def teacher(x):
        asked.append(len(x))
        return x @ WEIGHTS

    model = TeacherModel(kc.teachers.get(teacher))
    x = X[[0, 1, 0, 2, 1]]
    np.testing.assert_allclose(model.numpy_logits(x), x @ WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose(
        model.numpy_logits(X[[3, 0]].astype("float64")), X[[3, 0]] @ WEIGHTS,
        rtol=1e-5,
    )  # fmt: skip
    assert asked == [3, 1]


def test_another_number_of_classes_is_refused():
    widths = iter([3, 2])
    model = TeacherModel(
        kc.teachers.get(lambda x: np.zeros((len(x), next(widths))))
    )
    model.numpy_logits(X[:2])
    with pytest.raises(ValueError, match="answers over 3 classes"):
        model.numpy_logits(X[2:4])


def test_weights_of_a_keras_model_are_no_part_of_it():
    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    cascade = kc.Cascade(lambda x: x @ WEIGHTS, student)
    assert not cascade.teacher.variables
    with pytest.raises(ValueError, match="layers can be reached"):
        policy = kc.distillation.StandardDistillation()
        policy.teacher_layers = ("dense",)
        cascade.distillation = policy
        cascade(X)


def test_a_label_stands_for_a_missing_answer_among_the_k_largest():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4, 6)).astype("float32")
    x, y = X[:32], rng.integers(0, 6, 32)
    missing = np.arange(32) % 3 == 0
    unanswered = {row.tobytes() for row in x[missing]}

    def teacher(batch):
        logits = batch @ weights
        logits[[row.tobytes() in unanswered for row in batch]] = np.nan
        return logits

    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6)])
    cascade = kc.Cascade(teacher, student)
    cascade.compile("sgd")
    cache = kc.cache_teacher_logits(x, teacher, dtype="float32", top_k=2)
    outputs = student.predict(x, verbose=0).astype("float64")
    shares = softmax(x @ weights)
    target = np.empty_like(shares)
    for row, own in enumerate(shares):
        best = own.argsort()[-2:]
        target[row] = (1 - own[best].sum()) / 4
        target[row, best] = own[best]
    target[missing] = np.eye(6)[y[missing]]
    expected = -(target * np.log(softmax(outputs))).sum(axis=1).mean()
    history = cascade.fit(
        x, y, batch_size=32, verbose=0, teacher_logits=cache
    ).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-5)
    results = cascade.judge((x, y), teacher_logits=cache)
    np.testing.assert_array_equal(results.teacher_labels == -1, missing)

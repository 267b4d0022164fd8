"""Tasks by name, dict and object; what is refused, and with which words."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from tests.helpers.pixel_task import Pixels
from tests.helpers.trained_task_cascades import TASKS, cascade, labelled, models

MultiLabel, Regression = kc.tasks.MultiLabel, kc.tasks.Regression
ALL = [
    kc.tasks.Binary(),
    kc.tasks.MultiClass(),
    MultiLabel("false_negatives", "mean"),
    Regression(tolerance=0.5),
    Regression(bound=2.0, spread="quantiles", coverage=0.5),
    Pixels(0.2),
]


@pytest.mark.parametrize("task", ALL, ids=repr)
def test_tasks_survive_their_files(task):
    config = json.loads(json.dumps(kc.tasks.serialize(task)))
    for again in (kc.tasks.deserialize(config), kc.tasks.get(config)):
        assert again == task
        assert hash(again) == hash(task)
        assert repr(again) == repr(task)
        assert type(again) is type(task)
    assert kc.tasks.get(task) is task
    gate = kc.tasks.TaskGate(task, threshold=0.3)
    again = kc.gates.deserialize(kc.gates.serialize(gate))
    assert (again.task, again.threshold) == (task, gate.threshold)
    policy = kc.tasks.TaskDistillation(task, 2.0, 0.25)
    again = kc.distillation.deserialize(kc.distillation.serialize(policy))
    assert again.get_config() == policy.get_config()
    assert again.task == task


def test_tasks_by_name():
    assert kc.tasks.get(None) == kc.tasks.MultiClass()
    assert kc.tasks.get("multiclass") == kc.tasks.MultiClass()
    assert kc.tasks.get("binary") == kc.tasks.Binary()
    assert kc.tasks.get("multilabel") == MultiLabel()
    short = {"class_name": "multilabel", "config": {"loss": "example"}}
    assert kc.tasks.get(short) == MultiLabel("example")
    assert MultiLabel() != MultiLabel("example")
    assert kc.tasks.Binary() != kc.tasks.MultiClass()
    assert Regression(tolerance=1.0) != Regression(bound=1.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: kc.tasks.get("multi"), "multilabel"),
        (lambda: kc.tasks.get("regression"), "tolerance"),
        (lambda: MultiLabel("accuracy"), "`loss` out of"),
        (lambda: MultiLabel(aggregate="max"), "`aggregate` out of"),
        (Regression, "either `tolerance` or `bound`"),
        (lambda: Regression(1.0, 1.0), "either `tolerance` or `bound`"),
        (lambda: Regression(tolerance=0), "above 0"),
        (lambda: Regression(bound=-1.0), "above 0"),
        (lambda: Regression(bound=float("nan")), "above 0"),
        (lambda: Regression(bound=float("inf")), "above 0"),
        (lambda: Regression(1.0, spread="laplace"), "Received: 'laplace'"),
        (lambda: Regression(1.0, coverage=1.0), "between 0 and 1"),
        (lambda: kc.tasks.TaskDistillation("multilabel", 0.0), "temperature"),
        (
            lambda: kc.tasks.TaskDistillation(
                "multilabel", student_loss_weight=1.5
            ),
            "student_loss_weight",
        ),
    ],
)
def test_arguments_that_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("task", "shapes", "words"),
    [
        (MultiLabel(), [(None, 2, 3), (None, 2, 3)], r"\(batch, labels\)"),
        (MultiLabel(), [(None, 3), (None, 4)], "same shape"),
        (Regression(1.0), [(None, 2, 2), (None, 4)], r"\(batch, values\)"),
        (Regression(1.0), [(None, 2), (None, 2)], r"`Dense\(4\)`"),
        (
            Regression(1.0, spread="quantiles"),
            [(None, 1), (None, 1)],
            "a low quantile and a high quantile",
        ),
        (Pixels(), [(None, 4, 4, 2), (None, 2, 2, 2)], "same shape"),
    ],
)
def test_models_that_do_not_belong_together(task, shapes, words):
    with pytest.raises(ValueError, match=words):
        task.check_shapes(*shapes)


@pytest.mark.parametrize(
    ("task", "labels", "words"),
    [
        (MultiLabel(), None, "inputs only"),
        (MultiLabel(), np.array([["a", "b", "c"]]), "numbers"),
        (MultiLabel(), np.array([[0.0, np.nan, 1.0]]), "1 of 1 examples"),
        (MultiLabel(), np.zeros((2, 4)), r"shape \(batch, 3\).*\(2, 4\)"),
        (MultiLabel(), np.zeros(3), "MultiLabelBinarizer"),
        (MultiLabel(), np.array([[0, 1, 2]]), r"values such as \[2\]"),
        (Regression(1.0), np.zeros((5, 2)), r"shape \(batch, 3\).*\(5, 2\)"),
        (Regression(1.0), np.zeros(5), "as the teacher's"),
        (Regression(1.0), np.full((5, 3), np.inf), "NaN or infinity"),
        (kc.tasks.MultiClass(), np.array([0, 3]), "3"),
        (Pixels(), None, "inputs only"),
    ],
)
def test_labels_that_are_refused(task, labels, words):
    with pytest.raises(ValueError, match=words):
        task.check_labels(labels, 3)


def test_labels_that_are_taken():
    MultiLabel().check_labels(np.array([[True, False, True]]), 3)
    MultiLabel().check_labels(np.array([[0.0, 1.0, 1.0]]), 3)
    Regression(1.0).check_labels(np.arange(4), 1)
    Regression(1.0).check_labels(np.zeros((4, 1)), 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"distillation": "margin"}, "distillation='standard'"),
        (
            {"distillation": kc.tasks.TaskDistillation("multilabel")},
            "distillation='standard'",
        ),
        ({"gate": "max_probability"}, "Expected no `gate`"),
        ({"gate": kc.gates.MarginGate()}, "Expected no `gate`"),
        ({"gate": kc.tasks.TaskGate("multilabel")}, "of the same task"),
    ],
)
def test_policies_and_gates_of_classes_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        kc.Cascade(
            *models("multilabel"), task=MultiLabel("example"), **arguments
        )


def test_what_is_about_classes_is_refused():
    made = cascade("multilabel")
    x, y = labelled("multilabel", 16)
    mix = kc.TrafficMix(example_weights=np.ones(16))
    for use, name in (
        (lambda: made.fit(x, y, class_weight={0: 1.0}), "class_weight"),
        (lambda: made.fit(x, y, traffic=mix), "traffic"),
        (lambda: made.evaluate(x, y, traffic=mix), "traffic"),
        (lambda: made.judge((x, y), traffic=mix), "traffic"),
        (
            lambda: made.calibrate(
                (x, y), kc.MaxDelegationRate(0.5), traffic=mix
            ),
            "traffic",
        ),
        (
            lambda: made.calibrate(
                (x, y), kc.MaxDelegationRate(0.5), per_class=True
            ),
            "per_class",
        ),
    ):
        with pytest.raises(ValueError, match=f"Expected no `{name}`"):
            use()
    for use in (made.fit_gate, made.fit_temperature):
        with pytest.raises(
            ValueError, match="Calibrate it as it is, or override `score`"
        ):
            use((x, y))
    with pytest.raises(ValueError, match="Received none for `labels`"):
        made.calibrate((x, y), kc.MinRecall(1, 0.5))


def test_models_and_labels_of_another_task():
    teacher, student = models("multilabel")
    with pytest.raises(ValueError, match="a student with 6 outputs"):
        kc.Cascade(teacher, student, task=TASKS["regression"])
    with pytest.raises(ValueError, match="two classes with task='binary'"):
        kc.Cascade(teacher, student, task="binary")
    with pytest.raises(ValueError, match="fits the task"):
        kc.Cascade(lambda x: x, student, task="multilabel")
    made = kc.Cascade(teacher, student, task="multilabel")
    made.compile()
    x, y = labelled("multilabel", 16)
    for call in (made.evaluate, made.fit, made.train_on_batch):
        with pytest.raises(ValueError, match="0 or 1 for each label"):
            call(x, y[:, 0])
        with pytest.raises(ValueError, match="0 or 1 for each label"):
            call(x, y + 1)
    with pytest.raises(ValueError, match="inputs only"):
        made.judge(x)


def test_probabilities_that_nothing_can_be_read_before():
    class Ending(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, inputs):
            return keras.ops.sigmoid(self.dense(inputs))

    made = kc.Cascade(Ending(), models("multilabel")[1], task="multilabel")
    made.compile()
    with pytest.raises(ValueError, match="End the model in its logits"):
        made.evaluate(*labelled("multilabel", 64))


def test_a_loss_that_is_not_bounded_is_refused():
    class Unbounded(Pixels):
        def loss(self, labels, answers):
            return 3.0 * keras.ops.ones_like(answers[:, 0, 0, 0])

    made = cascade("pixels", task=Unbounded())
    with pytest.raises(ValueError, match=r"loss to be in \[0, 1\].*3"):
        made.judge(labelled("pixels", 16))


def test_the_base_class_names_what_is_missing():
    task = kc.tasks.Task()
    for name, arguments in (
        ("label_loss", (0, 0)),
        ("distillation_loss", (0, 0, 1.0)),
        ("score", (0,)),
        ("loss", (0, 0)),
    ):
        with pytest.raises(NotImplementedError, match=f"Task.{name}"):
            getattr(task, name)(*arguments)
    assert task.answer_name == "values"
    assert MultiLabel().answer_name == "probabilities"

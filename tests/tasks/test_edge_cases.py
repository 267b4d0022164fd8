"""Answers that are no numbers, other shapes and forms, and compiling again."""

import keras
import numpy as np
import pytest

import keras_cascade as kc
from tests.helpers import trained_task_cascades
from tests.helpers.trained_task_cascades import labelled, models


class Halves(kc.tasks.MultiLabel):
    """Says that its loss is 0 or 1, and it is a fraction."""

    def __init__(self):
        super().__init__("hamming")
        self.zero_one_loss = True


@pytest.mark.parametrize(
    "task",
    [
        kc.tasks.MultiLabel(),
        kc.tasks.MultiLabel("false_negatives"),
        kc.tasks.MultiLabel("example"),
        kc.tasks.Regression(tolerance=0.5),
        kc.tasks.Regression(bound=0.5),
    ],
    ids=repr,
)
def test_an_answer_that_is_no_number_has_quality_0(task):
    answers = np.array([[0.0, 0.0], [np.nan, 0.0], [0.0, np.nan]], "float32")
    quality = task.quality(np.zeros((3, 2)), answers)
    np.testing.assert_array_equal(quality, [1.0, 0.0, 0.0])


@pytest.mark.parametrize("kind", ["hamming", "regression"])
def test_metrics_of_weights_that_are_no_numbers(kind):
    made = trained_task_cascades.cascade(kind)
    x, y = labelled(kind, 64, seed=3)
    made.evaluate(x, y, verbose=0)
    made.student.set_weights(
        [np.full_like(weight, np.nan) for weight in made.student.get_weights()]
    )
    results = made.evaluate(x, y, verbose=0, return_dict=True)
    assert results["student_accuracy"] == 0.0


def test_a_loss_that_is_a_fraction_is_not_rounded():
    labels = np.random.default_rng(0).integers(0, 2, (50, 3))
    teacher, student = models("hamming")
    made = kc.Cascade(teacher, student, task=Halves())
    made.compile()
    x, _ = labelled("hamming", 50)
    with pytest.raises(ValueError, match="`zero_one_loss`"):
        made.judge((x, labels))


@pytest.mark.parametrize("last", ["subclassed", "dropout"])
def test_probabilities_of_rare_labels_are_no_logits(last):
    class Rare(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(
                4, "sigmoid", bias_initializer=keras.initializers.Constant(-3)
            )

        def call(self, inputs):
            return 0.4 * self.head(inputs)

    teacher = Rare()
    if last == "dropout":
        inputs = keras.Input((6,))
        teacher = keras.Model(inputs, keras.layers.Dropout(0.1)(Rare()(inputs)))
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    made = kc.Cascade(teacher, student, task="multilabel")
    made.compile()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    with pytest.raises(ValueError, match="Received probabilities"):
        made.fit(x, np.zeros((64, 4)), verbose=0)


def test_labels_as_a_column_and_flat_by_turns():
    teacher = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1)])
    student = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
    made = kc.Cascade(teacher, student, task=kc.tasks.Regression(tolerance=0.5))
    made.compile()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    y = x[:, 0]
    measured = [
        made.evaluate(x, labels, verbose=0, return_dict=True)
        for labels in (y[:, None], y, y.tolist())
    ]
    assert measured[0] == measured[1] == measured[2]


def test_compiling_again_leaves_no_metric_behind(cascade, blobs):
    data = blobs(64, seed=2)
    cascade.compile("adam", metrics=[kc.metrics.CascadeAccuracyAt(0.2)])
    cascade.fit(*data, verbose=0)
    cascade.compile("adam", metrics=[kc.metrics.CascadeAccuracyAt(0.5)])
    logs = cascade.fit(*data, verbose=0).history
    assert "cascade_accuracy_at_0.2" not in logs
    assert "cascade_accuracy_at_0.5" in logs
    cascade.compile("adam")
    assert (
        "cascade_accuracy_at_0.5" not in cascade.fit(*data, verbose=0).history
    )


def test_a_gate_that_is_set_after_compiling(cascade, blobs):
    x, y = blobs(100, seed=3)
    cascade.evaluate(x, y, verbose=0)
    cascade.gate = kc.gates.EnergyGate(threshold=np.finfo("float32").max)
    results = cascade.evaluate(x, y, verbose=0, return_dict=True)
    assert results["delegation_rate"] == 1.0
    assert cascade.predict(x, verbose=0)["delegated"].all()

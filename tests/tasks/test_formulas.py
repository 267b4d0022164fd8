"""Losses, scores and qualities of tasks, against SciPy and scikit-learn."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import keras_cascade as kc
from tests.helpers.gradients import gradient

RNG = np.random.default_rng(0)
ROWS = 6
#: JAX compiles every operation for every shape.
EXAMPLES = 30 if keras.backend.backend() == "tensorflow" else 4


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def by_row(measure, labels, answers):
    """A measure of scikit-learn, which is over all rows, of each."""
    return [measure(labels[[i]], answers[[i]]) for i in range(len(labels))]


def cross_entropies(targets, logits):
    """Mean over the labels of binary cross-entropies, of each row."""
    p = scipy.special.expit(logits.astype("float64"))
    losses = -(targets * np.log(p) + (1 - targets) * np.log1p(-p))
    return losses.mean(axis=1)


def draws(size, scale=2.0, rows=ROWS):
    return (scale * RNG.normal(size=(rows, size))).astype("float32")


# One class per example.


def test_one_class_per_example():
    task, logits = kc.tasks.MultiClass(), draws(4)
    labels = np.array([0, 1, 2, 3, 0, 1])
    answers = array(task.answers(logits))
    shares = scipy.special.softmax(logits.astype("float64"), axis=1)
    np.testing.assert_allclose(answers, shares, atol=1e-6)
    np.testing.assert_allclose(
        array(task.label_loss(labels, logits)),
        [
            metrics.log_loss([y], [row], labels=range(4))
            for y, row in zip(labels, shares, strict=True)
        ],
        rtol=1e-5,
    )
    ordered = np.sort(shares, axis=1)
    np.testing.assert_allclose(
        array(task.score(logits)), ordered[:, -1] - ordered[:, -2], atol=1e-6
    )
    wrong = by_row(metrics.zero_one_loss, labels, shares.argmax(axis=1))
    np.testing.assert_array_equal(array(task.loss(labels, answers)), wrong)
    np.testing.assert_array_equal(
        array(task.quality(labels, answers)), 1 - np.array(wrong)
    )
    teacher = draws(4)
    targets = scipy.special.softmax(teacher.astype("float64") / 3.0, axis=1)
    np.testing.assert_allclose(
        array(task.distillation_loss(teacher, logits, 3.0)),
        -(targets * np.log(shares)).sum(axis=1),
        rtol=1e-5,
    )


def test_its_methods_are_those_of_the_default_policy_and_gate():
    task, teacher, student = kc.tasks.MultiClass(), draws(5), draws(5)
    labels = np.arange(ROWS) % 5
    policy = kc.distillation.StandardDistillation(
        temperature=2.0, student_loss_weight=0.3
    )
    mixed = 0.3 * task.label_loss(labels, student)
    mixed += 0.7 * task.distillation_loss(teacher, student, 2.0)
    np.testing.assert_allclose(
        array(policy.example_loss(labels, teacher, student)),
        array(mixed),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        array(kc.gates.MarginGate()(student)), array(task.score(student))
    )


# Several labels per example.


@pytest.mark.parametrize("loss", ["hamming", "false_negatives", "example"])
def test_losses_of_several_labels(loss):
    task, logits = kc.tasks.MultiLabel(loss), draws(5)
    labels = RNG.integers(0, 2, (ROWS, 5))
    labels[0] = 0  # nothing to miss
    answers = array(task.answers(logits))
    np.testing.assert_allclose(
        answers, scipy.special.expit(logits.astype("float64")), atol=1e-6
    )
    predicted = (logits >= 0).astype(int)
    measure = {
        "hamming": metrics.hamming_loss,
        "example": metrics.zero_one_loss,
        "false_negatives": lambda y, z: (
            1 - metrics.recall_score(y[0], z[0], zero_division=1.0)
        ),
    }[loss]
    found = array(task.loss(labels, answers))
    np.testing.assert_allclose(
        found, by_row(measure, labels, predicted), atol=1e-6
    )
    assert task.zero_one_loss == (loss == "example")
    np.testing.assert_allclose(
        array(task.quality(labels, answers)), 1 - found, atol=1e-6
    )


def test_training_of_several_labels():
    task, logits, teacher = kc.tasks.MultiLabel(), draws(5), draws(5)
    labels = RNG.integers(0, 2, (ROWS, 5))
    found = array(task.label_loss(labels, logits))
    np.testing.assert_allclose(
        found, cross_entropies(labels, logits), rtol=1e-5
    )
    # scikit-learn's log loss is the mean over the labels of one row.
    p = scipy.special.expit(logits.astype("float64"))
    np.testing.assert_allclose(
        found,
        [
            metrics.log_loss(y, one, labels=[0, 1])
            for y, one in zip(labels, p, strict=True)
        ],
        rtol=1e-5,
    )
    for temperature in (1.0, 4.0):
        targets = scipy.special.expit(teacher.astype("float64") / temperature)
        np.testing.assert_allclose(
            array(task.distillation_loss(teacher, logits, temperature)),
            cross_entropies(targets, logits),
            rtol=1e-5,
        )


@pytest.mark.parametrize("aggregate", ["min", "mean"])
def test_scores_of_several_labels(aggregate):
    task, logits = kc.tasks.MultiLabel(aggregate=aggregate), draws(5)
    p = scipy.special.expit(logits.astype("float64"))
    expected = getattr(np.abs(2 * p - 1), aggregate)(axis=1)
    np.testing.assert_allclose(array(task.score(logits)), expected, rtol=1e-5)


def test_scores_keep_apart_what_sigmoids_do_not():
    # |2σ(z) − 1| is |z| / 2 near 0, where σ(z) in float32 is 1/2.
    score = kc.tasks.MultiLabel().score(np.float32([[1e-9], [2e-9]]))
    np.testing.assert_allclose(array(score), [5e-10, 1e-9], rtol=1e-5)


# Numbers.


def numbers(spread, values=3, **limit):
    limit = limit or {"tolerance": 0.5}
    task = kc.tasks.Regression(spread=spread, coverage=0.6, **limit)
    return task, draws(2 * values, 1.0), draws(values, 1.0)


def test_training_of_a_gaussian_is_its_likelihood():
    task, outputs, labels = numbers("gaussian")
    mean, s = outputs[:, :3].astype("float64"), outputs[:, 3:]
    expected = -scipy.stats.norm.logpdf(labels, mean, np.exp(s / 2.0))
    expected = (expected - np.log(2 * np.pi) / 2).mean(axis=1)
    for loss in (
        task.label_loss(labels, outputs),
        task.distillation_loss(labels, outputs, 7.0),
    ):
        np.testing.assert_allclose(array(loss), expected, rtol=1e-4)
    np.testing.assert_array_equal(
        array(task.answer_outputs(outputs)), outputs[:, :3]
    )
    np.testing.assert_allclose(
        array(task.score(outputs)),
        -np.log(np.exp(s / 2.0)).max(axis=1),
        rtol=1e-5,
    )


def test_training_of_quantiles_is_the_pinball_loss():
    task, outputs, labels = numbers("quantiles")
    low, high = outputs[:, :3], outputs[:, 3:]
    # A coverage of 0.6 is between the quantiles 0.2 and 0.8.
    expected = [
        metrics.mean_pinball_loss(labels[i], low[i], alpha=0.2)
        + metrics.mean_pinball_loss(labels[i], high[i], alpha=0.8)
        for i in range(ROWS)
    ]
    found = array(task.label_loss(labels, outputs))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        array(task.answer_outputs(outputs)), (low + high) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(
        array(task.score(outputs)), -np.abs(high - low).max(axis=1), rtol=1e-5
    )


@pytest.mark.parametrize("spread", ["gaussian", "quantiles"])
def test_losses_of_numbers(spread):
    task, _, labels = numbers(spread)
    answers = draws(3, 1.0)
    errors = np.abs(labels - answers)
    np.testing.assert_array_equal(
        array(task.loss(labels, answers)), errors.max(axis=1) > 0.5
    )
    assert task.zero_one_loss
    bounded, _, _ = numbers(spread, bound=0.8)
    np.testing.assert_allclose(
        array(bounded.loss(labels, answers)),
        (np.minimum(errors, 0.8) / 0.8).mean(axis=1),
        rtol=1e-5,
    )
    assert not bounded.zero_one_loss


def test_a_column_of_numbers_needs_no_second_axis():
    task, outputs, labels = numbers("gaussian", values=1)
    np.testing.assert_array_equal(
        array(task.label_loss(labels[:, 0], outputs)),
        array(task.label_loss(labels, outputs)),
    )
    np.testing.assert_array_equal(
        array(task.loss(labels[:, 0], outputs[:, :1])),
        array(task.loss(labels, outputs[:, :1])),
    )


def test_spreads_beyond_float32_stay_finite():
    task = kc.tasks.Regression(tolerance=1.0)
    outputs = np.float32([[0.0, -1e4], [0.0, 1e4], [1e4, 0.0]])
    loss = lambda z: keras.ops.sum(task.label_loss(np.ones((3, 1)), z))  # noqa: E731
    assert np.isfinite(array(loss(outputs)))
    assert np.isfinite(gradient(loss, outputs)).all()


# Gradients, and limits of the mixture.

CASES = {
    "multiclass": (kc.tasks.MultiClass(), 4, 4),
    "multilabel": (kc.tasks.MultiLabel(), 4, 4),
    "gaussian": (kc.tasks.Regression(tolerance=1.0), 2, 4),
    "quantiles": (kc.tasks.Regression(bound=1.0, spread="quantiles"), 2, 4),
}


def formula(name, labels, teacher, outputs, a, temperature):
    """The policy's loss in float64, from its definition."""
    z = outputs.astype("float64")
    if name == "multiclass":
        log_shares = scipy.special.log_softmax(z, axis=1)
        theirs = scipy.special.softmax(teacher / temperature, axis=1)
        targets = a * np.eye(4)[labels] + (1 - a) * theirs
        return -(targets * log_shares).sum(axis=1).sum()
    if name == "multilabel":
        theirs = scipy.special.expit(teacher / temperature)
        targets = a * labels + (1 - a) * theirs
        return cross_entropies(targets, z).sum()
    total = 0.0
    for weight, y in ((a, labels), (1 - a, teacher)):
        first, second = z[:, :2], z[:, 2:]
        if name == "gaussian":
            deviation = np.exp(second / 2)
            losses = -scipy.stats.norm.logpdf(y, first, deviation)
            losses = losses - np.log(2 * np.pi) / 2
        else:
            losses = sum(
                np.maximum(q * (y - one), (q - 1) * (y - one))
                for q, one in ((0.1, first), (0.9, second))
            )
        total += weight * losses.mean(axis=1).sum()
    return total


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("a", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_loss_and_gradient_of_the_policy(name, a, temperature):
    task, size, width = CASES[name]
    teacher, outputs = draws(size), draws(width)
    labels = {
        "multiclass": np.arange(ROWS) % 4,
        "multilabel": RNG.integers(0, 2, (ROWS, 4)),
    }.get(name, draws(size))
    policy = kc.tasks.TaskDistillation(task, temperature, a)

    def loss(z):
        return keras.ops.sum(policy.example_loss(labels, teacher, z))

    def expected(z):
        z = z.reshape(outputs.shape)
        return formula(name, labels, teacher, z, a, temperature)

    np.testing.assert_allclose(
        float(array(loss(outputs))), expected(outputs), rtol=1e-4
    )
    slopes = scipy.optimize.approx_fprime(
        outputs.reshape(-1).astype("float64"), expected, 1e-6
    )
    np.testing.assert_allclose(
        gradient(loss, outputs).reshape(-1), slopes, atol=2e-3, rtol=2e-3
    )
    assert np.all(array(policy.selected(labels, teacher, outputs)))


def test_the_optimum_is_the_teacher_at_its_temperature():
    teacher = draws(4)
    for task in (kc.tasks.MultiLabel(), kc.tasks.MultiClass()):
        slopes = gradient(
            lambda z, task=task: keras.ops.sum(
                task.distillation_loss(teacher, z, 2.5)
            ),
            teacher / np.float32(2.5),
        )
        np.testing.assert_allclose(slopes, 0, atol=1e-6)


@given(
    rows=st.integers(1, 5),
    size=st.integers(1, 6),
    seed=st.integers(0, 99),
    scale=st.sampled_from([0.0, 1.0, 1e3]),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_every_number_of_rows_and_outputs(rows, size, seed, scale):
    rng = np.random.default_rng(seed)

    def normal(width):
        return (scale * rng.normal(size=(rows, width))).astype("float32")

    several = [
        kc.tasks.MultiLabel(loss, aggregate)
        for loss in ("hamming", "false_negatives", "example")
        for aggregate in ("min", "mean")
    ]
    values = [
        kc.tasks.Regression(spread=spread, **limit)
        for spread in ("gaussian", "quantiles")
        for limit in ({"tolerance": 1.0}, {"bound": 2.0})
    ]
    for task in [*several, *values]:
        is_regression = isinstance(task, kc.tasks.Regression)
        width = 2 * size if is_regression else size
        assert task.check_shapes((None, size), (None, width)) == size
        teacher, outputs = normal(size), normal(width)
        labels = normal(size)
        if not is_regression:
            labels = (labels > 0).astype("int32")
        task.check_labels(labels, size)
        answers = task.answers(task.answer_outputs(outputs))
        assert answers.shape == (rows, size)
        for values_of_rows in (
            task.label_loss(labels, outputs),
            task.distillation_loss(teacher, outputs, 2.0),
            task.score(outputs),
            task.loss(labels, answers),
            task.quality(labels, answers),
        ):
            assert values_of_rows.shape == (rows,)
            assert np.isfinite(array(values_of_rows)).all()
        loss = array(task.loss(labels, answers))
        assert ((loss >= 0) & (loss <= 1)).all()
        if task.zero_one_loss:
            assert np.isin(loss, (0, 1)).all()
        # The teacher's own answers as labels are no loss.
        theirs = array(task.answers(teacher))
        right = theirs if is_regression else (theirs >= 0.5).astype("int32")
        np.testing.assert_array_equal(array(task.loss(right, theirs)), 0)

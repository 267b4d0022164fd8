"""A teacher that is no use is said before training, and in the report."""

import contextlib

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.cli.report import report_of_results, shown_inputs
from keras_cascade.datasets.array_splits import splits_from_arrays
from keras_cascade.datasets.labelled_data import LabelledData
from keras_cascade.evaluation.report import write_report
from keras_cascade.evaluation.teacher_remarks import teacher_remarks
from keras_cascade.teacher_checks import remarks_on_models

pytestmark = pytest.mark.filterwarnings("error:Teacher check:UserWarning")


def results(labels, teacher, student, **columns):
    labels = np.asarray(labels)
    return kc.evaluation.ExampleResults(
        scores=np.linspace(0, 1, len(labels)),
        student_correct=np.asarray(student) == labels,
        teacher_correct=np.asarray(teacher) == labels,
        labels=labels,
        **columns,
    )


def wrong_in(labels, share):
    """Predictions that are wrong in a share of the examples, evenly."""
    labels = np.array(labels)
    wrong = np.floor(np.arange(1, len(labels) + 1) * share) > np.floor(
        np.arange(len(labels)) * share
    )
    labels[wrong] = (labels[wrong] + 1) % 10
    return labels


LABELS = np.arange(200) % 10


@pytest.mark.parametrize(
    ("teacher", "student", "remarks"),
    [
        (0.05, 0.3, []),
        (0.05, 0.05, []),
        (0.3, 0.27, []),  # within chance
        (0.83, 0.83, ["near chance: 17.0% right on 200 examples, where"]),
        (0.4, 0.1, ["below the student: 60.0% right on 200 examples, the"]),
        (0.9, 0.1, ["near chance: 10.0%", "below the student: 10.0%"]),
    ],
)
def test_remarks_state_the_figures(teacher, student, remarks):
    found = teacher_remarks(
        results(LABELS, wrong_in(LABELS, teacher), wrong_in(LABELS, student))
    )
    assert len(found) == len(remarks)
    for one, expected in zip(found, remarks, strict=True):
        assert expected in one


def test_chance_is_that_of_the_most_frequent_class():
    labels = (np.arange(200) % 10 == 0).astype(int)
    (remark,) = teacher_remarks(results(labels, np.zeros(200), labels))[:1]
    assert "90.0% right on 200 examples, where the most frequent" in remark


def test_few_examples_say_nothing():
    few = LABELS[:40]
    assert teacher_remarks(results(few, few + 1, few)) == []


def test_equal_models():
    predicted = wrong_in(LABELS, 0.2)
    columns = dict.fromkeys(("student_labels", "teacher_labels"), predicted)
    confidence = np.linspace(0.5, 1, 200)
    columns |= dict.fromkeys(
        ("student_confidence", "teacher_confidence"), confidence
    )
    (remark,) = teacher_remarks(
        results(LABELS, predicted, predicted, **columns)
    )
    assert "The teacher equals the student" in remark
    columns["student_confidence"] = confidence - 0.01
    assert not teacher_remarks(results(LABELS, predicted, predicted, **columns))


def compiled(teacher, student):
    cascade = kc.Cascade(teacher, student)
    cascade.compile(keras.optimizers.Adam(1e-2))
    return cascade


def test_a_sound_teacher_passes_in_silence(cascade, blobs):
    cascade.fit(*blobs(200), verbose=0)


def test_a_teacher_near_chance(dense_model, blobs):
    x, y = blobs(200)
    cascade = compiled(dense_model(8), dense_model(3))
    with pytest.warns(UserWarning, match="Teacher check: .* near chance"):
        cascade.fit(x, np.random.default_rng(0).permutation(y), verbose=0)


def test_a_teacher_below_its_student(cascade, dense_model, blobs):
    swapped = compiled(dense_model(2), cascade.teacher)
    with pytest.warns(UserWarning) as warned:
        swapped.fit(*blobs(200), verbose=0)
    assert any("below the student" in str(w.message) for w in warned)


def test_batch_normalization_that_lags(cascade, dense_model, blobs):
    teacher = cascade.teacher
    (norm,) = (
        layer
        for layer in teacher.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm.moving_mean.assign(norm.moving_mean + 20.0)
    before = [w.copy() for w in teacher.get_weights()]
    with pytest.warns(UserWarning) as warned:
        compiled(teacher, dense_model(3)).fit(*blobs(200), verbose=0)
    assert any(
        "in training mode" in str(w.message) and "lag behind" in str(w.message)
        for w in warned
    )
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_one_model_as_teacher_and_student(cascade, blobs):
    same = compiled(cascade.teacher, cascade.teacher)
    with (
        pytest.warns(UserWarning) as warned,
        contextlib.suppress(ValueError),  # there is nothing to train
    ):
        same.fit(*blobs(200), verbose=0)
    assert any("share their weights" in str(w.message) for w in warned)


def test_batches_are_looked_at_without_being_drawn(cascade, blobs):
    x, y = blobs(160)
    bad = np.random.default_rng(0).permutation(y)
    drawn = ((x[i : i + 16], bad[i : i + 16]) for i in range(0, 160, 16))
    with pytest.warns(UserWarning, match="near chance"):
        cascade.fit(drawn, steps_per_epoch=10, verbose=0)
    assert cascade.data_record.training.examples == 160


def test_the_report_says_it(blobs, cascade, tmp_path):
    from keras_cascade.evaluation.report.numbers import report_numbers

    x, y = blobs(200)
    y = np.random.default_rng(0).permutation(y)
    cascade.prepare(x)
    point = cascade.calibrate(
        (x, y), kc.MaxDelegationRate(0.5, tolerance=0.5)
    ).to_dict()
    numbers = report_numbers(
        cascade.judge((x, y)), point, cascade.costs, "abcd", resamples=100
    )
    assert any("near chance" in remark for remark in numbers["remarks"])


@pytest.fixture
def lagging(cascade, dense_model, blobs):
    """A calibrated cascade whose teacher is right in training mode alone."""
    (norm,) = (
        layer
        for layer in cascade.teacher.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    norm.moving_mean.assign(norm.moving_mean + 20.0)
    cascade.calibrate(
        blobs(120, seed=8), kc.MaxDelegationRate(0.5, tolerance=1.0)
    )
    return cascade


def test_models_are_looked_at_without_training(lagging, dense_model, blobs):
    data = LabelledData(*blobs(200))
    (remark,) = remarks_on_models(lagging, data)
    assert "lag behind" in remark
    same = compiled(lagging.teacher, lagging.teacher)
    assert "share their weights" in remarks_on_models(same, data)[0]
    few = LabelledData(*blobs(20))
    assert "share their weights" in "".join(remarks_on_models(same, few))
    assert not remarks_on_models(lagging, few)
    assert not remarks_on_models(compiled(dense_model(3), dense_model(3)), data)


def test_the_model_card_says_it(lagging, blobs, tmp_path):
    bundle = lagging.export(
        tmp_path / "bundle", calibration_data=blobs(120, seed=8)
    )
    card = (bundle.path / "README.md").read_text("utf-8")
    assert "lag behind its weights" in card
    assert "The teacher is near chance" in card
    assert "The teacher is below" in card or "near chance" in card


def test_the_page_says_it(lagging, blobs, tmp_path):
    """The page of `keras-cascade report`, on a test split of its own."""
    x, y = blobs(240, seed=9)
    splits = splits_from_arrays("npz:a.npz", x, y, list("abcd"))
    data = {
        part: getattr(splits, part).batch(32)
        for part in ("calibration", "test")
    }
    point = lagging.operating_point.to_dict()
    results, contents = report_of_results(lagging, splits, data, point, 0)
    assert "lag behind" in contents["remarks"][0]
    assert any("near chance" in one for one in contents["remarks"])
    contents["title"] = "lagging"
    page = write_report(
        tmp_path, contents, results, shown_inputs(data["test"], contents)
    )
    shown = page.read_text("utf-8")
    assert "lag behind its weights" in shown and "near chance" in shown

"""`tune` against trainings by hand, and searches that are stopped."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.tuning.trial import Trial

EPOCHS = 4
TRAININGS = [
    kc.tuning.Training("labels", kc.distillation.LabelSmoothing(0.0), 3e-2),
    kc.tuning.Training("teacher", "standard", 3e-2),
]


class StoppedError(Exception):
    pass


@pytest.fixture
def parts(dense_model, blobs):
    teacher = dense_model(32)
    teacher.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(*blobs(512, seed=1), epochs=5, verbose=0)
    return {
        "teacher": teacher,
        "train": blobs(256, seed=2),
        "validation": blobs(200, seed=3),
        "budget": kc.MaxDelegationRate(0.2),
        "students": {"one": dense_model(1), "three": dense_model(3)},
        "trainings": TRAININGS,
        "epochs": EPOCHS,
    }


@pytest.fixture
def small(parts):
    """One student, trained to the end at once."""
    student = {"three": parts["students"]["three"]}
    return {**parts, "students": student, "parts": (1.0,)}


def without_seconds(table):
    return [{**row, "seconds": None} for row in table]


def test_every_trial_is_a_training_by_hand(parts):
    result = kc.tune(**parts, parts=(1.0,))
    assert [row["dropped"] for row in result.table] == [None] * 4
    accuracies = []
    for student in parts["students"].values():
        for training in TRAININGS:
            own = keras.models.clone_model(student)
            own.set_weights(student.get_weights())
            cascade = kc.Cascade(
                parts["teacher"], own, distillation=training.policy()
            )
            cascade.compile(keras.optimizers.AdamW(3e-2, weight_decay=0.1))
            keras.utils.set_random_seed(0)
            cache = kc.cache_teacher_logits(parts["train"], parts["teacher"])
            needed = training.name == "teacher"
            cascade.fit(
                *parts["train"],
                epochs=EPOCHS,
                verbose=0,
                teacher_logits=cache if needed else None,
            )
            curve = cascade.judge(parts["validation"]).deferral_curve()
            accuracies.append(curve.accuracy_at(0.2))
    found = [row["accuracy"] for row in result.table]
    np.testing.assert_allclose(found, accuracies, atol=1e-6)
    best = result.table[int(np.argmax(found))]
    assert result.best["training"] == best["training"]
    results = result.cascade.judge(parts["validation"])
    delegated = results.scores < result.cascade.threshold
    assert delegated.mean() == pytest.approx(best["delegation_rate"])


def test_half_goes_on(parts):
    result = kc.tune(**parts)
    epochs = sorted(row["epochs"] for row in result.table)
    assert epochs[:2] == [1, 1] and epochs[3] == 4
    assert sum(epochs) <= 0.65 * 4 * EPOCHS
    assert sum(row["dropped"] is None for row in result.table) == 1
    assert result.best["epochs"] == 4
    assert result.best["training"] in str(result)
    assert json.loads(json.dumps(result.table)) == result.table


def test_a_search_that_was_stopped_goes_on(parts, tmp_path, monkeypatch):
    fit, count = Trial._fit, []

    def counted(trial, *arguments):
        if len(count) == limit["fits"]:
            raise StoppedError
        count.append(trial.name)
        return fit(trial, *arguments)

    monkeypatch.setattr(Trial, "_fit", counted)
    limit = {"fits": None}
    expected = kc.tune(**parts, directory=tmp_path / "whole")
    whole = len(count)
    count.clear()
    for fits in (1, 5):  # in the first part, and in the second
        limit["fits"] = fits
        with pytest.raises(StoppedError):
            kc.tune(**parts, directory=tmp_path / "parts")
    assert len(count) == 5
    limit["fits"] = None
    result = kc.tune(**parts, directory=tmp_path / "parts")
    assert len(count) == whole
    assert without_seconds(result.table) == without_seconds(expected.table)
    for own, other in zip(
        result.cascade.student.weights,
        expected.cascade.student.weights,
        strict=True,
    ):
        np.testing.assert_allclose(own, other, atol=1e-6)


def test_the_budget_of_an_accuracy_is_a_cost(small):
    result = kc.tune(
        **{**small, "budget": kc.MaxAccuracyDrop(0.02, confidence=0.95)},
    )
    costs = [row["amortized_cost"] for row in result.table]
    assert result.best["amortized_cost"] == min(costs)
    assert result.operating_point.accuracy_drop <= 0.02 + 1e-9
    assert result.operating_point.confidence is None


def test_validation_is_not_for_calibration(small, blobs):
    result = kc.tune(**small)
    with pytest.raises(ValueError, match="validated on"):
        result.cascade.calibrate(
            small["validation"], kc.MaxAccuracyDrop(0.2, confidence=0.9)
        )
    result.cascade.calibrate(
        blobs(400, seed=8), kc.MaxAccuracyDrop(0.2, confidence=0.9)
    )


def test_students_of_hyperparameters(small, dense_model):
    def build(hp):
        return dense_model(hp.Choice("units", [1, 2, 3]))

    result = kc.tune(
        **{**small, "students": build, "trainings": TRAININGS[:1]},
        max_students=2,
    )
    units = [row["hyperparameters"]["units"] for row in result.table]
    assert len(set(units)) == 2
    assert f"units={units[0]}" in result.table[0]["student"]


def test_the_best_gate_is_taken(small):
    result = kc.tune(
        **{**small, "trainings": TRAININGS[1:]},
        gates=["energy", "margin"],
    )
    energy = kc.tune(
        **{**small, "trainings": TRAININGS[1:]},
        gates=["energy"],
    )
    assert result.best["accuracy"] >= energy.best["accuracy"]
    assert result.best["gate"] == type(result.cascade.gate).__name__


def test_no_time_is_left(parts):
    result = kc.tune(**parts, seconds=0.0)
    assert [row["epochs"] for row in result.table] == [1, 0, 0, 0]
    assert "The time was over" in result.verdict
    assert result.table[1]["dropped"] == "the time was over"


def test_the_front_is_not_dominated(small):
    result = kc.tune(**small)
    points = [
        (costs.amortized(float(rate)), float(accuracy))
        for curve, costs in result.curves.values()
        for rate, accuracy in zip(
            curve.delegation_rate, curve.accuracy, strict=True
        )
    ]
    front = {(p["cost"], p["accuracy"]) for p in result.front()}
    expected = {
        one
        for one in points
        if not any(
            other != one and other[0] <= one[0] and other[1] >= one[1]
            for other in points
        )
    }
    assert front == expected
    assert result.plot().get_xlabel().startswith("cost per example")


def test_a_budget_that_nothing_meets(small):
    with pytest.raises(ValueError, match=r"No trial meets .*Attainable"):
        kc.tune(
            **{**small, "budget": kc.MinAccuracy(1.0)},
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": (0.5,)}, "`parts`"),
        ({"parts": (0.5, 0.25, 1.0)}, "`parts`"),
        ({"students": []}, "at least one student"),
        ({"trainings": [TRAININGS[0]] * 2}, "names that differ"),
        ({"students": lambda: None}, "build"),
    ],
)
def test_bad_arguments(change, message, parts):
    with pytest.raises(ValueError, match=message):
        kc.tune(**{**parts, **change})


def test_a_student_of_other_classes(parts, dense_model):
    with pytest.raises(ValueError, match="same classes"):
        kc.tune(**{**parts, "students": dense_model(3, classes=5)})


def test_default_trainings():
    even = np.repeat(np.arange(10), 10)
    skewed = np.concatenate([even, np.zeros(200, int)])
    assert [t.name for t in kc.tuning.default_trainings(even, 10)] == [
        "cross-entropy", "label smoothing 0.6",
        "distillation T=1", "distillation T=2",
    ]  # fmt: skip
    of_skewed = kc.tuning.default_trainings(skewed, 10)
    assert [t.name for t in of_skewed[2:]] == [
        "class-specific 0.4", "class-specific 1",
    ]  # fmt: skip
    assert 0 in of_skewed[2].policy().in_domain_classes


@pytest.mark.parametrize("change", ["labels", "weights", "teacher"])
def test_a_folder_of_other_data_is_not_used(
    change, small, dense_model, tmp_path, monkeypatch
):
    small["trainings"] = TRAININGS[1:]
    kc.tune(**small, directory=tmp_path / "a", verbose=False)
    x, y = small["train"]
    caches = {}
    if change == "labels":
        small["train"] = x, (y + 1) % 4
    elif change == "weights":
        small["train"] = x, y, np.where(y == 0, 2.0, 0.1)
    else:
        small["teacher"] = dense_model(8)
        caches = {
            name: kc.cache_teacher_logits(data, small["teacher"])
            for name, data in (
                ("teacher_logits", small["train"]),
                ("validation_logits", small["validation"]),
            )
        }
    count, fit = [], Trial._fit
    monkeypatch.setattr(
        Trial, "_fit", lambda *args: (count.append(1), fit(*args))
    )
    kc.tune(**small, **caches, directory=tmp_path / "a")
    assert len(count) == 1
    # The same again, with layers of other names: nothing is trained.
    student = small["students"]["three"]
    copy = dense_model(3)
    copy.set_weights(student.get_weights())
    assert copy.layers[-1].name != student.layers[-1].name
    kc.tune(
        **{**small, "students": {"three": copy}},
        **caches,
        directory=tmp_path / "a",
    )
    assert len(count) == 1


def test_a_cache_of_another_teacher_is_refused(small, dense_model):
    cache = kc.cache_teacher_logits(small["train"], dense_model(8))
    small["trainings"] = TRAININGS[1:]
    with pytest.raises(ValueError, match="other weights"):
        kc.tune(**small, teacher_logits=cache)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": ["learned"]}, "first gate"),
        ({"gates": ["margin", "learned"]}, "`gate_data`"),
        ({"gates": []}, "at least one gate"),
    ],
)
def test_gates_that_cannot_be_compared(change, message, small):
    with pytest.raises(ValueError, match=message):
        kc.tune(**small, **change)


def test_a_gate_is_not_fitted_on_what_chooses_it(small):
    with pytest.raises(ValueError, match="other examples than `validation`"):
        kc.tune(
            **small,
            gates=["margin", "learned"],
            gate_data=small["validation"],
        )


def test_a_gate_that_learns(small, blobs):
    gate = kc.gates.EnergyGate()
    before = gate.threshold
    result = kc.tune(
        **{**small, "trainings": TRAININGS[1:]},
        gates=[gate, "learned"],
        gate_data=blobs(200, seed=9),
    )
    result.cascade.gate.check_ready()
    assert gate.threshold == before
    assert result.cascade.gate is not gate


def test_budgets_of_several_conditions_and_of_a_class(small):
    small["trainings"] = TRAININGS[1:]
    budget = [
        kc.MaxDelegationRate(0.5, tolerance=1.0),
        kc.MinAccuracy(0.4, confidence=0.95),
    ]
    result = kc.tune(**{**small, "budget": budget})
    assert result.best["accuracy"] >= 0.4
    assert result.best["delegation_rate"] <= 0.5
    small["teacher"].class_names = ["a", "b", "c", "d"]
    result = kc.tune(**{**small, "budget": kc.MinPrecision("a", 0.4)})
    assert result.best["accuracy"] is not None


def test_hyperparameters_of_a_branch(small, dense_model):
    def build(hp):
        if hp.Choice("wide", [False, True]):
            return dense_model(hp.Choice("units", [5, 6, 7]))
        return dense_model(2)

    result = kc.tune(
        **{**small, "students": build, "trainings": TRAININGS[:1], "epochs": 1},
        max_students=3,
    )
    rows = {row["parameters"]: row["hyperparameters"] for row in result.table}
    assert len(rows) == 3
    for parameters, values in rows.items():
        units = values.get("units", 2)
        assert parameters == 7 * units + 4 * (units + 1)
        assert ("units" in values) == values["wide"]


def test_default_trainings_know_the_traffic():
    labels = np.repeat(np.arange(10), 10)
    weights = np.where(labels < 2, 10.0, 0.1)
    names = [t.name for t in kc.tuning.default_trainings(labels, 10, weights)]
    assert names[2:] == ["class-specific 0.4", "class-specific 1"]


def test_labels_in_other_forms(small):
    x, y = small["train"]
    small["train"] = x, np.eye(4)[y]
    result = kc.tune(**{**small, "trainings": None, "epochs": 1})
    assert [row["training"] for row in result.table][2:] == [
        "distillation T=1", "distillation T=2",
    ]  # fmt: skip

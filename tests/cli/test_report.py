"""Command `report`: images, texts and cascades that cannot be reported on."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade import datasets
from keras_cascade.cli.report import traffic_in_words
from keras_cascade.cli.trainer import batched


def small(units):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units),
            keras.layers.Dense(10),
        ]
    )


@pytest.fixture(scope="module")
def digits():
    """Splits of the digits, and a cascade trained on them for a moment."""
    keras.utils.set_random_seed(1)
    splits = datasets.load("digits", 0)
    data = batched(splits)
    teacher = small(32)
    teacher.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    teacher.fit(data["train"], epochs=8, shuffle=False, verbose=0)
    cascade = kc.Cascade(teacher, small(3))
    cascade.compile(optimizer=keras.optimizers.Adam(1e-2))
    cascade.fit(data["train"], epochs=8, shuffle=False, verbose=0)
    return data, cascade


def rows_of(data):
    batches = list(data)
    return tuple(
        np.concatenate([np.asarray(batch[part]) for batch in batches])
        for part in (0, 1)
    )


def test_a_report_of_a_saved_cascade(run, digits, tmp_path):
    data, cascade = digits
    point = cascade.calibrate(
        data["calibration"],
        [
            kc.MaxAccuracyDrop(0.05, confidence=0.9),
            kc.MaxDelegationRate(0.9, confidence=0.9),
        ],
    )
    cascade.save(tmp_path / "c.keras")
    folder = tmp_path / "report"
    arguments = ("report", tmp_path / "c.keras", "--data", "digits")
    printed = json.loads(run(*arguments, "--output", folder, "--json"))
    report = json.loads((folder / "report.json").read_text())
    page = (folder / "report.html").read_text()
    # By other means: Keras's own passes over the arrays.
    x, y = rows_of(data["test"])
    student = cascade.student.predict(x, verbose=0)
    top = np.sort(keras.ops.convert_to_numpy(keras.ops.softmax(student)))
    delegated = top[:, -1] - top[:, -2] < np.float32(point.threshold)
    right = {
        "student": student.argmax(axis=1) == y,
        "teacher": cascade.teacher.predict(x, verbose=0).argmax(axis=1) == y,
    }
    expected = {
        "student_accuracy": right["student"].mean(),
        "teacher_accuracy": right["teacher"].mean(),
        "cascade_accuracy": np.where(
            delegated, right["teacher"], right["student"]
        ).mean(),
        "delegation_rate": delegated.mean(),
        "amortized_cost": cascade.costs.student + delegated.mean(),
        "threshold": point.threshold,
    }
    for name, value in expected.items():
        assert report[name] == printed[name] == pytest.approx(value, abs=1e-6)
    assert printed["test_examples"] == len(y) == 449
    assert report["guarantees"] == printed["guarantees"]
    assert report["guarantees"][0].startswith("at most 5.00 points less")
    assert report["slider"]["examples"] == 449
    assert report["slider"]["confidence"] == 0.9
    accepted_wrong = np.flatnonzero(~delegated & ~right["student"])
    assert {m["row"] for m in report["mistakes"]} <= set(accepted_wrong)
    assert len(report["mistakes"]) == min(12, len(accepted_wrong))
    assert page.count("data:image/png;base64,") == len(report["mistakes"])
    counts = {f["what"]: f["examples"] for f in report["fingerprints"]}
    assert counts == {
        "train the student": 899, "fit the gate": 0,
        "choose the threshold": 449, "report": 449,
    }  # fmt: skip
    assert len({f["sha256"] for f in report["fingerprints"]}) == 4
    assert len(set(report["weights"].values())) == 2
    # Again: only when asked to.
    with pytest.raises(ValueError, match="pass --overwrite"):
        run(*arguments, "--output", folder)
    shown = run(*arguments, "--output", folder, "--overwrite")
    assert "Guaranteed of new examples: at most 5.00 points" in shown
    assert "report.html" in shown
    assert json.loads((folder / "report.json").read_text()) == report
    # Other splits: what was trained on would be reported on.
    with pytest.raises(ValueError, match="were trained on"):
        run(*arguments, "--output", tmp_path / "other", "--seed", 7)
    assert not list((tmp_path / "other").iterdir())


def test_a_cascade_that_was_never_calibrated(run, digits, tmp_path):
    _, cascade = digits
    cascade.threshold = 0.5  # forgets a calibration
    cascade.save(tmp_path / "c.keras")
    with pytest.raises(ValueError, match="`keras-cascade calibrate` first"):
        run(
            "report", tmp_path / "c.keras",
            "--data", "digits", "--output", tmp_path / "report",
        )  # fmt: skip
    assert not (tmp_path / "report").exists()


def test_the_traffic_of_the_calibration_is_that_of_the_report(
    run, digits, tmp_path
):
    data, cascade = digits
    x, y = rows_of(data["calibration"])
    mix = kc.TrafficMix({0: 0.5, 1: 0.5, 9: 0.0})
    cascade.calibrate(
        (x, y), kc.MaxAccuracyDrop(0.2, confidence=0.9), traffic=mix
    )
    cascade.save(tmp_path / "c.keras")
    run(
        "report", tmp_path / "c.keras",
        "--data", "digits", "--output", tmp_path / "report",
    )  # fmt: skip
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    x, y = rows_of(data["test"])
    right = cascade.student.predict(x, verbose=0).argmax(axis=1) == y
    assert report["student_accuracy"] == pytest.approx(
        (right[y == 0].mean() + right[y == 1].mean()) / 2
    )
    assert report["traffic"].startswith("0 50.0 %, 1 50.0 %, 2 0.0 %")
    # Guarantees and bounds rest on what rejection leaves of these two classes.
    assert report["slider"]["examples"] <= (y < 2).sum() + 10
    assert {m["label"] for m in report["mistakes"]} <= {0, 1}


def test_a_weight_per_example_is_rejected(run, digits, tmp_path):
    data, cascade = digits
    x, y = rows_of(data["calibration"])
    mix = kc.TrafficMix(example_weights=np.linspace(0.1, 1, len(y)))
    cascade.calibrate((x, y), kc.MaxAccuracyDrop(0.1), traffic=mix)
    cascade.save(tmp_path / "c.keras")
    with pytest.raises(ValueError, match="one for a weight an example"):
        run(
            "report", tmp_path / "c.keras",
            "--data", "digits", "--output", tmp_path / "report",
        )  # fmt: skip


def test_calibration_examples_are_not_reported_on(run, digits, tmp_path):
    data, cascade = digits
    cascade.calibrate(data["test"], kc.MaxDelegationRate(0.5))
    cascade.save(tmp_path / "c.keras")
    with pytest.raises(ValueError, match="used to choose the threshold"):
        run(
            "report", tmp_path / "c.keras",
            "--data", "digits", "--output", tmp_path / "report",
        )  # fmt: skip


def test_texts_are_shown_as_texts(run, tmp_path):
    rng = np.random.default_rng(0)
    words = {"good": "fine great <b>best</b>", "bad": "poor sad worst"}
    lines = ["text,label"]
    for number in range(400):
        label = ("good", "bad")[number % 2]
        said = rng.choice(words[("good", "bad")[rng.random() < 0.3]].split())
        lines.append(f"{said} thing {number},{label}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    spec = f"csv:{tmp_path / 't.csv'}"

    def model():
        inputs = keras.Input((), dtype="string")
        hashed = keras.layers.Hashing(50)(inputs)
        return keras.Model(inputs, keras.layers.Embedding(50, 2)(hashed))

    cascade = kc.Cascade(model(), model())
    data = batched(datasets.load(spec, 0))
    cascade.calibrate(data["calibration"], kc.MaxDelegationRate(0.0))
    cascade.save(tmp_path / "c.keras")
    run(
        "report", tmp_path / "c.keras",
        "--data", spec, "--output", tmp_path / "report",
    )  # fmt: skip
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    page = (tmp_path / "report" / "report.html").read_text()
    x, _ = rows_of(data["test"])
    assert len(report["mistakes"]) == 12
    for mistake in report["mistakes"]:
        shown = x[mistake["row"]].decode()
        assert shown.replace("<", "&lt;").replace(">", "&gt;") in page
    assert "<b>best" not in page
    assert (
        "bad" in page
        and "its objective guarantees nothing about new examples" in page
    )


def test_many_classes_of_traffic_are_cut_short():
    mix = kc.TrafficMix(np.arange(1.0, 12.0))
    words = traffic_in_words(mix, [f"c{n}" for n in range(11)])
    assert words.startswith("c10 16.7 %, c9 15.2 %")
    assert words.endswith(" and 3 more classes")

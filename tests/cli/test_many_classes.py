"""Export, verification, reports and serving of 3,000 classes."""

import json

import keras
import numpy as np
import pytest

import keras_cascade as kc
from keras_cascade.bundle import Bundle
from keras_cascade.runtime import EdgeCascade
from keras_cascade.serving import ServerProcess

CLASSES, FEATURES, SPREAD = 3_000, 16, 0.4


def nearest(centres, noise, seed):
    """Linear model whose largest logit is that of the nearest centre."""
    rng = np.random.default_rng(seed)
    # Not as sharp as the posterior: at 8 bits scores would share few values.
    kernel = centres.T
    bias = -(centres**2).sum(axis=1) / 2
    model = keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)]
    )
    model.set_weights([kernel + noise * rng.normal(size=kernel.shape), bias])
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with a cascade, its bundles and data labelled by names."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(0)
    numbers = rng.choice(10**7, CLASSES, replace=False)  # in no order
    names = [f"n{number:08d}" for number in numbers]
    centres = rng.normal(size=(CLASSES, FEATURES)).astype("float32")

    def data(y):
        x = centres[y] + SPREAD * rng.normal(size=(len(y), FEATURES))
        return x.astype("float32"), y.astype("int32")

    x, y = data(np.tile(np.arange(CLASSES), 4))
    x_test, y_test = data(rng.integers(0, CLASSES, 1_000))
    named = np.array(names)
    np.savez(
        folder / "data.npz",
        x_train=x, y_train=named[y], x_test=x_test, y_test=named[y_test],
    )  # fmt: skip
    np.savez(folder / "test.npz", x=x_test, y=y_test)
    cascade = kc.Cascade(nearest(centres, 0.0, 1), nearest(centres, 0.2, 2))
    cascade.calibrate(
        data(rng.integers(0, CLASSES, 1_000)),
        kc.MaxDelegationRate(0.5, confidence=0.95),
        class_names=names,
    )
    cascade.save(folder / "cascade.keras")
    for name in ("float32", "int8"):
        cascade.export(folder / name, quantization=name)
    answers = cascade.predict(x_test, verbose=0)
    np.savez(folder / "answers.npz", names=np.array(names), **answers)
    return folder


def test_files_are_small_and_readable(folder):
    names = np.load(folder / "answers.npz")["names"].tolist()
    for name in ("float32", "int8"):
        bundle = Bundle.load(folder / name)
        assert bundle.classes == names
        card = (folder / name / "README.md").read_text()
        assert len(card) < 6_000
        assert "3,000 classes" in card
        assert f"{', '.join(names[:5])}, ..., {names[-1]}." in card
        # Names, 8 rows of the teacher's logits and 2 of probabilities.
        size = (folder / name / "manifest.json").stat().st_size
        assert size < CLASSES * (8 * 16 + 2 * 16 + 24)
        lines = (folder / name / "manifest.json").read_text().splitlines()
        assert len(lines) < CLASSES + 400
    sizes = [
        (folder / name / "student.tflite").stat().st_size
        for name in ("float32", "int8")
    ]
    weights = CLASSES * (FEATURES + 1)
    # One byte per weight and four per bias; a scale and a zero point (4 and 8
    # bytes) per class, for both; and less than 16 KiB of graph.
    assert 4 * weights < sizes[0] < 4 * weights + 2**14
    assert sizes[1] < CLASSES * (FEATURES + 4 + 24) + 2**14


def test_a_device_asks_for_the_largest_logits(folder):
    x = np.load(folder / "test.npz")["x"][:100]
    expected = np.load(folder / "answers.npz")
    labels = expected["probabilities"][:100].argmax(axis=1)
    with ServerProcess(folder / "float32", folder / "log") as server:
        for url in (server.url, server.url.replace("/v1/", "/v2/")):
            with EdgeCascade.load(
                folder / "float32", url, on_failure="raise", teacher_top_k=32
            ) as edge:
                found = edge.predict(x)
            cloud = np.array(found.source) == "cloud"
            np.testing.assert_array_equal(cloud, expected["delegated"][:100])
            assert 10 < cloud.sum() < 90
            np.testing.assert_array_equal(found.labels, labels)
            assert list(found.names) == expected["names"][labels].tolist()
            np.testing.assert_allclose(
                found.probabilities.max(axis=1),
                expected["probabilities"][:100].max(axis=1),
                atol=1e-4,
            )


def test_commands_on_a_bundle(folder, run):
    x = np.load(folder / "test.npz")["x"][:20]
    np.save(folder / "x.npy", x)
    answer = json.loads(
        run(
            *("predict", folder / "int8", "--input", folder / "x.npy"),
            *("--teacher", "local", "--json"),
        )
    )
    names = np.load(folder / "answers.npz")["names"]
    assert len(answer["rows"]) == 20
    for row in answer["rows"]:
        assert row["name"] == names[row["label"]]
    text = run(
        *("verify", folder / "int8", "--data", f"npz:{folder / 'data.npz'}"),
        "--json",
    )
    assert json.loads(text)["passed"]
    assert len(text) < 20_000


def test_a_report_is_readable(folder, run):
    result = json.loads(
        run(
            *("report", folder / "cascade.keras", "--output", folder / "page"),
            *("--data", f"npz:{folder / 'data.npz'}", "--json"),
        )
    )
    # Labels in the data are matched by name: the teacher is right.
    y = np.load(folder / "test.npz")["y"]
    answers = np.load(folder / "answers.npz")
    assert result["cascade_accuracy"] == pytest.approx(
        (answers["probabilities"].argmax(axis=1) == y).mean(), abs=2e-3
    )
    page = (folder / "page" / "report.html").read_text()
    assert len(page) < 300_000
    assert f"The 200 of {len(np.unique(y)):,} classes" in page
    numbers = json.loads((folder / "page" / "report.json").read_text())
    assert len(numbers["summary"]["per_class"]) == len(np.unique(y))

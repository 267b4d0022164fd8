"""Writes `files.zip`: files that keras_cascade 0.1.0 wrote, and its answers.

They are made once, by 0.1.0, and never again by a later version. With a
checkout of 0.1.0 at FOLDER and its `test` extra installed, from any directory
that is not this project:

    PYTHONPATH=FOLDER python PROJECT/tests/files_of_0_1_0/make.py

Nothing here is imported by a test: the arguments are 0.1.0's.
"""

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

import keras_cascade as kc

ARCHIVE = Path(__file__).parent / "files.zip"
FOLDER = Path(tempfile.mkdtemp())
CLASSES, FEATURES = 3, 4
WORDS = (("card", "lost"), ("rate", "euro"), ("top", "balance"))


def blobs(rows, seed):
    """Labelled points around three centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, FEATURES))
    y = rng.integers(0, CLASSES, rows).astype("int32")
    x = centres[y] + 0.8 * rng.normal(size=(rows, FEATURES))
    return x.astype("float32"), y


def texts(rows, seed):
    """Labelled texts; one word says the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, rows).astype("int32")
    x = [
        f"my {rng.choice(WORDS[label])} please {seed}{row}?"
        for row, label in enumerate(y)
    ]
    return np.array(x, dtype=object), y


def model(units, classes=CLASSES):
    """A small classifier with a named inner layer."""
    inputs = keras.Input((FEATURES,))
    x = keras.layers.Dense(units, activation="tanh", name="inner")(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


def teacher():
    """A trained teacher."""
    made = model(8)
    made.compile(
        keras.optimizers.Adam(1e-2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    made.fit(*blobs(256, 1), epochs=8, verbose=0)
    made.compiled = False  # its optimizer would be saved too
    return made


def cascades():
    """Name to (policy, student, gate, what fits the gate, how to calibrate)."""
    distillation, gates = kc.distillation, kc.gates
    abstain = distillation.AbstainDistillation([0, 2], temperature=2.0)
    combined = distillation.CombinedDistillation(
        distillation.StandardDistillation(temperature=2.0),
        [
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            keras.distillation.FeatureDistillation(
                teacher_layer_name="inner",
                student_layer_name="inner",
                loss=keras.losses.MeanSquaredError(),
            ),
        ],
        [0.5, 0.1],
    )
    rate = kc.MaxDelegationRate
    return {
        "standard": (
            distillation.StandardDistillation(2.0, 0.3, True),
            model(2), "margin", "fit_temperature",
            {
                "objective": rate(0.6, confidence=0.9),
                "traffic": kc.TrafficMix({0: 0.3, 1: 0.4, 2: 0.3}),
            },
        ),
        "class_specific": (
            distillation.ClassSpecificDistillation([0, 1], 1.5, 0.1),
            model(2), "class", None, {"objective": rate(1.0)},
        ),
        "margin": (
            distillation.MarginDistillation(0.3, label_smoothing=0.1),
            model(2), "max_probability", "fit_temperature",
            {
                "objective": [
                    kc.MaxAccuracyDrop(0.25, confidence=0.9),
                    rate(0.95, confidence=0.9),
                ]
            },
        ),
        "abstain": (
            abstain, model(2, 3), "abstain", None, {"objective": rate(0.7)},
        ),
        "cascade_aware": (
            distillation.CascadeAwareDistillation(),
            model(2), "entropy", "fit_temperature",
            {"objective": kc.MinAccuracy(0.5, confidence=0.9)},
        ),
        "combined": (
            combined, model(8), gates.EnergyGate(temperature=1.5), None,
            {"objective": kc.MaxCost(0.8, confidence=0.9)},
        ),
        "gatekeeper": (
            distillation.Gatekeeper(0.4),
            model(2),
            gates.LearnedGate(hidden_units=2, student_layers=["inner"]),
            "fit_gate",
            {"objective": kc.MinGroupAccuracy("class", 0.3, confidence=0.9)},
        ),
    }  # fmt: skip


def answers(cascade, x):
    """What is kept of a cascade, to be compared later."""
    predicted = cascade.predict(x, verbose=0)
    return {
        **{name: np.asarray(values) for name, values in predicted.items()},
        "threshold": np.float64(cascade.threshold),
    }


def kept(file, answers_by_name):
    """Writes `{name: {key: array}}` into one .npz file."""
    np.savez_compressed(
        FOLDER / file,
        **{
            f"{name}/{key}": values
            for name, keys in answers_by_name.items()
            for key, values in keys.items()
        },
    )


def write_cascades():
    """One .keras file per policy and gate, and their answers."""
    made = teacher()
    expected, points = {}, {}
    x_test = blobs(24, 7)[0]
    for name, (policy, student, gate, fit, how) in cascades().items():
        cascade = kc.Cascade(
            made, student, policy, gate,
            costs=kc.evaluation.Costs(0.1, 1.0, "teacher passes", "given"),
        )  # fmt: skip
        cascade.compile(keras.optimizers.SGD(0.3))
        cascade.fit(*blobs(128, 2), epochs=20, batch_size=16, verbose=0)
        if fit:
            getattr(cascade, fit)(blobs(200, 3))
        points[name] = cascade.calibrate(blobs(240, 4), **how).to_dict()
        cascade.save(FOLDER / f"{name}.keras")
        expected[name] = {"x": x_test, **answers(cascade, x_test)}
    kept("cascades.npz", expected)
    text = json.dumps(points, indent=1)
    (FOLDER / "operating_points.json").write_text(text + "\n")
    return made


def write_texts():
    """A cascade of texts, and its bundle."""
    x, y = texts(120, 2)
    tokenizer = kc.text.train_tokenizer(x, 40, lengths=12)

    def reader(name):
        return kc.text.TextModel(
            kc.models.text_bag(
                tokenizer.vocabulary_size, CLASSES, width=4, buckets=0
            ),
            tokenizer,
            name=name,
        )

    made = reader("teacher")
    made.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    made.fit(x, y, epochs=6, verbose=0)
    cascade = kc.Cascade(made, reader("student"))
    cascade.compile(keras.optimizers.SGD(0.5))
    cascade.fit(x, y, epochs=3, verbose=0)
    cascade.calibrate(texts(90, 3), kc.MaxDelegationRate(0.5, tolerance=0.2))
    cascade.save(FOLDER / "texts.keras")
    bundle = cascade.export(FOLDER / "bundle_texts")
    x_test = texts(12, 5)[0]
    kept(
        "texts.npz",
        {
            "keras": answers(cascade, x_test),
            "bundle": edge_answers(bundle.path, x_test),
            "x": {"x": x_test.astype(str)},
        },
    )


def edge_answers(path, x):
    """What a bundle's student and its local teacher answer."""
    with kc.runtime.EdgeCascade.load(path, teacher="local") as edge:
        answer = edge.predict(x)
    return {
        "probabilities": answer.probabilities,
        "score": answer.score,
        "labels": answer.labels,
        "source": np.asarray(answer.source).astype(str),
    }


def write_numbers():
    """A bundle of an int8 student with two operating points, and its answers.

    Beside it a queue and a log that `EdgeCascade` filled.
    """
    cascade = keras.models.load_model(FOLDER / "standard.keras")
    held_out = blobs(240, 4)
    bundle = cascade.export(
        FOLDER / "bundle_numbers",
        calibration_data=held_out,
        class_names=["a", "b", "c"],
        quantization="int8",
        operating_points={"saver": kc.MaxDelegationRate(0.2, tolerance=0.2)},
    )
    x = blobs(24, 7)[0]
    kept(
        "bundle_numbers.npz",
        {"bundle": {"x": x, **edge_answers(bundle.path, x)}},
    )
    load = kc.runtime.EdgeCascade.load
    with load(
        bundle.path, "http://127.0.0.1:9", on_failure="queue",
        queue=FOLDER / "queue.sqlite", retries=0,
    ) as edge:  # fmt: skip
        edge.predict(x)
    with load(bundle.path, "local", log=FOLDER / "log.sqlite") as edge:
        edge.predict(x)
    log = kc.runtime.TeacherLog(FOLDER / "log.sqlite")
    inputs, logits = log.read()
    log.close()
    (name,) = inputs
    kept("log.npz", {"log": {"x": inputs[name], "logits": logits}})


def write_cache(made):
    """Cached teacher logits, whole and top-k, and what they hold."""
    x, y = blobs(32, 2)
    expected = {}
    for name, top_k in (("cache", None), ("cache_top_k", 2)):
        cache = kc.cache_teacher_logits(
            (x, y), made, FOLDER / name, top_k=top_k
        )
        expected[name] = {"x": x, "logits": cache.logits(x)}
    kept("caches.npz", expected)


if __name__ == "__main__":
    if kc.__version__ != "0.1.0":
        raise SystemExit("Expected keras_cascade 0.1.0.")
    keras.utils.set_random_seed(0)
    trained = write_cascades()
    write_cache(trained)
    write_texts()
    write_numbers()
    shutil.make_archive(str(ARCHIVE.with_suffix("")), "zip", FOLDER)
    shutil.rmtree(FOLDER)

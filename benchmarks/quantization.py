"""4 bits, 8 bits by two tools, and training in Keras 3, on three students.

    python -m benchmarks.quantization --json --data FOLDER [--quick]

`convnet`: Fashion-MNIST, the student of `benchmarks.export`. `attention`:
Fashion-MNIST, two blocks of attention over patches. `text`: Banking77 (the
files are in FOLDER), the bag of words of `benchmarks.text`. Each is distilled
from a teacher that is trained here, calibrated to delegate a tenth, and
exported in every mode with the same calibration split; the files are run over
the test split, each with the threshold that was fitted on its own scores.

By mode, against the float32 file of the same student: `size_over_float32`,
`accuracy_change` (points of cascade accuracy), `student_accuracy_change`,
`flips` (share of the test split that is decided differently), and `drift`: mean
over inputs of half the summed differences of the probabilities. `row_us`:
median of a row alone, one thread. `int8` is the converter's, `int8_quantizer`
that of LiteRT Quantizer from the same calibration inputs; `int4` has the
export's rule, `int4_by_channel` a scale per channel everywhere, convolutions in
4 bits included. `qat` is trained on in Keras 3, `trained_on_int8` is int8 of
the student after as much more training in float.

`int8_rule`: a tool is better where its file is no larger by a twentieth and its
drift smaller by a tenth, on every student.
"""

import contextlib
import io
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_cascade as kc
from benchmarks.banking77 import banking77
from benchmarks.export_students import (
    accuracy_at,
    arrays,
    convnet_student,
    trained_teacher,
)
from benchmarks.harness import options, show
from keras_cascade.export.embedding_lookups import with_embedding_lookups
from keras_cascade.export.export_job import ExportJob
from keras_cascade.export.int4_weights import LEAST, stored_width
from keras_cascade.export.optimization import optimize_student
from keras_cascade.export.quantization import representative_inputs
from keras_cascade.export.tflite_file import read, write
from keras_cascade.export.tflite_student import TFLiteStudent
from keras_cascade.runtime import StudentInterpreter

RATE, BATCH, ROWS = 0.1, 250, 300
#: Training examples of Fashion-MNIST; epochs of teacher, student and qat.
FULL, QUICK = (20_000, 6, 8, 3), (3_000, 1, 1, 1)
TEXT_EPOCHS = 40
MODES = ("float32", "dynamic", "int8", "int8_quantizer", "int4")
LARGEST_INT4, LARGEST_DROP = 0.20, 0.5
SMALLER, NEARER = 1.05, 0.9


class QuantizerStudent(TFLiteStudent):
    """A float32 student's part, quantized by LiteRT Quantizer.

    Args:
        job: `ExportJob`.
        mode: `"int8_quantizer"` or `"int4_by_channel"`.
    """

    tool = "litert-quantizer"

    def __init__(self, job, mode):
        x = job.example_inputs
        super().__init__(job.student.with_gate, x, "float32")
        self.quantization = "int8"
        rows = [
            job.signature.named(row) for row in representative_inputs(job.data)
        ]
        # As one batch: over several it averages the ranges, and cuts off what
        # lies beyond; the converter takes the widest.
        batch = {
            name: np.concatenate([row[name] for row in rows])
            for name in rows[0]
        }
        self._student_part = quantized(self._student_part, mode, [batch])


def quantized(content, mode, rows):
    """TFLite bytes by LiteRT Quantizer; inputs and outputs stay floats."""
    from ai_edge_litert.tools import flatbuffer_utils
    from litert_quantizer import Quantizer, qtyping
    from litert_quantizer.algorithm_manager import AlgorithmName

    file = read(content)
    if mode == "int4_by_channel":
        with_embedding_lookups(file, LEAST, stored_width)
    for graph in file.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            tensor.name = b"%d:%s" % (index, tensor.name)
    kinds = qtyping.TFLOperationName
    with contextlib.redirect_stdout(io.StringIO()):
        quantizer = Quantizer(write(file))
        measured = None
        if mode == "int8_quantizer":
            quantizer.add_static_config(".*", kinds.ALL_SUPPORTED, 8, 8)
            for end in (kinds.INPUT, kinds.OUTPUT):
                quantizer.update_quantization_recipe(
                    ".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE
                )
            measured = quantizer.calibrate({"serving_default": rows})
        else:
            quantizer.add_weight_only_config(".*", kinds.ALL_SUPPORTED, 4)
            for kind in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP"):
                quantizer.add_dynamic_config(".*", kinds(kind), 4)
        result = quantizer.quantize(measured).quantized_model
    return write(flatbuffer_utils.read_model_from_bytearray(bytearray(result)))


def attention_student(width=64, blocks=2):
    """Attention over 16 patches of 7 by 7 pixels: what TFMOT refuses."""
    from keras_hub.layers import PositionEmbedding

    inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(width, 7, strides=7)(inputs)
    x = layers.Reshape((16, width))(x)
    x = x + PositionEmbedding(16)(x)
    for _ in range(blocks):
        normed = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, width // 4)(normed, normed)
        normed = layers.LayerNormalization()(x)
        x = x + layers.Dense(width)(
            layers.Dense(2 * width, activation="gelu")(normed)
        )
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, layers.Dense(10)(x))


def image_splits(examples):
    """Training, calibration and test arrays of Fashion-MNIST."""
    splits = kc.datasets.load("fashion_mnist")
    return (
        arrays(splits.train, examples),
        arrays(splits.calibration, 5_000),
        arrays(splits.test),
    )


def text_splits(folder):
    """The same of Banking77, as token ids; and the number of ids."""
    data = banking77(folder)
    rng = np.random.default_rng(0).permutation(len(data.train_texts))
    texts = np.array(data.train_texts, dtype=object)
    labels = np.asarray(data.train_labels)
    train, held_out = rng[2_000:], rng[:2_000]
    tokenizer = kc.text.train_tokenizer(list(texts[train]), 4_000)

    def ids(some):
        return tokenizer.encode(list(some))["token_ids"].astype("int32")

    return (
        (ids(texts[train]), labels[train]),
        (ids(texts[held_out]), labels[held_out]),
        (ids(data.test_texts), np.asarray(data.test_labels)),
    ), tokenizer.vocabulary_size


def trained_text_teacher(x, y, size, epochs):
    """Several wide bags of words, one after the other in one hidden layer."""
    keras.utils.set_random_seed(0)
    teacher = kc.models.text_bag(
        size, 77, x.shape[1], 256, 30_000, units=256, dropout=0.5
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(1e-3), loss)
    teacher.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return teacher


def distilled(teacher, student, training, epochs, rate, temperature=1.0):
    """`Cascade` whose student learned from the teacher's logits."""
    x, y = training
    cascade = kc.Cascade(
        teacher,
        student,
        kc.distillation.StandardDistillation(
            temperature=temperature, student_loss_weight=0.3
        ),
    )
    train(cascade, x, y, epochs, rate)
    return cascade


def train(cascade, x, y, epochs, rate):
    """Trains a cascade's student, with a rate that falls to zero."""
    steps = epochs * -(-len(x) // 64)
    cascade.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(rate, steps)
        )
    )
    cascade.fit(x, y, batch_size=64, epochs=epochs, verbose=0)


def measured(job, cascade, artifact, file, test, teacher_right, keras_answer):
    """Writes a file with its own threshold and runs it over the test split."""
    start = time.perf_counter()
    job.write_student(artifact, file)
    spent = time.perf_counter() - start
    x, y = test
    student = StudentInterpreter(file, num_threads=1)
    parts = [
        student.run({job_input(job): x[start : start + BATCH]})
        for start in range(0, len(x), BATCH)
    ]
    out = {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }
    right = out["probabilities"].argmax(axis=1) == y
    delegated = out["delegate"].astype(bool)
    gap = np.abs(out["probabilities"] - keras_answer).sum(axis=1)
    student.run({job_input(job): x[:1]})
    times = []
    for row in range(ROWS):
        one = {job_input(job): x[row : row + 1]}
        start = time.perf_counter()
        student.run(one)
        times.append(time.perf_counter() - start)
    return {
        "bytes": file.stat().st_size,
        "delegation_rate": float(delegated.mean()),
        "student_accuracy": float(right.mean()),
        "accuracy": float(np.where(delegated, teacher_right, right).mean()),
        "accuracy_at_the_rate": accuracy_at(
            RATE, out["score"], right, teacher_right
        ),
        "drift": float(gap.mean() / 2),
        "row_us": 1e6 * float(np.median(times)),
        "seconds_to_verify": spent,
    }, delegated


def job_input(job):
    """Name of the one input."""
    (spec,) = job.signature.describe()
    return spec["name"]


def one_student(name, cascade, splits, folder, qat):
    """Every mode of one student.

    Args:
        name: str.
        cascade: trained `Cascade`.
        splits: `(training, calibration, test)`.
        folder: `Path`.
        qat: dict of options for training in Keras 3, or `None`.
    """
    training, calibration, test = splits
    x, y = test
    cascade.calibrate(calibration, kc.MaxDelegationRate(RATE))
    teacher_right = (
        cascade.teacher.predict(x, batch_size=500, verbose=0).argmax(axis=1)
        == y
    )
    modes = (*MODES, "int4_by_channel", *(["qat"] if qat else []))
    results, floats = {}, None
    for mode in modes:
        if mode == "qat":
            labelled = (*training, cascade.teacher.predict(
                training[0], batch_size=500, verbose=0))  # fmt: skip
        job = ExportJob(
            cascade, calibration, quantization=None if mode in (
                "float32", "int8_quantizer", "int4_by_channel", "qat"
            ) else mode,
        )  # fmt: skip
        start = time.perf_counter()
        if mode in ("int8_quantizer", "int4_by_channel"):
            artifact = QuantizerStudent(job, mode)
        elif mode == "qat":
            artifact = optimize_student(
                cascade, "qat", *labelled, job.signature, **qat
            )
        else:
            artifact = job.student_artifact()
        spent = time.perf_counter() - start
        keras_answer = cascade.student.predict(x, batch_size=500, verbose=0)
        keras_answer = np.asarray(keras.ops.softmax(keras_answer))
        one, delegated = measured(
            job, cascade, artifact, folder / "student.tflite", test,
            teacher_right, keras_answer,
        )  # fmt: skip
        floats = floats or (one, delegated)
        results[mode] = {
            **one,
            "size_over_float32": one["bytes"] / floats[0]["bytes"],
            "accuracy_change": 100 * (one["accuracy"] - floats[0]["accuracy"]),
            "student_accuracy_change": 100
            * (one["student_accuracy"] - floats[0]["student_accuracy"]),
            "flips": float((delegated != floats[1]).mean()),
            "seconds": spent,
            "in_8_bits": len(artifact.describe().get("in_8_bits", ())),
            "left_in_float": len(artifact.describe().get("left_in_float", ())),
        }
        print(name, mode, results[mode], file=sys.stderr, flush=True)
    return {
        "parameters": cascade.student.count_params(),
        "teacher_accuracy": float(teacher_right.mean()),
        "modes": results,
    }


def students(chosen, sizes):
    """Yields `(name, cascade, splits, options of qat)`."""
    examples, teacher_epochs, epochs, qat_epochs = sizes
    splits = image_splits(examples)
    teacher = trained_teacher(*splits[0], teacher_epochs)
    keras.utils.set_random_seed(0)
    qat = {"epochs": qat_epochs, "batch_size": 64, "learning_rate": 3e-4}
    for name, make in (
        ("convnet", convnet_student),
        ("attention", attention_student),
    ):
        cascade = distilled(teacher, make(), splits[0], epochs, 2e-3)
        yield name, cascade, splits, qat if name == "attention" else None
    if chosen.data is None:
        return
    texts, size = text_splits(chosen.data)
    text_epochs = 3 if chosen.quick else TEXT_EPOCHS
    teacher = trained_text_teacher(*texts[0], size, -(-text_epochs // 2))
    keras.utils.set_random_seed(0)
    student = kc.models.text_bag(
        size, 77, texts[0][0].shape[1], 64, 8_000, dropout=0.5
    )
    cascade = distilled(teacher, student, texts[0], text_epochs, 5e-3, 2.0)
    yield "text", cascade, texts, None


def main():
    """Measures and prints."""
    chosen = options(__doc__, data=True)
    sizes = QUICK if chosen.quick else FULL
    results, trained = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cascade, splits, qat in students(chosen, sizes):
            results[name] = one_student(
                name, cascade, splits, Path(folder), qat
            )
            if qat:
                # As long as `qat`, in float: is it the bits or the epochs?
                train(cascade, *splits[0], qat["epochs"], qat["learning_rate"])
                trained = one_student(
                    f"{name}, trained on", cascade, splits, Path(folder), None
                )["modes"]
                results[name]["modes"]["trained_on_int8"] = {
                    key: trained["int8"][key]
                    for key in ("accuracy", "student_accuracy", "drift")
                }
    show(
        {
            "students": results,
            "targets": targets(results),
            "int8_rule": int8_rule(results),
            "command": "python -m benchmarks.quantization --json"
            + (" --data FOLDER" if chosen.data else "")
            + (" --quick" if chosen.quick else ""),
        },
        chosen.json,
    )


def targets(results):
    """Sizes and accuracies of int4 that are held against a limit."""
    return [
        {"target": target, "student": name, "found": found, "at_most": limit,
         "met": bool(found <= limit)}
        for name in ("convnet", "text") if name in results
        for target, found, limit in (
            ("size_over_float32",
             results[name]["modes"]["int4"]["size_over_float32"],
             LARGEST_INT4),
            ("accuracy_drop",
             -results[name]["modes"]["int4"]["accuracy_change"],
             LARGEST_DROP),
        )
    ]  # fmt: skip


def int8_rule(results):
    """By student, whether LiteRT Quantizer's int8 is better; and overall."""
    better = {}
    for name, one in results.items():
        ours, other = (
            one["modes"][mode] for mode in ("int8_quantizer", "int8")
        )
        better[name] = (
            ours["bytes"] <= SMALLER * other["bytes"]
            and ours["drift"] <= NEARER * other["drift"]
        )
    return {"better": better, "chosen": "int8_quantizer"
            if all(better.values()) else "int8"}  # fmt: skip


if __name__ == "__main__":
    main()

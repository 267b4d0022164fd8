"""A text cascade on Banking77, from training to the bundle's predictions.

    python -m benchmarks.text --json --data FOLDER [--quick]

The teacher is the one of `benchmarks.text_teacher`; `teacher` states which. The
student, `keras_cascade.models.text_bag`, is distilled from it and exported in
8 bits. The threshold is fitted on a fifth of the training questions, which is
held out. All numbers are measured with the bundle's files on the 3,080 test
questions: `student_accuracy`, `cascade_accuracy`, `delegation_rate` by
`EdgeCascade`, `teacher_accuracy` by the SavedModel.

`teacher_over_student_cost`: processor time of one question by the teacher's
SavedModel over that by the student (tokenizer, LiteRT and gate), batch 1,
medians of interleaved calls. `..._batch_32`: the same per question in batches.

`tokenizer_differences`: number of texts, of Banking77's 13,083, 10,000 random
ones of Unicode's assigned characters and the bundle's probes, for which the
bundle's tokenizer, in a process without TensorFlow, yields other tokens than
the graph that the student was trained in. `converted_differences` is the same
for KerasHub's WordPiece and Keras's `TextVectorization`.

`out_of_distribution`: ten intents are left out of a student's training. By
gate: the chance that an in-distribution question scores above one of those
(`auroc`), and with a threshold that guarantees, from half of them, to delegate
80 % of such questions with confidence 0.95: what it delegates of the other half
and of the in-distribution questions.
"""

import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.model_selection import train_test_split

import keras_cascade as kc
from benchmarks.banking77 import banking77
from benchmarks.harness import options, show
from benchmarks.text.costs import costs
from benchmarks.text.out_of_distribution import out_of_distribution
from benchmarks.text.parity import differences
from benchmarks.text_teacher import text_teacher

TOKENS, BUCKETS, WIDTH = 4_000, 8_000, 64
TEMPERATURE, LABELS = 2.0, 0.3
EPOCHS, QUICK_EPOCHS = 40, 4
RATE = 0.3


def build(data, train, held_out, quick):
    """Trains teacher and student, and fits the threshold.

    Args:
        data: `Banking77`.
        train: rows for training.
        held_out: rows for the threshold.
        quick: bool.

    Returns:
        `(Cascade, TextTeacher)`.
    """
    texts = np.array(data.train_texts, dtype=object)
    x, y = texts[train], data.train_labels[train]
    teacher = text_teacher(list(x), y, len(data.names), scratch=quick)
    tokenizer = kc.text.train_tokenizer(x, TOKENS)
    model = kc.models.text_bag(
        tokenizer.vocabulary_size,
        len(data.names),
        width=WIDTH,
        buckets=BUCKETS,
        dropout=0.5,
    )
    cascade = kc.Cascade(
        teacher.model,
        kc.text.TextModel(model, tokenizer, name="student"),
        distillation=kc.distillation.StandardDistillation(
            temperature=TEMPERATURE, student_loss_weight=LABELS
        ),
    )
    epochs = QUICK_EPOCHS if quick else EPOCHS
    steps = epochs * -(-len(x) // 64)
    cascade.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(5e-3, steps)
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        logits = kc.cache_teacher_logits(
            x, teacher.model, Path(folder, "logits")
        )
        cascade.fit(
            x, y, batch_size=64, epochs=epochs, teacher_logits=logits, verbose=0
        )
    cascade.calibrate(
        (texts[held_out], data.train_labels[held_out]),
        kc.MaxDelegationRate(RATE),
    )
    return cascade, teacher


def measured(bundle, data):
    """Measures the bundle's files on the test questions."""
    y = data.test_labels
    with kc.runtime.EdgeCascade.load(bundle.path, "local", "raise") as edge:
        answer = edge.predict(data.test_texts)
        alone = edge.predict_alone(data.test_texts)
        texts = np.array(data.test_texts, dtype=object)
        teacher = np.concatenate(
            [
                edge.logits({"input": texts[start : start + 64]})
                for start in range(0, len(texts), 64)
            ]
        )
        result = {
            "teacher_accuracy": (teacher.argmax(axis=1) == y).mean(),
            "student_accuracy": (alone.labels == y).mean(),
            "cascade_accuracy": (answer.labels == y).mean(),
            "delegation_rate": answer.delegation_rate,
            "truncated": answer.truncated.mean(),
            **costs(edge, data.test_texts),
        }
    return {name: float(value) for name, value in result.items()}


def main():
    """Runs the benchmark."""
    chosen = options(__doc__, data=True)
    data = banking77(chosen.data)
    keras.utils.set_random_seed(0)
    train, held_out = train_test_split(
        np.arange(len(data.train_texts)),
        test_size=0.2,
        stratify=data.train_labels,
        random_state=0,
    )
    cascade, teacher = build(data, train, held_out, chosen.quick)
    with tempfile.TemporaryDirectory() as folder:
        bundle = cascade.export(
            Path(folder, "bundle"),
            class_names=data.names,
            quantization="int8",
        )
        found = {"teacher": teacher.which, **measured(bundle, data)}
        student = bundle.manifest["student"]
        found["student_bytes_int8"] = student["bytes"]
        found["tokenizer_bytes"] = len(
            Path(bundle.path, student["text"]["file"]).read_bytes()
        )
        found["sequence_lengths"] = student["text"]["lengths"]
        texts = data.train_texts + data.test_texts
        found |= differences(cascade.student, bundle, texts)
    found["out_of_distribution"] = out_of_distribution(
        data, TOKENS, chosen.quick
    )
    show(
        {
            **found,
            "targets": _targets(found),
            "command": "python -m benchmarks.text --json --data FOLDER"
            + (" --quick" if chosen.quick else ""),
        },
        chosen.json,
    )


def _targets(found):
    drop = found["teacher_accuracy"] - found["cascade_accuracy"]
    met = {
        "teacher_accuracy at least 0.90": found["teacher_accuracy"] >= 0.90,
        "teacher_over_student_cost at least 20": found[
            "teacher_over_student_cost"
        ]
        >= 20,
        "student_bytes_int8 under 1,000,000": found["student_bytes_int8"]
        < 1_000_000,
        "cascade at most 0.01 below the teacher": drop <= 0.01,
        "delegation_rate at most 0.40": found["delegation_rate"] <= 0.40,
        "tokenizer_differences 0": found["tokenizer_differences"] == 0,
    }
    return {name: bool(is_met) for name, is_met in met.items()}


if __name__ == "__main__":
    main()

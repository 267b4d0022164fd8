"""A student or teacher as it is exported, with its tokenizer."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_cascade.bundle.bundle import hash_file
from keras_cascade.datasets.batches import rows_of
from keras_cascade.errors import ExportError
from keras_cascade.export.signature import (
    SINGLE_INPUT,
    Signature,
    as_logits,
)
from keras_cascade.export.verification import TOLERANCE
from keras_cascade.gates import StudentWithGate
from keras_cascade.runtime.tokenized import (
    TokenizedStudent,
    TokenizedTeacher,
)
from keras_cascade.text.text_columns import as_strings, is_text
from keras_cascade.text.text_model import TextModel
from keras_cascade.text.text_reader import TextReader

if TYPE_CHECKING:
    from keras_cascade.cascade import Cascade

#: Words of which one is looked for that fits into the shortest length.
MOST_WORDS = 1_000
TOKENIZER_FILES = {
    "student": "tokenizer.json",
    "teacher": "teacher_tokenizer.json",
}


class ExportedModel:
    """A student or teacher as it is converted, and its tokenizer.

    A model of numbers is converted whole. Of a `TextModel` the student is
    converted as a model of token ids, with its tokenizer in a file of its
    own; so is a teacher whose preprocessor no SavedModel can hold.

    Args:
        role: `"student"` or `"teacher"`.
        cascade: prepared `Cascade`.
        example_inputs: a batch of the cascade's inputs.
        input_shape: of `Signature`. Defaults to `None`.

    Attributes:
        role: str.
        model: `keras.Model` that is converted.
        signature: `Signature` of its inputs.
        example: dict of its inputs' names to arrays, a batch.
        reader: `TextReader`, or `None` where it takes the cascade's inputs.

    Raises:
        ExportError: the preprocessor cannot be converted.
    """

    def __init__(
        self,
        role: str,
        cascade: "Cascade",
        example_inputs,
        input_shape=None,
    ):
        self.role = role
        self.model = whole = getattr(cascade, role)
        self.reader = None
        # The device sends the teacher what the student takes.
        self.signature = Signature(
            example_inputs, (cascade.student, cascade.teacher), input_shape
        )
        self._whole = whole
        self._cascade = cascade
        self._cascade_signature = self.signature
        self.example = self.signature.named(example_inputs)
        texts = any(map(is_text, self.signature.named(example_inputs).values()))
        if not (texts and isinstance(whole, TextModel)):
            return
        if role == "teacher" and whole.step.in_graph:
            return
        self.model = whole.model
        tokenizer = whole.step.as_tokenizer()
        token_ids = whole.model_inputs(example_inputs)
        self.signature = Signature(
            token_ids, variable_length=len(tokenizer.lengths) > 1
        )
        self.example = self.signature.named(token_ids)
        feeds = {SINGLE_INPUT: whole.step.feeds[0]}
        if self.signature.is_dict:  # named by their kind
            feeds = {name: name for name in whole.step.feeds}
        fields = whole.fields or tuple(
            self._cascade_signature.named(example_inputs)
        )
        self.reader = TextReader(tokenizer, fields, feeds)

    @property
    def row_shapes(self) -> dict[str, tuple]:
        """Shape of one example of each input; of texts with the most tokens."""
        shapes = {name: array.shape[1:] for name, array in self.example.items()}
        if self.reader is None:
            return shapes
        return dict.fromkeys(shapes, (self.reader.tokenizer.lengths[-1],))

    def inputs(self, x):
        """Inputs of the converted model, from the cascade's inputs."""
        return x if self.reader is None else self._whole.model_inputs(x)

    def rows_alone(self, x) -> Iterator[dict]:
        """Yields each row of a batch as the portable file takes it.

        Texts are padded to the most tokens. Rows of other sizes than the
        file's are left out.

        Args:
            x: a batch of the cascade's inputs.
        """
        named, sizes = self.signature.named(self.inputs(x)), self.row_shapes
        if self.reader is not None:
            named = {
                name: self._padded(name, ids, *sizes[name])
                for name, ids in named.items()
            }
        if {name: array.shape[1:] for name, array in named.items()} != sizes:
            return
        for row in range(rows_of(x)):
            yield {name: array[row : row + 1] for name, array in named.items()}

    @property
    def with_gate(self) -> StudentWithGate:
        """`StudentWithGate` of the converted student."""
        return StudentWithGate(
            self.model, self._cascade.gate, self._cascade.classes
        )

    def as_served(self, runner):
        """Runner of the exported file that takes the cascade's inputs.

        Args:
            runner: object with `run(inputs)` (a student) or `logits(inputs)`
                (a teacher) that executes the file.
        """
        if self.reader is None:
            return runner
        wrapper = (
            TokenizedStudent if self.role == "student" else TokenizedTeacher
        )
        return wrapper(runner, self.reader)

    def write_saved_model(self, folder):
        """Writes a SavedModel from inputs to `logits`.

        A teacher that is itself a cascade becomes one graph.

        Args:
            folder: path to write to, such as `teacher/1`: the version layout
                of TensorFlow Serving.

        Raises:
            ExportError: the model needs what no SavedModel can hold.
        """
        check_in_graph(self.model, "A SavedModel")
        self.signature.write_saved_model(
            folder, self.model, as_logits, [self.model]
        )

    def write_tokenizer(self, folder, batches) -> dict:
        """Writes the tokenizer, compares it with training, and describes it.

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
        texts = truncated = 0
        for x, _, _ in batches:
            texts += rows_of(x)
            truncated += int(self._compared(x).sum())
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
                "truncated": truncated,
                "vectors": self.reader.vectors(),
            },
        }

    def check_lengths(self, x):
        """Raises where an answer depends on the amount of padding.

        A text is padded to the shortest length that holds its batch: alone it
        may get another than among others.

        Args:
            x: a batch of the cascade's inputs.
        """
        lengths = self.reader.tokenizer.lengths if self.reader else []
        if len(lengths) < 2:
            return
        # Two texts: words that fill the shortest length, and one word alone.
        words = " ".join(
            as_strings(self._cascade_signature.named(x)[self.reader.fields[0]])
        ).split()
        counts = [self._count([word]) for word in words[:MOST_WORDS]]
        first = next(
            (at for at, count in enumerate(counts) if count <= lengths[0]), None
        )
        if first is None:
            raise ExportError(
                f"Expected, with several lengths {lengths}, texts of which "
                f"some fit into {lengths[0]} tokens. Received texts whose "
                f"words alone, with what the {self.role}'s tokenizer adds, "
                f"have {min(counts, default=0)} or more. Leave out the length "
                f"{lengths[0]}, or make it longer."
            )
        words = words[first:]
        short = [[words[0]]]
        while self._count(short[-1]) < lengths[0] and len(short) < len(words):
            short.append(words[: len(short) + 1])
        if self._count(short[-1]) > lengths[0]:
            short.pop()
        texts = [" ".join(some) for some in (*short[:1], *short[-1:])]
        columns, _ = self.reader(dict.fromkeys(self.reader.fields, texts))
        columns = {n: a[:, : lengths[0]] for n, a in columns.items()}
        answers = [
            self._logits(
                {n: self._padded(n, a, width) for n, a in columns.items()}
            )
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
        padding = self.reader.tokenizer.pad_id if kind == "token_ids" else 0
        return np.pad(
            ids, [(0, 0), (0, width - ids.shape[1])], constant_values=padding
        )

    def _count(self, words):
        columns = [[" ".join(words)]] * len(self.reader.fields)
        return int(self.reader.tokenizer.counts(*columns)[0])

    def _logits(self, columns):
        inputs = columns
        if not self.signature.is_dict:
            (inputs,) = columns.values()
        return keras.ops.convert_to_numpy(self.model(inputs, training=False))

    def _compared(self, x):
        """Compares tokens with training; returns the truncated texts' flags."""
        named = self._cascade_signature.named(x)
        on_device, truncated = self.reader(named)
        expected = self.signature.named(self._whole.model_inputs(x))
        for name, ids in expected.items():
            received, row = on_device[name], 0
            same_shape = ids.shape == received.shape
            if same_shape and (ids == received).all():
                continue
            if same_shape:
                row = int(np.flatnonzero((ids != received).any(axis=1))[0])
            text = as_strings(named[self.reader.fields[0]])[row]
            raise ExportError(
                f"The {self.role}'s tokenizer would not do on a device what "
                f"{type(self._whole.preprocessor).__name__} does here. "
                f"Expected of {text[:60]!r}: {ids[row][:12].tolist()}. "
                f"Received: {received[row][:12].tolist()} as '{name}'. "
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
    check_not_external(model, what)
    for one in model._flatten_layers():
        if isinstance(one, TextModel) and not one.step.in_graph:
            raise ExportError(
                f"{what} cannot hold the `Tokenizer` of '{one.name}', which "
                "runs outside of TensorFlow. Give that model a "
                "`TextVectorization` or a KerasHub preprocessor, or export "
                "with format='bundle'."
            )


def check_not_external(model, what):
    """Raises where a graph would need a teacher that is no Keras model.

    Args:
        model: `keras.Model` that is to be saved as a graph.
        what: str, for the error.
    """
    for one in model._flatten_layers():
        if getattr(one, "is_external", False):
            name = one.teacher.describe() if one.teacher else "a missing one"
            raise ExportError(
                f"{what} cannot hold a teacher that is no Keras model: {name}. "
                "Export with format='bundle', which says what it holds of it."
            )

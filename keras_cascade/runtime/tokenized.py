"""Student and teacher behind the tokenizers of a bundle of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_cascade.errors import BundleError

if TYPE_CHECKING:
    from keras_cascade.bundle import Bundle
    from keras_cascade.text.text_reader import TextReader


class TokenizedStudent:
    """Tokenizes texts, then runs the student on their token ids.

    Args:
        student: object with `run(inputs)` for token ids.
        reader: `keras_cascade.text.text_reader.TextReader`.
    """

    def __init__(self, student, reader: TextReader):
        self._student = student
        self._reader = reader

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a batch.

        Args:
            inputs: dict of input name to array of texts, batch first.

        Returns:
            The student's outputs, and `truncated`, bool `(rows,)`.
        """
        token_ids, truncated = self._reader(inputs)
        return {**self._student.run(token_ids), "truncated": truncated}

    def close(self) -> None:
        """Releases the student's interpreters."""
        self._student.close()


class TokenizedTeacher:
    """Tokenizes texts, then asks the teacher about their token ids.

    Args:
        teacher: object with `logits(inputs)`, for token ids.
        reader: `keras_cascade.text.text_reader.TextReader`.
    """

    def __init__(self, teacher, reader: TextReader):
        self.teacher = teacher
        self.reader = reader

    @property
    def row_counter(self):
        """The teacher's `RowCounter`, where it is a `RemoteTeacher`."""
        return self.teacher.row_counter

    @row_counter.setter
    def row_counter(self, row_counter):
        self.teacher.row_counter = row_counter

    def check(self) -> None:
        """Raises a `TeacherError` unless the teacher is ready to answer."""
        self.teacher.check()

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Computes the logits of a batch.

        Args:
            inputs: dict of input name to array of texts, batch first.

        Returns:
            float32 array `(rows, classes)`.
        """
        return self.teacher.logits(self.reader(inputs)[0])

    def close(self) -> None:
        """Closes the teacher's connections."""
        self.teacher.close()


def student_with_tokenizer(student, bundle: Bundle, fixed: bool = False):
    """Puts a student behind its tokenizer, where the bundle has one for it.

    Args:
        student: object with `run(inputs)`, as the bundle's student is; with
            `row_shapes()` too where it is `fixed`.
        bundle: `keras_cascade.bundle.Bundle`.
        fixed: bool. Every text is padded to the one length that the student
            takes. Defaults to `False`.

    Returns:
        `TokenizedStudent`, or `student` as it is.

    Raises:
        BundleError: a `fixed` student is shorter than the longest texts.
    """
    if "text" not in bundle.manifest["student"]:
        return student
    reader = _reader(bundle, "student")
    if fixed:
        (length,) = {shape[0] for shape in student.row_shapes().values()}
        if length != reader.tokenizer.lengths[-1]:
            raise BundleError(
                f"The student of '{bundle.path}' takes {length} tokens in "
                f"this runtime, and its texts have up to "
                f"{reader.tokenizer.lengths[-1]}. Export the bundle again."
            )
        reader.tokenizer = reader.tokenizer.with_lengths(length)
    return TokenizedStudent(student, reader)


def teacher_with_tokenizer(teacher, bundle: Bundle):
    """Puts a teacher behind its tokenizer, where the bundle has one for it.

    Args:
        teacher: object with `logits(inputs)`, as the bundle's teacher is.
        bundle: `keras_cascade.bundle.Bundle`.

    Returns:
        `TokenizedTeacher`, or `teacher` as it is.
    """
    if "text" not in (bundle.manifest.get("teacher") or {}):
        return teacher
    return TokenizedTeacher(teacher, _reader(bundle, "teacher"))


def without_tokenizer(teacher):
    """Returns the teacher inside a `TokenizedTeacher`, or any other as is."""
    return teacher.teacher if isinstance(teacher, TokenizedTeacher) else teacher


def _reader(bundle, part):
    # Not before: a bundle of images or numbers needs no tokenizer.
    from keras_cascade.text.text_reader import TextReader

    return TextReader.load(bundle, part)

"""The student of a bundle, whatever it takes."""

from keras_cascade.runtime.student_interpreter import StudentInterpreter


class TextStudent:
    """Tokenizes, then runs the student.

    Args:
        student: object with `run(inputs)` for token ids.
        reader: `keras_cascade.text.text_reader.TextReader`.
    """

    def __init__(self, student, reader):
        self._student = student
        self._reader = reader

    def run(self, inputs):
        """Runs a batch.

        Args:
            inputs: dict of input name to array of texts, batch first.

        Returns:
            What the student returns, and `truncated`, bool `(rows,)`.
        """
        fed, truncated = self._reader(inputs)
        return {**self._student.run(fed), "truncated": truncated}

    def close(self):
        """Lets go of the student's interpreters."""
        self._student.close()


def open_student(bundle, num_threads=1):
    """Runs a bundle's TFLite file, behind its tokenizer where it has one.

    Args:
        bundle: `keras_cascade.bundle.Bundle`.
        num_threads: int, threads inside one interpreter. Defaults to `1`.

    Returns:
        Object with `run(inputs)`, for inputs as the manifest has them.

    Raises:
        BundleError: the file or the tokenizer does not fit the manifest.
    """
    student = StudentInterpreter(bundle.student_file, num_threads)
    student.check(bundle.student_inputs, len(bundle.classes))
    return as_text_student(student, bundle)


def as_text_student(student, bundle):
    """A student behind its tokenizer, where the bundle has one for it.

    Args:
        student: object with `run(inputs)`, as the bundle's student is.
        bundle: `keras_cascade.bundle.Bundle`.
    """
    if "text" not in bundle.manifest["student"]:
        return student
    # Not before: a student of pictures needs no tokenizer.
    from keras_cascade.text.text_reader import TextReader

    return TextStudent(student, TextReader.load(bundle, "student"))

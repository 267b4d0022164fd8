"""A teacher that takes token ids, asked with texts."""


class TextTeacher:
    """Tokenizes what a teacher is asked.

    Args:
        teacher: object with `logits(inputs)`, for token ids.
        reader: `keras_cascade.text.text_reader.TextReader`.
    """

    def __init__(self, teacher, reader):
        self.teacher = teacher
        self.reader = reader

    @property
    def seen_rows(self):
        """As `RemoteTeacher.seen_rows`, where the teacher is such a one."""
        return self.teacher.seen_rows

    @seen_rows.setter
    def seen_rows(self, counted):
        self.teacher.seen_rows = counted

    def check(self):
        """Raises a `TeacherError` unless the teacher is ready to answer."""
        self.teacher.check()

    def logits(self, inputs):
        """Logits of a batch.

        Args:
            inputs: dict of input name to array of texts, batch first.

        Returns:
            float32 array `(rows, classes)`.
        """
        return self.teacher.logits(self.reader(inputs)[0])

    def close(self):
        """Closes the teacher's connections."""
        self.teacher.close()


def behind_tokenizer(teacher):
    """The teacher itself, of a `TextTeacher` or of any other."""
    return teacher.teacher if isinstance(teacher, TextTeacher) else teacher


def as_text_teacher(teacher, bundle):
    """A teacher behind its tokenizer, where the bundle has one for it.

    Args:
        teacher: object with `logits(inputs)`, as the bundle's teacher is.
        bundle: `keras_cascade.bundle.Bundle`.
    """
    if "text" not in (bundle.manifest.get("teacher") or {}):
        return teacher
    from keras_cascade.text.text_reader import TextReader

    return TextTeacher(teacher, TextReader.load(bundle, "teacher"))

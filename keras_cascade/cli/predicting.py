"""What predict does: no TensorFlow unless a local teacher is asked."""

from pathlib import Path

import numpy as np

from keras_cascade.bundle import Bundle
from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.runtime import (
    EdgeCascade,
    RemoteTeacher,
    TeacherError,
)
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.runtime.tokenized import without_tokenizer

LOCAL = "local"


def predict_input(
    bundle,
    file,
    texts,
    teacher,
    on_failure,
    operating_point=None,
    token_file=None,
    ca_file=None,
):
    """Answers an image, a .npy file or texts with a bundle.

    Returns:
        `EdgePrediction`.
    """
    if (file is None) == (not texts):
        raise ValueError(
            "Expected either --input FILE or --text TEXT. Received: "
            f"{'neither' if file is None else 'both'}."
        )
    options = {} if ca_file is None else {"ca_file": ca_file}
    if token_file is not None:
        options["token"] = _read_token(token_file)
    with _loaded(
        bundle, teacher, on_failure, operating_point, options
    ) as edge:  # fmt: skip
        x = texts or read_input(Path(file), edge.bundle.inputs)
        asked = without_tokenizer(edge.teacher)
        if isinstance(asked, RemoteTeacher) and on_failure == "raise":
            asked.check()
        return edge.predict(x)


def _loaded(path, teacher, on_failure, operating_point, options):
    if teacher == LOCAL and not options:
        bundle = Bundle.load(path)
        return EdgeCascade(
            bundle,
            _LocalTeacher(bundle),
            on_failure,
            operating_point=operating_point,
        )
    return EdgeCascade.load(
        path, teacher, on_failure, operating_point=operating_point, **options
    )


def _read_token(file):
    """The first line of a file, which a server's `--token-file` may share."""
    try:
        lines = Path(file).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"Expected --token-file to be a readable text file. Received: "
            f"'{file}' ({type(error).__name__})."
        ) from None
    if not lines:
        raise ValueError(f"Expected a token in '{file}'. It is empty.")
    return lines[0]


class _LocalTeacher:
    """A bundle's own teacher, loaded once a row is delegated.

    TensorFlow takes seconds to load, and most rows are kept.
    """

    def __init__(self, bundle):
        if bundle.teacher_folder is None:
            raise TeacherError(f"The bundle '{bundle.path}' holds no teacher.")
        self._bundle = bundle

    def logits(self, inputs):
        return open_teacher(LOCAL, self._bundle).logits(inputs)


def read_input(file, specs):
    """Reads a .npy file as it is, or an image the way the models take it."""
    if not file.is_file():
        raise ValueError(f"Expected an input file. There is none at '{file}'.")
    if file.suffix.lower() == ".npy":
        return read_numpy(file, archive=False)
    if any(spec.get("dtype") == "string" for spec in specs):
        raise ValueError(
            "This bundle takes texts. Expected --text TEXT, or --input with a "
            f".npy file of them. Received: '{file}'."
        )
    shape, seen = specs[0]["shape"], specs[0]["range"] or [0, 1]
    images = len(specs) == 1 and len(shape) == 4 and None not in shape[1:]
    if not images or seen[0] < 0 or not (seen[1] <= 1 or 2 < seen[1] <= 255):
        raise ValueError(
            "Images are given to models that take values from 0 to 1, or "
            f"from 0 to 255, of a fixed size. This bundle takes {shape} in "
            f"the range {seen}. Prepare the input yourself and pass a .npy "
            "file."
        )
    from PIL import Image, UnidentifiedImageError

    _, height, width, channels = shape
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I"):  # 16 bits: `convert` would clip
                image = image.point(lambda value: value / 257).convert("L")
            image = image.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(image.resize((width, height)), "float32")
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(
            f"Expected a readable image or a .npy file. Received: '{file}' "
            f"({type(error).__name__})."
        ) from None
    scale = 1.0 if seen[1] > 1 else 255.0
    return pixels.reshape(1, height, width, channels) / scale

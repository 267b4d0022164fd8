"""Prediction with a bundle, without TensorFlow unless its teacher runs."""

from pathlib import Path

from keras_cascade.bundle import Bundle
from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.runtime import (
    EdgeCascade,
    RemoteTeacher,
    TeacherError,
)
from keras_cascade.runtime.teachers.teacher_at import open_teacher
from keras_cascade.runtime.tokenized import without_tokenizer
from keras_cascade.utils.image_format import ImageFormat

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
    """Predicts an image, a .npy file or texts with a bundle.

    Args:
        bundle: path of the bundle.
        file: path of an image or a .npy file, or `None`.
        texts: list of str, or `None`.
        teacher: str, `"local"`, a path or a URL, or `None`.
        on_failure: str: `"answer"`, `"abstain"` or `"raise"`.
        operating_point: str, its name. Defaults to `None`: the first.
        token_file: path of a token for the URL. Defaults to `None`.
        ca_file: path of trusted certificates. Defaults to `None`.

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
    with _load_edge(
        bundle, teacher, on_failure, operating_point, options
    ) as edge:  # fmt: skip
        x = texts or read_input(Path(file), edge.bundle.inputs)
        remote = without_tokenizer(edge.teacher)
        if isinstance(remote, RemoteTeacher) and on_failure == "raise":
            # An error even if the student alone answers this input.
            remote.check()
        return edge.predict(x)


def _load_edge(path, teacher, on_failure, operating_point, options):
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
    """Returns the first token of a file in the server's format."""
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
    """A bundle's own teacher, loaded on first use.

    TensorFlow takes seconds to load, and the student answers most rows.
    """

    def __init__(self, bundle):
        if bundle.teacher_folder is None:
            raise TeacherError(bundle.lacks_teacher())
        self._bundle = bundle

    def logits(self, inputs):
        return open_teacher(LOCAL, self._bundle).logits(inputs)


def read_input(file, specs):
    """Reads a .npy file unchanged, or an image as in the training.

    Args:
        file: `pathlib.Path`.
        specs: list of the bundle's inputs, as in the manifest.

    Returns:
        Array, batch first.
    """
    if not file.is_file():
        raise ValueError(f"Expected an input file. There is none at '{file}'.")
    if file.suffix.lower() == ".npy":
        return read_numpy(file, archive=False)
    if any(spec.get("dtype") == "string" for spec in specs):
        raise ValueError(
            "This bundle takes texts. Expected --text TEXT, or --input with a "
            f".npy file of them. Received: '{file}'."
        )
    return ImageFormat.from_specs(specs).read(file)[None]

"""What predict does: no TensorFlow unless the teacher is local."""

from pathlib import Path

import numpy as np

from keras_cascade.datasets.numpy_files import read_numpy
from keras_cascade.runtime import EdgeCascade, RestTeacher


def predict_file(bundle, file, teacher, on_failure):
    """Answers an image or a .npy file with a bundle.

    Returns:
        `EdgePrediction`.
    """
    with EdgeCascade.load(bundle, teacher, on_failure) as edge:
        x = read_input(Path(file), edge.bundle.inputs)
        if isinstance(edge.teacher, RestTeacher) and on_failure == "raise":
            edge.teacher.check()
        return edge.predict(x)


def read_input(file, specs):
    """Reads a .npy file as it is, or an image the way the models take it."""
    if not file.is_file():
        raise ValueError(f"Expected an input file. There is none at '{file}'.")
    if file.suffix.lower() == ".npy":
        return read_numpy(file, archive=False)
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

"""What predict does: no TensorFlow unless the teacher is local."""

from pathlib import Path

import numpy as np

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
    if file.suffix == ".npy":
        return np.load(file, allow_pickle=False)
    if len(specs) != 1 or len(specs[0]["shape"]) != 4:
        raise ValueError(
            f"Expected a .npy file for inputs of shape {specs[0]['shape']}. "
            f"Received: '{file}'."
        )
    from PIL import Image, UnidentifiedImageError

    _, height, width, channels = specs[0]["shape"]
    try:
        with Image.open(file) as image:
            image = image.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(image.resize((width, height)), "float32")
    except UnidentifiedImageError:
        raise ValueError(
            f"Expected an image or a .npy file. Received: '{file}'."
        ) from None
    return pixels.reshape(1, height, width, channels) / 255.0

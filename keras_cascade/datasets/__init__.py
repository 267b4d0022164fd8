"""Data specs: short strings that name a data set and its splits."""

from keras_cascade.datasets.splits import Splits


def load(spec: str, seed: int = 0) -> Splits:
    """Loads a data spec, split into train, calibration and test.

    Args:
        spec: str, one of `digits`, `fashion_mnist`, `tfds:NAME`,
            `dir:PATH` (one folder per class), `npz:PATH`, `csv:PATH` (columns
            text,label).
        seed: int. The same seed gives the same splits. Defaults to `0`.

    Returns:
        `Splits`. Images are float32 in [0, 1], of shape
        `(height, width, channels)`.

    Raises:
        ValueError: the spec is not known or its data cannot be read.

    Example:

    >>> import keras_cascade as kc
    >>> kc.datasets.load("digits").sizes
    {'train': 899, 'calibration': 449, 'test': 449}
    """
    from keras_cascade.datasets import sources

    plain = {"digits": sources.digits, "fashion_mnist": sources.fashion_mnist}
    with_value = {
        "tfds": sources.tensorflow_dataset,
        "dir": sources.image_folder,
        "npz": sources.npz,
        "csv": sources.text_csv,
    }
    scheme, _, value = str(spec).partition(":")
    if scheme in plain and not value:
        return plain[scheme](seed)
    if scheme in with_value and value:
        return with_value[scheme](value, seed)
    raise ValueError(
        "Not a known data spec. Expected: 'digits', 'fashion_mnist', "
        "'tfds:NAME', 'dir:PATH', 'npz:PATH' or 'csv:PATH'. Received: "
        f"'{spec}'."
    )


__all__ = ["Splits", "load"]


def __dir__():
    return list(__all__)

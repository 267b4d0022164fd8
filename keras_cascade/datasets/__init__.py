"""Data specs: short strings that name a data set and its splits."""

from keras_cascade.datasets.splits import Splits


def load(
    spec: str,
    seed: int = 0,
    *,
    scale: str = "0-1",
    image_size: tuple[int, int] | None = None,
    color: str | None = None,
    text_column: str = "text",
    label_column: str = "label",
    skip_damaged: bool = False,
) -> Splits:
    """Loads a data spec, split into train, calibration and test.

    Examples of equal content stay in one split.

    Args:
        spec: str, one of `digits`, `fashion_mnist`, `tfds:NAME`,
            `dir:PATH` (one folder per class), `npz:PATH`, `csv:PATH` (a text
            and a label per row), `parquet:PATH` (the same, or images).
        seed: int. The same seed gives the same splits. Defaults to `0`.
        scale: str, the values of images that are stored as bytes: `"0-1"`,
            `"0-255"` or `"-1-1"` as float32, or `"none"`, bytes as they are.
            Must be what the models take. Defaults to `"0-1"`.
        image_size: tuple `(height, width)` that images in files are resized
            to. Defaults to `None`: their own where all have the same, of at
            most 256 x 256, and otherwise 96 x 96.
        color: str, `"rgb"` or `"grayscale"`. Defaults to `None`: grayscale
            where all images are.
        text_column: str, of a table. Defaults to `"text"`.
        label_column: str, of a table. Defaults to `"label"`.
        skip_damaged: bool. Leaves out files and rows that cannot be read,
            with a warning. Defaults to `False`: they are an error.

    Returns:
        `Splits`. Images have the shape `(height, width, channels)`.

    Raises:
        ValueError: the spec is not known or its data cannot be read.

    Example:

    >>> import keras_cascade as kc
    >>> kc.datasets.load("digits").sizes
    {'train': 899, 'calibration': 449, 'test': 449}
    """
    from keras_cascade.datasets import sources
    from keras_cascade.datasets.reading_options import ReadingOptions

    options = ReadingOptions(
        scale, image_size, color, text_column, label_column, skip_damaged
    )
    plain = {"digits": sources.digits, "fashion_mnist": sources.fashion_mnist}
    with_value = {
        "tfds": sources.tensorflow_dataset,
        "dir": sources.image_folder,
        "npz": sources.npz,
        "csv": sources.text_csv,
        "parquet": sources.parquet,
    }
    scheme, _, value = str(spec).partition(":")
    if scheme in plain and not value:
        return plain[scheme](seed, options)
    if scheme in with_value and value:
        return with_value[scheme](value, seed, options)
    raise ValueError(
        "Not a known data spec. Expected: 'digits', 'fashion_mnist', "
        "'tfds:NAME', 'dir:PATH', 'npz:PATH', 'csv:PATH' or 'parquet:PATH'. "
        f"Received: '{spec}'."
    )


__all__ = ["Splits", "load"]


def __dir__():
    return list(__all__)

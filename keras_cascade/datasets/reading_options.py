"""Options of how the files of a data spec are read."""

import dataclasses

from keras_cascade.utils.image_format import ImageFormat, check_scale

#: Height and width of images where neither a model nor an option says more.
DEFAULT_SIZE = (96, 96)
#: Images of one size, at most this large, keep it.
LARGEST_OWN_SIZE = 256
COLORS = {"grayscale": 1, "rgb": 3}


@dataclasses.dataclass(frozen=True)
class ReadingOptions:
    """Options of reading the files of a data spec.

    Args:
        scale: str, values of images: `"0-1"`, `"0-255"`, `"-1-1"` or
            `"none"` (bytes). Defaults to `"0-1"`.
        image_size: tuple `(height, width)` that images are resized to, or
            `None` for the images' own where they all have the same, of at
            most 256 x 256, and 96 x 96 otherwise. Defaults to `None`.
        color: str, `"rgb"` or `"grayscale"`, or `None` for grayscale where
            all images are. Defaults to `None`.
        text_column: str, the column of texts in a table. Defaults to
            `"text"`.
        label_column: str, the column of labels in a table. Defaults to
            `"label"`.
        skip_damaged: bool. Leaves out files and rows that cannot be read,
            and warns of them, where they are refused otherwise. Defaults to
            `False`.

    Example:

    >>> from keras_cascade.datasets.reading_options import ReadingOptions
    >>> ReadingOptions(color="rgb").channels
    3
    """

    scale: str = "0-1"
    image_size: tuple[int, int] | None = None
    color: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    skip_damaged: bool = False

    def __post_init__(self):
        check_scale(self.scale)
        if self.color is not None and self.color not in COLORS:
            raise ValueError(
                f"Expected `color=` out of {list(COLORS)}. Received: "
                f"{self.color!r}."
            )
        size = self.image_size
        if size is not None and not (
            len(size) == 2 and all(int(n) == n and n > 0 for n in size)
        ):
            raise ValueError(
                "Expected `image_size=(height, width)`. Received: "
                f"{self.image_size!r}."
            )

    @property
    def channels(self) -> int | None:
        """Channels of `color`, or `None`."""
        return None if self.color is None else COLORS[self.color]

    def image_format(self, sizes, all_gray) -> ImageFormat:
        """Returns the format that images are read in.

        Args:
            sizes: set of the images' own `(height, width)`; not needed with
                an `image_size`.
            all_gray: bool, whether every image is grayscale; not needed with
                a `color`.
        """
        size = self.image_size
        if size is None and len(sizes) == 1:
            (own,) = sizes
            size = own if max(own) <= LARGEST_OWN_SIZE else None
        height, width = size or DEFAULT_SIZE
        channels = self.channels or (1 if all_gray else 3)
        return ImageFormat(int(height), int(width), channels, self.scale)

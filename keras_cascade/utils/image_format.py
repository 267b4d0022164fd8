"""Format of the images that a model takes, and the reader of image files."""

from __future__ import annotations

import dataclasses
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: Scale to the values that a pixel of 0 and one of 255 get. `"none"` leaves
#: pixels as bytes, for models with an input of integers.
SCALES = {
    "0-1": (0.0, 1.0),
    "0-255": (0.0, 255.0),
    "-1-1": (-1.0, 1.0),
    "none": (0.0, 255.0),
}
#: Endings of the files that are taken for images in a folder.
IMAGE_ENDINGS = frozenset(
    (
        ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif",
        ".tiff", ".webp",
    )
)  # fmt: skip
#: Endings of photos in formats that are not read: they are named, not left
#: out without a word.
UNREAD_ENDINGS = frozenset(
    (
        ".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".hif",
        ".jp2", ".jxl", ".nef", ".orf", ".raf", ".rw2",
    )
)  # fmt: skip
#: What is behind the transparent parts of an image.
BACKGROUND = "white"
_FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """Size, colours and value range of the images that a model takes.

    Training and prediction read image files with this one class. A file is
    turned as its EXIF orientation says, reduced to 8 bits per channel, put on
    a white background where it is transparent, converted to the channels, and
    resized to height and width (whatever its own proportions) by Pillow's
    bilinear filter, which averages over all pixels when it makes an image
    smaller. Of an animation the first frame is read.

    Args:
        height: int, or `None` for the image's own.
        width: int, or `None` for the image's own.
        channels: int: 1 (grayscale), 3 (RGB) or 4 (RGB and alpha). Defaults
            to `3`.
        scale: str, the values of the pixels: `"0-1"`, `"0-255"` or `"-1-1"`
            as float32, or `"none"`, bytes as they are. Defaults to `"0-1"`.

    Example:

    >>> import numpy as np
    >>> from keras_cascade.utils.image_format import ImageFormat
    >>> images = ImageFormat(28, 28, channels=1, scale="-1-1")
    >>> images.scaled(np.array([0, 255], "uint8")).tolist()
    [-1.0, 1.0]
    """

    height: int | None
    width: int | None
    channels: int = 3
    scale: str = "0-1"

    def __post_init__(self):
        check_scale(self.scale)
        if self.channels not in _MODES:
            raise ValueError(
                "Expected images of 1, 3 or 4 channels. Received: "
                f"{self.channels}. Prepare the input yourself and pass a "
                ".npy file."
            )

    @classmethod
    def from_specs(cls, specs: list[dict]) -> ImageFormat:
        """Creates the format of a bundle's input.

        Args:
            specs: list of the bundle's inputs, as in the manifest.

        Raises:
            ValueError: the bundle does not take images.
        """
        spec = specs[0]
        shape, scale = spec["shape"], scale_of(spec)
        channels = shape[3] if len(shape) == 4 else None
        channels = 3 if channels is None else channels
        if len(specs) > 1 or len(shape) != 4 or scale is None:
            raise ValueError(
                "Images are given to models that take values from 0 to 1, "
                "from -1 to 1, or from 0 to 255. This bundle takes "
                f"{[one['shape'] for one in specs]} in the range "
                f"{spec.get('range')}. Prepare the input yourself and pass a "
                ".npy file."
            )
        return cls(shape[1], shape[2], channels, scale)

    def read(self, file: str | Path | bytes) -> np.ndarray:
        """Reads one image file.

        Args:
            file: path, or the file's content as bytes.

        Returns:
            Array `(height, width, channels)`, scaled.

        Raises:
            ValueError: the file is no whole image.
        """
        return self.scaled(self.pixels(file))

    def pixels(self, file: str | Path | bytes) -> np.ndarray:
        """Reads one image file without scaling its values.

        Args:
            file: path, or the file's content as bytes.

        Returns:
            uint8 array `(height, width, channels)`.

        Raises:
            ValueError: the file is no whole image.
        """
        with opened_image(file) as image:
            return self.from_image(image)

    def from_image(self, image: Image.Image) -> np.ndarray:
        """Converts an opened image.

        Args:
            image: `PIL.Image.Image`.

        Returns:
            uint8 array `(height, width, channels)`.
        """
        from PIL import Image, ImageOps

        if self.height is not None and self.width is not None:
            # JPEG at a half, a quarter or an eighth of its size, where twice
            # the model's is left to average over: a large photo would take
            # half a gigabyte.
            side = 2 * max(self.height, self.width)
            image.draft(None, (side, side))
        image = ImageOps.exif_transpose(image)
        image = _coloured(_eight_bits(image), self.channels)
        size = (self.width or image.width, self.height or image.height)
        if image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(image, "uint8").reshape(
            image.height, image.width, self.channels
        )

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Converts bytes to the values that the model takes.

        Args:
            pixels: uint8 array of any shape.
        """
        return scaled(pixels, self.scale)


def scaled(pixels: np.ndarray, scale: str) -> np.ndarray:
    """Converts bytes to the values of a scale.

    Args:
        pixels: uint8 array of any shape.
        scale: str, a key of `SCALES`.
    """
    if scale == "none":
        return pixels
    values = pixels.astype("float32")
    if scale == "0-1":
        values /= np.float32(255)
    elif scale == "-1-1":
        values /= np.float32(127.5)
        values -= np.float32(1)
    return values


def check_scale(scale: Any) -> None:
    """Raises a `ValueError` unless `scale` is one of `SCALES`."""
    if scale not in SCALES:
        raise ValueError(
            f"Expected `scale=` out of {list(SCALES)}. Received: {scale!r}."
        )


def scale_of(spec: dict) -> str | None:
    """Returns the scale of a bundle's input, or `None` for another range.

    Args:
        spec: dict of a bundle's input, as in the manifest. Its `scale` is
            what the bundle was exported with. Without one, integers are
            bytes, and the scale of floats is the narrowest one that holds the
            values of the calibration data.
    """
    if spec.get("scale") is not None:
        return spec["scale"]
    kind = np.dtype(spec.get("dtype", "float32")).kind
    if kind in "iu":
        return "none"
    return scale_of_range(spec.get("range") or (0.0, 1.0))


def scale_of_range(value_range: tuple[float, float] | list) -> str | None:
    """Returns the narrowest scale that holds a range; `None` if none does."""
    low, high = value_range
    if low >= 0 and high <= 1:
        return "0-1"
    if low >= -1 and high <= 1:
        return "-1-1"
    return "0-255" if low >= 0 and 2 < high <= 255 else None


def opened_image(file: str | Path | bytes) -> _OpenedImage:
    """Opens an image file; reads no more than its head.

    Args:
        file: path, or the file's content as bytes.

    Returns:
        Context manager of a `PIL.Image.Image`. An error in the block that
        comes from the file becomes a `ValueError` that names it.
    """
    return _OpenedImage(file)


class _OpenedImage:
    """Context manager of an image whose errors name the file."""

    def __init__(self, file):
        self._file = file
        self._image = None

    def __enter__(self):
        from PIL import Image

        raw = isinstance(self._file, bytes)
        try:
            self._image = Image.open(
                io.BytesIO(self._file) if raw else self._file,
                formats=_formats(),
            )
            if self._image.format == "TIFF" and self._is_raw():
                self._image.close()
                raise ValueError("raw data of a camera")
        except Exception as error:
            raise self._error(error) from error
        return self._image

    def __exit__(self, kind, error, trace):
        self._image.close()
        # Decoders raise whatever a damaged file makes them stumble over.
        if isinstance(error, Exception):
            raise self._error(error) from error

    def _is_raw(self):
        # Raw files are TIFF as well, with a small preview as their picture.
        if isinstance(self._file, bytes):
            return False
        return Path(self._file).suffix.lower() in UNREAD_ENDINGS

    def _error(self, error):
        name = f"'{self._file}'"
        if isinstance(self._file, bytes):
            name = f"{len(self._file)} bytes"
        reason = " ".join(str(error).split())[:120]
        reason = f"{type(error).__name__}: {reason}"
        advice = "Replace or remove it."
        if type(error).__name__ == "UnidentifiedImageError":  # names the file
            reason = "it is of none of these formats"
            advice = "Convert it, such as to JPEG, or remove it."
        return ValueError(
            f"Expected {name} to be a whole BMP, GIF, JPEG, PNG, TIFF or WebP "
            f"image. It cannot be read ({reason}). {advice}"
        )


@functools.cache
def _formats():
    """Names of the formats that are read and that this Pillow knows."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _eight_bits(image):
    """The image with 8 bits per channel; `convert` would clip 16."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floats, whose range is not known")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype("float64")
    if values.min() < 0 or values.max() > 65_535:
        raise ValueError("32 bits per channel, whose range is not known")
    return Image.fromarray(np.rint(values / 257).astype("uint8"))


def _coloured(image, channels):
    """The image in the mode of so many channels."""
    from PIL import Image

    mode = _MODES[channels]
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, BACKGROUND)
        image = Image.alpha_composite(behind, image)
    return image if image.mode == mode else image.convert(mode)
